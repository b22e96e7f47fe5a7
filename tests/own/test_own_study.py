"""What a newcomer brings: a network, labels, banks and a folder of their own, with no file of the package touched."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from rich.console import Console

from mmtune.base.errors import InputError
from mmtune.data.building.arrays import from_arrays
from mmtune.data.storage.store import load, save
from mmtune.study import load_study
from mmtune.study.options import Options
from mmtune.tracking import MlflowTracker
from mmtune.tune.run import run_study

NAMES = ("cat", "cow", "dog", "emu", "hen", "ox", "كلب")
ROWS = 210
STUDY = '''"""A network of my own, on pictures, sounds and three numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from mmtune.study import Study
from mmtune.study.space import Categorical, Real
from mmtune.train.recipe import Train, TrialConfig


class Net(nn.Module):
    def __init__(self, width, shapes):
        super().__init__()
        sizes = [math.prod(shapes[bank]) for bank in ("image", "audio", "body")]
        self.layers = nn.ModuleList(nn.Linear(size, width) for size in sizes)
        self.out = nn.Linear(3 * width, shapes.classes)

    def forward(self, image, audio, body):
        given = zip(self.layers, (image, audio, body))
        return self.out(torch.cat([layer(bank.flatten(1)).relu() for layer, bank in given], 1))


@dataclass(frozen=True, kw_only=True)
class Animals:
    width: int = 8
    reads: tuple[str, ...] = ("image", "audio", "body")

    def build(self, shapes):
        return Net(self.width, shapes)


STUDY = Study(
    name="animals",
    base=TrialConfig(model=Animals(), train=Train(epochs=3, learning_rate=0.01)),
    space=(
        Categorical(path="model.width", values=(4, 8, 16)),
        Real(path="train.learning_rate", low=1e-3, high=1e-1, log=True),
    ),
    trials=3,
)
'''
PARTS = '''"""{doc}"""

from mmtune.networks.config import MLP, LateFusion, SmallCNN
from mmtune.study import Study
from mmtune.study.space import Categorical
from mmtune.train.recipe import Train, TrialConfig

STUDY = Study(
    name="{name}",
    base=TrialConfig(model=LateFusion(encoders={encoders}), train=Train(epochs=3, learning_rate=0.01)),
    space=(Categorical(path="model.encoders.{bank}.width", values=(8, 16)),),
    grid={{"model.encoders.{bank}.width": (8, 16)}},
)
'''


def mmtune(here: Path, *words: str, status: int = 0) -> str:
    """What a command prints, run in a folder of the user's own."""
    command = [sys.executable, "-m", "mmtune.cli", *words]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def write_table(here: Path, seed: int = 0) -> None:
    """Pictures, recordings and numbers of seven animals, a row each; some lack their sound, and two are the same."""
    rng = np.random.default_rng(seed)
    (here / "files").mkdir(parents=True)
    with (here / "samples.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["image", "audio", "age", "height", "weight", "label", "farm"])
        for row in range(ROWS):
            kind = row % len(NAMES)
            pixels = rng.integers(0, 90, (28, 28), dtype=np.uint8)
            pixels[4 * kind : 4 * kind + 3] = 250
            Image.fromarray(pixels).save(here / f"files/{row}.png")
            tone = 0.3 * np.sin(2 * np.pi * (300 + 250 * kind) * np.arange(8000) / 8000)
            soundfile.write(here / f"files/{row}.wav", tone + rng.normal(0, 0.05, 8000), 8000)
            numbers = [f"{x:.3f}" for x in rng.normal(kind, 1.0, 3)]
            table.writerow([f"files/{row}.png", f"files/{row}.wav", *numbers, NAMES[kind], f"farm {row % 17}"])


def build(here: Path) -> str:
    columns = ["--image", "image:28x28:grey", "--audio", "audio:mfcc", "--vector", "body=age,height,weight"]
    return mmtune(here, "data", "build", "--table", "samples.csv", *columns, "--group", "farm", "--out", "farm")


def scores(text: str) -> list[str]:
    return re.findall(r"trial (\d+ .*?): complete, val macro-F1 ([0-9.]+)", text)


@pytest.mark.slow
def test_a_table_and_a_network_of_ones_own_go_the_whole_way(tmp_path: Path) -> None:
    """Cross-validated, killed, gone on with, promoted, asked about files, reported, compared with a paper's network."""
    write_table(tmp_path)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies/animals.py").write_text(STUDY)
    said = build(tmp_path)
    assert all(name in said for name in NAMES)
    assert "farm" in said
    data = ["--data", "farm"]
    folded = ["study", "animals", *data, "--folds", "3", "--protocol", "disjoint:farm", "--workers", "2"]
    undisturbed = mmtune(tmp_path, *folded, "--store", "other")
    running = subprocess.Popen(
        [sys.executable, "-m", "mmtune.cli", *folded], cwd=tmp_path, start_new_session=True, stdout=subprocess.PIPE
    )
    until = time.monotonic() + 120
    while not list((tmp_path / "mlruns/staging").rglob("result.json")) and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    gone_on = mmtune(tmp_path, *folded)
    best = re.compile(r"best of .*")
    assert best.search(gone_on)[0] == best.search(undisturbed)[0]  # type: ignore[index]

    mmtune(tmp_path, "study", "animals", *data)
    assert "version 1 is champion" in mmtune(tmp_path, "promote", "animals")
    files = ["--image", "files/6.png", "--audio", "files/6.wav"]
    answer = mmtune(tmp_path, "predict", "--model", "animals", *files, "--input", "body=6.1,5.9,6.2")
    assert answer.split()[1] in NAMES
    scored = mmtune(tmp_path, "predict", "--model", "animals", *data, "--out", "answers.csv")
    with (tmp_path / "answers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [*rows[0]] == [
        *("row", "farm", "recording", "class", "probability"),
        *("abstained", "agree", "familiar", "trained", "set", "label", "refused"),
    ]
    assert {row["class"] for row in rows} <= set(NAMES)
    assert {row["trained"] for row in rows} == {"0"}
    counts = mmtune(tmp_path, "predict", "--model", "animals", "--table", "samples.csv", "--out", "all.csv")
    tested = re.search(r"of [0-9]+ with a label: accuracy ([0-9.]+), .*", scored)[1]  # type: ignore[index]
    assert (
        f"{ROWS - len(rows)} of these are what it was trained or chosen on; "
        f"of the other {len(rows)}: accuracy {tested}" in counts
    )
    told = mmtune(tmp_path, "report", "animals").strip().splitlines()[-1]
    page = Path(told.partition(": ")[2]).read_text()
    assert "كلب" in page or "\\u0643\\u0644\\u0628" in page
    mmtune(tmp_path, "study", "animals", *data, "--sampler", "reported")
    mmtune(tmp_path, "study", "dual_cnn_fusion", *data, "--sampler", "reported", "--epochs", "3")
    compared = mmtune(tmp_path, "compare", "dual_cnn_fusion", "animals")
    assert "McNemar" in compared


def written(here: Path, name: str, encoders: str, bank: str) -> None:
    (here / "studies").mkdir(exist_ok=True)
    text = PARTS.format(doc="Parts.", name=name, encoders=encoders, bank=bank)
    (here / f"studies/{name}.py").write_text(text)


@pytest.mark.slow
def test_embeddings_of_texts_are_one_bank_of_a_study(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 240)
    text = (rng.normal(size=(4, 32))[labels] + rng.normal(0, 0.7, (240, 32))).astype(np.float32)
    save(from_arrays(labels=np.array(["a", "b", "c", "d"])[labels], text=text, name="texts"), tmp_path / "texts")
    written(tmp_path, "wording", "{'text': MLP()}", "text")
    said = mmtune(tmp_path, "study", "wording", "--data", "texts")
    assert float(re.findall(r"val macro-F1 ([0-9.]+)", said)[-1]) > 0.9
    assert "disjoint_content" in said
    assert "champion" in mmtune(tmp_path, "promote", "wording")
    mmtune(tmp_path, "report", "wording")


@pytest.mark.slow
def test_two_pictures_are_two_banks(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 6, 240)
    left, right = (rng.integers(0, 80, (240, 16, 16), dtype=np.uint8) for _ in range(2))
    rows = np.arange(240)
    left[rows, labels // 3], right[rows, 5 + labels % 3] = 250, 250
    save(from_arrays(labels=labels, left=left, right=right, name="pairs"), tmp_path / "pairs")
    written(tmp_path, "stereo", "{'left': SmallCNN(), 'right': SmallCNN()}", "left")
    said = mmtune(tmp_path, "study", "stereo", "--data", "pairs")
    assert float(re.findall(r"val macro-F1 ([0-9.]+)", said)[-1]) > 0.6
    mmtune(tmp_path, "promote", "stereo")
    Image.fromarray(left[0]).save(tmp_path / "l.png")
    # Values that came as arrays have no file that becomes one.
    refused = mmtune(
        tmp_path, "predict", "--model", "stereo", "--input", "left=l.png", "--input", "right=l.png", status=2
    )
    assert "came ready-made" in refused


FUSION = '''"""A fusion of my own."""

from dataclasses import dataclass

from torch import nn

from mmtune.networks.config import MLP, LateFusion
from mmtune.study import Study
from mmtune.train.recipe import Train, TrialConfig


@dataclass(frozen=True)
class Largest:
    def build(self, widths):
        return Maximum(widths)


class Maximum(nn.Module):
    def __init__(self, widths):
        super().__init__()
        self.width = max(widths.values())

    def forward(self, text, tone):
        return text.maximum(tone)


model = LateFusion(encoders={"text": MLP(), "tone": MLP()}, fusion=Largest())
STUDY = Study(name="largest", base=TrialConfig(model=model, train=Train(epochs=1)), space=())
'''


@pytest.fixture
def heard(tmp_path: Path) -> Path:
    """A folder with a small data set of a vector and of what the package has never seen."""
    rng = np.random.default_rng(0)
    banks = {"text": rng.normal(size=(60, 20)), "tone": rng.normal(size=(60, 3, 4, 5, 6))}
    save(from_arrays(labels=np.arange(60) % 3, name="heard", **banks), tmp_path / "heard")
    (tmp_path / "studies").mkdir()
    return tmp_path


def test_an_unknown_bank_and_a_fusion_of_ones_own_need_no_edit_of_the_package(heard: Path, store: Path) -> None:
    (heard / "studies/largest.py").write_text(FUSION)
    options = Options(sampler="reported", workers=1)
    study = load_study(str(heard / "studies/largest.py"))
    outcome = run_study(study, load(heard / "heard"), options, store, Console(quiet=True))
    assert outcome is not None
    assert outcome.finished
    assert not outcome.failed


MISTAKES = {
    "returns a tuple": (
        "return self.out(text)",
        "return self.out(text), 1",
        "must return its logits or an Output, got tuple",
    ),
    "wrong shape": ("shapes.classes)", "7)", "logits of Net must be floats (2, 3)"),
    "missing argument": ("def forward(self, text)", "def forward(self, words)", "unexpected keyword argument 'text'"),
    "a sum that fails": ("self.out(text)", "self.out(text + text[:, :3])", "must match"),
    "lazy": (
        'nn.Linear(shapes["text"][0], ',
        "nn.LazyLinear(",
        "build of Net must make all weights, out.weight has no",
    ),
    "no module": ("return Wordy(shapes)", "return 3", "must return a torch.nn.Module, got int"),
    "not frozen": ("frozen=True", "frozen=False", "must be a frozen dataclass"),
    "no such bank": ('("text",)', '("words",)', "this model reads words, the data set has text, tone"),
    "no value": ("size: int = 4", "size: object = print", "must be a text, a number"),
    "no reads": ('    reads: tuple[str, ...] = ("text",)\n', "", "reads, the names of its banks"),
    "no such field": ('path="model.size"', 'path="model.sizes"', "the space names model.sizes"),
    "a choice of another kind": ("values=(4, 8)", 'values=(4, "x")', "model.size must be of type int as 4 is"),
    "does not load": ("import torch", "import tourch", "No module named 'tourch'"),
    "no Python": ("class Wordy", "clas Wordy", "SyntaxError"),
}
WORDY = '''"""Words."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from mmtune.study import Study
from mmtune.study.space import Categorical
from mmtune.train.recipe import Train, TrialConfig


class Wordy(nn.Module):
    def __init__(self, shapes):
        super().__init__()
        self.out = nn.Linear(shapes["text"][0], shapes.classes)

    def forward(self, text):
        return self.out(text)


@dataclass(frozen=True, kw_only=True)
class Net:
    size: int = 4
    reads: tuple[str, ...] = ("text",)

    def build(self, shapes):
        return Wordy(shapes)


STUDY = Study(
    name="wordy",
    base=TrialConfig(model=Net(), train=Train(epochs=1)),
    space=(Categorical(path="model.size", values=(4, 8)),),
    trials=1,
)
'''


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_a_network_is_one_line_with_its_place_and_begins_nothing(
    heard: Path, mistake: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong, rule = MISTAKES[mistake]
    assert right in WORDY
    monkeypatch.chdir(heard)
    Path("studies/wordy.py").write_text(WORDY.replace(right, wrong))
    with pytest.raises(InputError) as refused:
        run_study(load_study("wordy"), load(Path("heard")), Options(workers=1), Path("mlruns"), Console(quiet=True))
    said = str(refused.value)
    assert rule in said
    assert "\n" not in said
    assert re.match(r"\S*studies/wordy\.py:\d+: ", said)
    assert not Path("mlruns").exists()


@pytest.mark.slow
def test_a_class_of_a_studys_file_reaches_rays_actors(heard: Path) -> None:
    pytest.importorskip("ray")
    (heard / "studies/wordy.py").write_text(WORDY)
    said = mmtune(heard, "study", "wordy", "--data", "heard", "--pool", "ray", "--workers", "1")
    assert "best of wordy" in said


@pytest.mark.slow
def test_a_field_that_is_added_later_counts_as_its_default(heard: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In trials that were made before, and in a model that was promoted then."""
    monkeypatch.chdir(heard)

    def run(text: str, trials: int) -> int:
        Path("studies/wordy.py").write_text(text)
        options = Options(sampler="random", trials=trials, workers=1, prune=False)
        run_study(load_study("wordy"), load(Path("heard")), options, Path("mlruns"), Console(quiet=True))
        tracker = MlflowTracker(Path("mlruns"))
        (study,) = tracker.studies("wordy")
        return tracker.count(study.run_id)

    assert run(WORDY, 1) == 1
    mmtune(heard, "promote", "wordy")
    size = "    size: int = 4\n"
    later = WORDY.replace(size, f"{size}    drop: float = 0.5\n")
    assert run(later, 2) == 2
    mmtune(heard, "predict", "--model", "wordy", "--data", "heard", "--out", "said.csv")
    with pytest.raises(InputError, match="must stay as it was"):
        run(later.replace("Net()", "Net(drop=0.1)"), 3)
    with pytest.raises(InputError, match=r"now it is \[.*\(4, 16\)"):
        run(later.replace("(4, 8)", "(4, 16)"), 3)


SCRIPT = """
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from torch import nn

from mmtune.data.building.arrays import from_arrays
from mmtune.data.storage.store import load, save
from mmtune.study import Study
from mmtune.study.options import Options
from mmtune.tracking import MlflowTracker
from mmtune.train.recipe import Train, TrialConfig
from mmtune.tune.run import run_study

print("main runs")


class Tiny(nn.Module):
    def __init__(self, shapes):
        super().__init__()
        self.out = nn.Linear(shapes["x"][0], shapes.classes)

    def forward(self, x):
        return self.out(x)


@dataclass(frozen=True)
class Config:
    reads: tuple[str, ...] = ("x",)

    def build(self, shapes):
        return Tiny(shapes)


rng = np.random.default_rng(0)
labels = np.arange(90) % 3
values = rng.normal(size=(90, 6)) + 3 * np.eye(6)[labels]
dataset = save(from_arrays(labels=labels, x=values), Path("data"))
study = Study(name="scripted", base=TrialConfig(model=Config(), train=Train(epochs=2)), space=())
options = Options(sampler="reported", workers=2)
outcome = run_study(study, dataset, options, Path("mlruns"), Console(quiet=True))
print(outcome.finished, outcome.failed)
"""


@pytest.mark.slow
def test_a_class_of_a_script_reaches_its_workers_and_the_script_runs_once(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.stdout.split("\n")[:2] == ["main runs", "True 0"], done.stdout + done.stderr

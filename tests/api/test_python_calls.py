"""`mmtune.run` and `mmtune.load` as a script calls them, beside the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmtune
from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.data.storage.store import kept

INK = '''"""Digits by their picture and by how much ink is in each of its rows; as a script it runs itself."""

import json
import sys
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

import mmtune

print("begins")


@dataclass(frozen=True, kw_only=True)
class Net:
    width: int = 8
    reads: tuple[str, ...] = ("image", "ink")

    def build(self, shapes):
        return Module(self.width, shapes)


class Module(nn.Module):
    def __init__(self, width, shapes):
        super().__init__()
        self.image = nn.Linear(64, width)
        self.ink = nn.Linear(shapes["ink"][0], width)
        self.out = nn.Linear(2 * width, shapes.classes)
        # One function with both names has torch.classes sent along.
        self.register_buffer("shift", torch.zeros(shapes.classes))

    def forward(self, image, ink):
        embedding = torch.cat([self.image(image.flatten(1)), self.ink(ink)], 1)
        return mmtune.networks.Output(self.out(embedding.relu()), embedding)


STUDY = mmtune.Study(
    name="ink",
    base=mmtune.TrialConfig(model=Net(), train=mmtune.Train(epochs=2)),
    space=(
        mmtune.Categorical(path="model.width", values=(4, 8)),
        mmtune.Real(path="train.learning_rate", low=1e-3, high=1e-1, log=True),
    ),
    trials=3,
)


def rows():
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    image = (pixels.reshape(-1, 8, 8) * 15.9).astype(np.uint8)[:400]
    return {"labels": labels[:400], "image": image, "ink": image.sum(axis=2) / 1000.0}


def told(outcome):
    frame = outcome.trials()
    scores = frame["best_val_macro_f1"].to_dict() if outcome.finished else {}
    print(json.dumps({"finished": outcome.finished, "scores": scores, "store": str(outcome.store)}))


if __name__ == "__main__":
    chosen = json.loads(sys.argv[1]) if sys.argv[1:] else {}
    told(mmtune.run(STUDY, mmtune.data.from_arrays(**rows()), sampler="random", prune=False, **chosen))
'''


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A user's folder with `ink.py`."""
    (tmp_path / "ink.py").write_text(INK)
    return tmp_path


def python(here: Path, *words: str, status: int = 0) -> str:
    """What Python prints, called in a folder."""
    done = subprocess.run([sys.executable, *words], cwd=here, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def last(text: str) -> Any:
    """The JSON of the last line."""
    return json.loads(text.strip().splitlines()[-1])


@pytest.mark.slow
def test_a_network_that_is_edited_between_two_calls_is_said_and_recorded(here: Path) -> None:
    python(here, "ink.py", json.dumps({"trials": 1}))
    text = (here / "ink.py").read_text()
    (here / "ink.py").write_text(text.replace('print("begins")', "# a comment"))
    assert "different code" not in python(here, "ink.py", json.dumps({"trials": 2}))
    (here / "ink.py").write_text(text.replace("embedding.relu()", "embedding.tanh()"))
    told = python(here, "ink.py")
    assert re.search("made with different code: trials 0-1 with own code [0-9a-f]{12}; the others with own", told)


@pytest.mark.slow
def test_a_study_has_the_same_scores_from_main_from_another_script_and_from_the_command_line(here: Path) -> None:
    """And its model, trained by a class of `__main__`, is the one that the study's file names."""
    first = python(here, "ink.py")
    assert first.count("begins") == 1
    assert "arrays is kept in " in first
    scores = last(first)["scores"]
    assert len(scores) == 3
    again = python(here, "ink.py")
    assert "started" not in again
    assert last(again)["scores"] == scores

    (folder,) = (here / "mlruns/data").iterdir()
    code = "import sys, ink, mmtune; ink.told(mmtune.run(*sys.argv[1:], sampler='random', prune=False, store='other'))"
    assert last(python(here, "-c", code, "ink.py", str(folder)))["scores"] == scores
    command = ["study", "ink.py", "--data", str(folder), "--sampler", "random", "--no-prune", "--store", "third"]
    python(here, "-m", "mmtune.cli", *command)
    assert last(python(here, "-c", code.replace("other", "third"), "ink.py", str(folder)))["scores"] == scores

    assert "version 1 is champion" in python(here, "-m", "mmtune.cli", "promote", "ink.py")
    code = "model = mmtune.load('ink'{}); print(model.embed(**given).shape, len(model.predict(**given)))"
    given = "rows = rows(); given = {'image': rows['image'][:7], 'ink': rows['ink'][:7]}"
    defined = f"import mmtune; exec(open('ink.py').read().split('if __name__')[0]); {given}; "
    assert re.search(r"\(7, (8|16)\) 7", python(here, "-c", defined + code.format(", study=STUDY")))
    refused = python(here, "-c", defined + code.format(""), status=1)
    assert "got 'ink.Net': name the folder of its study file with --studies, or give mmtune.load its study" in refused
    (here / "studies").mkdir()
    (here / "ink.py").rename(here / "studies/ink.py")
    python(here, "-c", defined.replace("ink.py", "studies/ink.py") + code.format(""))


CALLS = '''"""A thread, another folder and an address of MLflow's own."""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mlflow

import ink
import mmtune

mlflow.set_tracking_uri("sqlite:///runs.db")
data = mmtune.data.from_arrays(**ink.rows(), name="here")
with ThreadPoolExecutor(1) as pool:
    outcome = pool.submit(mmtune.run, ink.STUDY, data, trials=2, epochs=1, quiet=True, store="kept").result()
Path("deep").mkdir()
os.chdir("deep")
page = outcome.report()
print(page, outcome.report("page.html"))
promoted = outcome.promote()
assert promoted.is_champion
assert list(outcome.trials().index) == [0, 1]
os.chdir("..")
model = mmtune.load("ink", store=outcome.store)
assert model.classes == data.classes
rows = ink.rows()
assert model.predict(image=rows["image"], ink=rows["ink"]).names == model.predict_values(
    image=rows["image"], ink=rows["ink"].astype("float32")
).names
print(len(mlflow.search_runs(experiment_names=["ink"])))
'''


@pytest.mark.slow
def test_runs_go_where_mlflow_was_told_also_from_a_thread_and_whatever_the_folder(here: Path) -> None:
    (here / "calls.py").write_text(CALLS)
    # A module that is imported by name is so by workers too, which say what it says.
    said = [line for line in python(here, "calls.py").splitlines() if line != "begins"]
    page, other = said[0].split()
    assert Path(page).parent == here / "kept/reports"
    assert Path(other) == here / "deep/page.html"
    assert said[1:] == ["3"]
    assert (here / "runs.db").exists()
    assert not (here / "kept/mlflow.db").exists()
    assert [path.name for path in (here / "deep").iterdir()] == ["page.html"]


@pytest.mark.slow
def test_an_interrupted_call_raises_and_the_same_call_goes_on_to_the_same_scores(here: Path) -> None:
    chosen = json.dumps({"epochs": 150, "trials": 2, "workers": 2, "checkpoint_every": 0.0})
    whole = last(python(here, "ink.py", json.dumps({**json.loads(chosen), "store": "other"})))["scores"]
    words = [sys.executable, "ink.py", chosen]
    running = subprocess.Popen(words, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until = time.monotonic() + 120
    while not list((here / "mlruns/staging").rglob("epochs.*")) and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(running.pid, signal.SIGINT)
    said, _ = running.communicate(timeout=120)
    assert "interrupted; the same call goes on with the trials that are missing" in said
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert running.returncode in (-signal.SIGINT, 130, 1)
    gone_on = last(python(here, "ink.py", chosen))
    assert gone_on["finished"]
    assert gone_on["scores"] == whole


def mine(**changes: Any) -> mmtune.Study:
    model = mmtune.networks.EarlyFusion(reads=("image",))
    train = mmtune.Train(epochs=1)
    return mmtune.Study(name="mine", base=mmtune.TrialConfig(model=model, train=train), space=(), **changes)


MISTAKES: dict[str, tuple[Callable[[Dataset], object], str]] = {
    "no such study": (lambda tiny: mmtune.run("nothing", tiny), "NAME must be one of audio_mel"),
    "no such file": (lambda tiny: mmtune.run(Path("no.py"), tiny), "no.py must be a study's file, there is none"),
    "no such data": (lambda tiny: mmtune.run(mine(), "nowhere"), "must be a folder with a data set, is missing"),
    "no trials": (lambda tiny: mmtune.run(mine(), tiny, trials=0), "--trials must be a whole number from 1"),
    "no protocol": (lambda tiny: mmtune.run(mine(), tiny, protocol="disjoint"), "protocol must be one of random"),
    "no such choice": (lambda tiny: mmtune.run(mine(), tiny, fix={"depth": 3}), "--fix takes NAME=VALUE with one of"),
    "two names of one": (
        lambda tiny: mmtune.run(mine(), tiny, fix={"hidden": 3, "model.hidden": 4}),
        "--fix must be given once for model.hidden, got another by 'model.hidden=4'",
    ),
    "the budget": (lambda tiny: mmtune.run(mine(), tiny, fix={"epochs": 3}), "the budget is --epochs"),
    "no such bank": (
        lambda tiny: mmtune.run(mine(), mmtune.data.from_arrays(labels=np.arange(60) % 3, x=np.eye(60))),
        "this model reads image, the data set has x",
    ),
    "no registry": (lambda tiny: mmtune.load("mine"), "must hold a registry, it has none: promote a study first"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_tracks_nothing(
    mistake: str, tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, said = MISTAKES[mistake]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refusal:
        call(tiny)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "mlruns/mlflow.db").exists()


def test_arrays_are_kept_once_by_what_is_in_them(tmp_path: Path, tiny: Dataset) -> None:
    def made(shift: float) -> Dataset:
        return mmtune.data.from_arrays(labels=np.arange(60) % 3, x=np.eye(60) + shift, name="eye")

    first = kept(made(0.0), tmp_path)
    before = first.folder.stat().st_mtime_ns
    assert first.folder.parent == tmp_path
    assert first.digest == made(0.0).digest
    again = kept(made(0.0), tmp_path)
    assert (again.folder, again.digest) == (first.folder, first.digest)
    assert first.folder.stat().st_mtime_ns == before
    assert kept(made(1.0), tmp_path).folder != first.folder
    assert kept(tiny, tmp_path) is tiny

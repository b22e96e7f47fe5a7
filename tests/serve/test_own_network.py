"""A network and classes of a user's own, from their data to the answers of the promoted model, by every way in."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from tracked import track_study, track_trial
from typer.testing import CliRunner

from mmtune import cli
from mmtune.base.errors import InputError
from mmtune.data.building.arrays import from_arrays
from mmtune.data.dataset import Dataset
from mmtune.data.forms import LogMel, Picture, Vector
from mmtune.data.media.recordings import SAMPLE_RATE as RATE
from mmtune.data.protocols import split
from mmtune.data.storage.store import save
from mmtune.networks.kinds import KNOWN
from mmtune.serve.answer.predictor import Prediction, Predictor
from mmtune.serve.loader import TRUST, _load_pyfunc
from mmtune.serve.promotion import promote
from mmtune.serve.scoring import predict_partition
from mmtune.serve.versions import champion_folder
from mmtune.study import StudyKey, load_study
from mmtune.tracking import MlflowTracker, best_trial
from mmtune.train.batches import Resident
from mmtune.train.objective import MACRO_F1
from mmtune.train.staging import FILES
from mmtune.train.trial import run_trial

NAMES = ("kestrel", "barn owl", "coot, common", '"heron"', "=1+1", "\u0628\u0648\u0645\u0629", "<b>gull</b>")
STUDY = """
from dataclasses import dataclass

import torch
from torch import nn

from mmtune.networks.output import Output
from mmtune.study import Study
from mmtune.train.recipe import Train, TrialConfig


@dataclass(frozen=True, kw_only=True)
class Net:
    hidden: int = 8

    @property
    def reads(self):
        return ("photo", "call", "body")

    def build(self, shapes):
        return Network(self, shapes)


class Network(nn.Module):
    def __init__(self, config, shapes):
        super().__init__()
        self.parts_of = nn.ModuleDict(
            {name: nn.Sequential(nn.Flatten(), nn.LazyLinear(config.hidden), nn.Tanh()) for name in config.reads}
        )
        for name in config.reads:
            self.parts_of[name](torch.zeros(1, *shapes[name]))
        self.out = nn.Linear(3 * config.hidden, shapes.classes)

    def forward(self, **banks):
        return self.out(torch.cat([own(banks[name]) for name, own in self.parts_of.items()], 1))


STUDY = Study(
    name="birds", base=TrialConfig(model=Net(), train=Train(epochs=2, batch_size=16)), space=(), title="birds"
)
"""


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A user's folder with `birds.py` and a store, what is promoted in it, and the raw values of its test rows."""

    folder: Path
    dataset: Dataset
    predictor: Predictor
    photos: np.ndarray
    waves: np.ndarray
    bodies: np.ndarray

    def files(self, row: int) -> dict[str, str]:
        """What a user has of a test row."""
        Image.fromarray(self.photos[row].transpose(1, 2, 0)).save(self.folder / "x.png")
        soundfile.write(self.folder / "x.wav", self.waves[row], RATE, subtype="PCM_16")
        weight, wing = self.bodies[row].tolist()
        return {"image": str(self.folder / "x.png"), "audio": str(self.folder / "x.wav"), "body": f"{weight}, {wing}"}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, store_template: Path) -> Ran:
    root, rng = tmp_path_factory.mktemp("birds"), np.random.default_rng(0)
    labels = np.arange(140) % 7
    photos = rng.integers(0, 256, (140, 3, 9, 11), dtype=np.uint8)
    tones = np.sin(np.arange(8000) * (0.1 + 0.05 * labels[:, None])) * 9000
    waves = (tones + rng.normal(0, 300, tones.shape)).astype(np.int16)
    bodies = (20 * labels[:, None] + rng.normal(0, 9, (140, 2))).round(2)
    test = np.arange(140) >= 105
    sound, body = LogMel(seconds=0.5, bands=8), Vector(columns=("weight", "wing"))
    sound, body = sound.fit(sound.of_waves(waves[~test])), body.fit(bodies[~test])
    made = from_arrays(
        name="birds",
        labels=[NAMES[label] for label in labels],
        test=test,
        forms={"photo": Picture(height=9, width=11, colour=True), "call": sound, "body": body},
        photo=photos,
        call=sound.scaled(sound.of_waves(waves)),
        body=body.scaled(bodies),
    )
    dataset = save(made, root / "set")
    (root / "studies").mkdir()
    (root / "studies" / "birds.py").write_text(STUDY)
    study = load_study(str(root / "studies" / "birds.py"))
    rows = Resident(dataset.train, 7, torch.device("cpu"))
    (root / "trial").mkdir()
    protocol = "disjoint:content"
    told = run_trial(study.base, rows, split(dataset.train, protocol, 0), 1, root / "trial", lambda e, m: True)
    tracker = MlflowTracker(Path(shutil.copytree(store_template, root / "mlruns")))
    own: dict[str, Any] = {"protocol": protocol, "seed": 0, "epochs": 2, "sampler": "tpe"}
    run = track_study(tracker, StudyKey(study="birds", data="birds", digest=dataset.digest, **own))
    track_trial(tracker, run, 0, {"model.hidden": 8}, told.metrics, files=root / "trial" / FILES)
    tracker.end_study(
        run.run_id, finished=True, best=best_trial(tracker.trials(run.run_id), MACRO_F1), objective=MACRO_F1
    )
    assert promote(tracker, tracker.studies("birds")[0], dataset).is_champion
    predictor = Predictor.load(champion_folder(root / "mlruns", "birds"))
    values = {"photos": photos[test], "waves": waves[test], "bodies": bodies[test]}
    return Ran(folder=root, dataset=dataset, predictor=predictor, **values)


def expected(ran: Ran) -> Prediction:
    """Of all test rows, as their values are in the data set."""
    every = np.arange(len(ran.dataset.require_test()))
    return ran.predictor.predict_values(**{name: bank.of_rows(every) for name, bank in ran.dataset.test.banks.items()})


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """This process as one that has never heard of the study, in a folder without any."""
    monkeypatch.delitem(KNOWN, "birds.Net", raising=False)
    monkeypatch.setenv("MMTUNE_STUDIES", "")
    monkeypatch.chdir(tmp_path)


def mmtune(ran: Ran, *words: str) -> str:
    """What a command that succeeds prints."""
    done = CliRunner().invoke(cli.app, [*words, "--store", str(ran.folder / "mlruns")])
    if done.exception is not None:
        raise done.exception
    return done.stdout


def test_files_and_numbers_are_answered_as_their_rows_are(ran: Ran) -> None:
    whole = expected(ran)
    for row in (0, 11, 34):
        found = ran.predictor.predict(**ran.files(row))
        np.testing.assert_allclose(found.probabilities[0], whole.probabilities[row], atol=1e-4)
        assert found.names == [whole.names[row]]
        numbers = dict(zip(("wing", "weight"), ran.bodies[row][::-1].tolist(), strict=True))
        named = ", ".join(f"{name}={value}" for name, value in numbers.items())
        again = ran.predictor.predict(**(ran.files(row) | {"body": named}))
        np.testing.assert_array_equal(again.probabilities, found.probabilities)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"body": "1"}, "numbers must be given for weight, wing, got '1'"),
        ({"body": "1, nan"}, "numbers must be given for weight, wing"),
        ({"body": "weight=1, tail=2"}, "numbers must be given for weight, wing"),
        ({"video": "x"}, "takes photo (picture) and call (recording) and body (numbers), got video"),
        ({"photo": "x.png"}, "photo must be given once, got it as image and as audio and as body and as photo"),
    ],
)
def test_what_fits_no_bank_is_refused(ran: Ran, changed: dict[str, str], said: str) -> None:
    with pytest.raises(InputError) as refusal:
        ran.predictor.predict(**(ran.files(0) | changed))
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_data_set_with_the_same_numbers_in_another_order_is_refused(ran: Ran) -> None:
    own = ran.dataset.forms["body"]
    assert isinstance(own, Vector)
    turned = {**ran.dataset.forms, "body": replace(own, columns=own.columns[::-1])}
    said = r"vector \(2,\) of weight, wing as in birds, it is vector \(2,\) of wing, weight"
    with pytest.raises(InputError, match=said):
        predict_partition(ran.predictor, replace(ran.dataset, forms=turned))


@pytest.mark.usefixtures("stranger")
def test_the_command_line_answers_from_files_and_into_a_csv(ran: Ran, tmp_path: Path) -> None:
    whole, given = expected(ran), ran.files(2)
    files = ("--image", given["image"], "--input", f"call={given['audio']}", "--input", f"body={given['body']}")
    studies = ("--studies", str(ran.folder / "studies"))
    one = mmtune(ran, "predict", "--model", "birds", *files, *studies)
    assert one.splitlines() == [
        f"class  {whole.names[2]}  probability {whole.probability[2]:.4f}",
        f"set    {', '.join(whole.set[2])}  holds the true class 95 % of the time",
        "its parts cannot be compared: this network has no answer of each bank alone",
    ]
    data = ("--data", str(ran.folder / "set"), "--out", "out.csv")
    assert mmtune(ran, "predict", "--model", "birds", *data, *studies).startswith("35 rows: 0 refused")
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "row",
        *("class", "probability", "abstained", "agree", "familiar", "trained"),
        *("set", "label", "refused"),
    ]
    assert [row["set"] for row in rows] == [", ".join(own) for own in whole.set]
    assert [row["class"] for row in rows] == whole.names
    assert len(set(whole.names)) > 3


@pytest.mark.usefixtures("stranger")
def test_without_the_studys_file_it_is_refused_and_the_folder_is_asked_for(
    ran: Ran, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("predict", "--model", "birds", "--input", "body=1, 2")
    with pytest.raises(InputError, match=r"got 'birds\.Net': name the folder of its study file with --studies"):
        mmtune(ran, *words)
    monkeypatch.setenv("MMTUNE_STUDIES", str(ran.folder / "studies"))
    with pytest.raises(InputError, match="takes photo and call and body, got body"):
        mmtune(ran, *words)


@pytest.mark.usefixtures("stranger")
def test_mlflow_serves_it_by_its_signature(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.models import Model

    whole, test = expected(ran), ran.dataset.require_test()
    folder = champion_folder(ran.folder / "mlruns", "birds")
    with pytest.raises(InputError, match=r"birds\.Net"):
        _load_pyfunc(str(folder))
    monkeypatch.setenv("MMTUNE_STUDIES", str(ran.folder / "studies"))
    served = _load_pyfunc(str(folder))
    frame = served.predict({name: bank.of_rows(np.arange(35)) for name, bank in test.banks.items()})
    assert list(frame.columns) == ["class", "probability", *TRUST]
    assert frame["class"].tolist() == whole.names
    signature = Model.load(str(folder.parents[1])).signature
    assert {
        own["name"]: (own["tensor-spec"]["dtype"], own["tensor-spec"]["shape"]) for own in signature.inputs.to_dict()
    } == {
        "photo": ("uint8", (-1, 3, 9, 11)),
        "call": ("float32", (-1, 48, 8)),
        "body": ("float32", (-1, 2)),
    }
    assert [(own["name"], own["type"]) for own in signature.outputs.to_dict()] == [
        ("class", "string"),
        ("probability", "double"),
        *TRUST.items(),
    ]


def test_the_test_is_scored_and_a_champion_of_the_same_study_is_compared(ran: Ran) -> None:
    tracker = MlflowTracker(ran.folder / "mlruns")
    run = tracker.studies("birds")[0]
    assert promote(tracker, run, ran.dataset).reason == "version 1 is champion already"
    trial = tracker.best(run.run_id, run.key.objective)
    assert trial is not None
    hits = expected(ran).label == ran.dataset.require_test().labels
    assert trial.metrics["test_accuracy"] == pytest.approx(hits.mean())
    with pytest.raises(InputError, match="must be promoted with its own data"):
        promote(tracker, run, replace(ran.dataset, digest="0" * 64))


@pytest.mark.slow
@pytest.mark.usefixtures("stranger")
def test_a_study_named_by_its_file_goes_all_the_way(ran: Ran, tmp_path: Path) -> None:
    """Its network goes to the workers as what it is, and nothing looks for the study by its name alone."""
    file, data = str(ran.folder / "studies" / "birds.py"), ("--data", str(ran.folder / "set"))
    words = ["study", file, *data, "--trials", "1", "--workers", "1", "--device", "cpu"]
    done = subprocess.run([sys.executable, "-m", "mmtune.cli", *words], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "pictures: 2 of 2" in done.stdout
    out = ["--store", str(tmp_path / "mlruns")]
    for verb, said in (
        (["report", file], "report of birds.birds-"),
        (["promote", file], "version 1 is champion, as there was none before"),
        (["promote", file, "--history"], "birds.birds-"),
        (["optuna", file, "--out", f"sqlite:///{tmp_path}/o.db"], "1 trial of birds.birds-"),
    ):
        made = CliRunner().invoke(cli.app, [*verb, *out])
        assert made.exception is None
        assert said in made.stdout

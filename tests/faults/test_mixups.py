"""What is changed under a study, or given twice, is said or refused, and nothing takes another's place unseen."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mmtune.base.errors import InputError
from mmtune.data.building.arrays import from_arrays
from mmtune.data.building.asking import asked
from mmtune.data.building.sources import How
from mmtune.data.building.tables import as_number, separator_of
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import split
from mmtune.data.storage.atomic import new_folder
from mmtune.data.storage.store import load, save
from mmtune.networks.shapes import Shapes
from mmtune.networks.storage import load_model, save_model
from mmtune.pool.worker import WorkerSpec
from mmtune.study import load_file, load_study, parse_fixed
from mmtune.study.finding import use_studies
from mmtune.study.options import Options
from mmtune.study.space import Categorical
from mmtune.tracking import MlflowTracker
from mmtune.tune.run import run_study

OWN = '''"""A network of one's own."""
from dataclasses import dataclass
from torch import nn
from mmtune import Study, Train, TrialConfig


@dataclass(frozen=True)
class Net:
    reads: tuple[str, ...] = ("near",)

    def build(self, shapes):
        return Module(shapes)


class Module(nn.Module):
    def __init__(self, shapes):
        super().__init__()
        self.layer = nn.Linear(shapes["near"][0], shapes.classes)

    def forward(self, near):
        return self.layer(near)


STUDY = Study(name="own", base=TrialConfig(model=Net(), train=Train(epochs=1)), space=())
'''


def rows(seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    labels = np.tile(["a", "b"], 30)
    return from_arrays(labels=labels, near=rng.normal(size=(60, 3)) + (labels == "b")[:, None])


def test_a_network_whose_code_has_changed_says_so_when_it_is_loaded_and_a_study_when_it_is_repeated(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.py"
    file.write_text(OWN)
    save(rows(), tmp_path / "rows")
    data = load(tmp_path / "rows")

    def run() -> str:
        options = Options(trials=1, workers=1, device="cpu")
        run_study(load_file(file), data, options, tmp_path / "mlruns", Console())
        return capsys.readouterr().out

    run()
    config, shapes = load_file(file).base.model, Shapes(banks={"near": (3,)}, classes=2)
    save_model(tmp_path / "model", config.build(shapes), config, shapes)
    load_model(tmp_path / "model")
    assert "other code" not in run()
    assert caplog.text == ""
    file.write_text(OWN.replace("return self.layer(near)", "return self.layer(near).tanh()  # other"))
    os.utime(file, (0, 0))
    assert "trial 0 were trained by other code than is there now" in run()
    with caplog.at_level(logging.WARNING, "mmtune"):
        load_model(tmp_path / "model")
    assert "own.Net is not the code that was trained" in caplog.text


def test_workers_train_on_nothing_but_the_data_of_the_study(tmp_path: Path) -> None:
    save(rows(), tmp_path / "rows")
    first = load(tmp_path / "rows")
    parts = (split(first.train, "disjoint:content", 0),)
    spec = WorkerSpec(data=tmp_path / "rows", digest=first.digest, splits=parts, device="cpu", classes=2)
    assert len(spec.training_rows()) == len(first.train)
    shutil.rmtree(tmp_path / "rows")
    save(rows(seed=1), tmp_path / "rows")
    with pytest.raises(
        InputError, match=f"must be the data of the study, digest {first.digest[:12]}, it has been repla"
    ):
        spec.training_rows()


def test_choices_in_another_order_are_another_study(tiny: Dataset, store: Path) -> None:
    """As a trial's number says which combination it is."""
    choices = (
        Categorical(path="model.hidden", values=(8, 16)),
        Categorical(path="train.batch_size", values=(32, 64)),
    )
    study = replace(load_study("audio_rnn"), grid=None, space=choices)
    options = Options(epochs=1, trials=2, sampler="random", workers=1, device="cpu")
    run_study(study, tiny, options, store, Console(quiet=True))
    turned = replace(study, space=choices[::-1])
    with pytest.raises(InputError, match=r"it was \[in this order: model.hidden, train.batch_size\]"):
        run_study(turned, tiny, options, store, Console(quiet=True))
    (found,) = MlflowTracker(store).studies("audio_rnn")
    assert MlflowTracker(store).count(found.run_id) == 2


def test_a_folder_is_there_whatever_ends_its_replacement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "set"
    with new_folder(target) as made:
        (made / "old").touch()
    rename, asked_for = Path.rename, [0]

    def cut(self: Path, other: Path) -> Path:
        asked_for[0] += 1
        if asked_for[0] == 2:
            raise KeyboardInterrupt
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", cut)
    with pytest.raises(KeyboardInterrupt), new_folder(target) as made:
        (made / "new").touch()
    monkeypatch.undo()
    assert [path.name for path in target.iterdir()] == ["old"]
    # A kill there leaves the old one under another name, which the next writer puts back first.
    target.rename(tmp_path / ".set.0123456789ab.old")
    with pytest.raises(ZeroDivisionError), new_folder(target):
        _ = 1 / 0
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert [path.name for path in target.iterdir()] == ["old"]


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (lambda: parse_fixed(["width=1", "width=2"], load_study("multihead_fusion").base), "--fix must be given once"),
        (lambda: How(groups=("who=a", "who=b")).named_groups(alone=True), "--group must be given once for who"),
        (lambda: use_studies(Path("a:b")), "--studies must name a folder without ':'"),
        (lambda: from_arrays(labels=np.array(["a", None], object), x=np.zeros((2, 3))), "row 1 has None"),
        (lambda: from_arrays(labels=np.array(["a", np.nan], object), x=np.zeros((2, 3))), "row 1 has nan"),
        (lambda: asked(**{**NONE, "images": Path("x"), "split": "part"}), "--split is for a --table"),
    ],
)
def test_what_was_ignored_is_refused(given: Callable[[], object], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        given()


NONE = {
    "table": None,
    "images": None,
    "audio": [],
    "test_images": None,
    "test_audio": None,
    "image_form": "",
    "audio_form": [],
    "image": [],
    "array": [],
    "vector": [],
}


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        ("a,b", ","),
        ("weight (kg, net);label", ";"),
        ('"height, cm";label', ";"),
        ("a\tlabel\tb;c", "\t"),
        ("label", ","),
        ("\ufefflabel;x", ";"),
    ],
)
def test_a_separator_is_what_makes_columns_of_a_header(header: str, separator: str) -> None:
    assert separator_of(f"{header}\n1,5;a\n".encode()) == separator


def test_a_number_has_no_underscore() -> None:
    assert (as_number("1_000"), as_number("1e3")) == (None, 1000.0)

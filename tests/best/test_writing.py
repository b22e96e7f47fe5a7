"""The study that is written for a data set's banks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mmtune.best.certificate import limits
from mmtune.best.held_out import told_of
from mmtune.best.writing import find_or_write, kind_of, name_of, text_of
from mmtune.data.banks import banks_of
from mmtune.data.dataset import Bank, Dataset, Partition
from mmtune.data.forms import Array, Digit, Form, LogMel, Mfcc, Picture, Ready, Speech, Vector, Waveform
from mmtune.networks.shapes import shapes_of
from mmtune.study import load_file
from mmtune.train.robustness import Robustness, Score

CLEAN = Score(accuracy=0.9, macro_f1=0.9, alone={})

FORMS: dict[str, Form] = {
    "photo": Picture(height=12, width=14, colour=True),
    "digit": Digit(),
    "word": Speech(),
    "waves": Waveform(seconds=0.5),
    "mels": LogMel(seconds=0.5),
    "age": Vector(columns=("age", "height")),
    "scan": Array(sides=(2, 3, 4, 5)),
}


def made_of(names: list[str], rows: int = 40, same: bool = True) -> Dataset:
    """Random values of these forms; banks of sounds are of the same recordings, or of as many others as rows."""
    rng, banks = np.random.default_rng(0), {}
    for place, name in enumerate(names):
        form = FORMS[name]
        kind = np.dtype(form.of if isinstance(form, Ready) else form.dtype)
        values = rng.random((rows, *form.shape)) * (100 if kind != np.float32 else 1)
        index = np.arange(rows)
        if not same and place:
            index = np.where(index < 5, -1, index)
        banks[name] = Bank(values=values.astype(kind), index=index.astype(np.int64))
    part = Partition(banks=banks, labels=np.arange(rows) % 4, groups={})
    forms = {name: FORMS[name] for name in names}
    return Dataset(
        name="my set-1", folder=Path(), classes=("a", "b", "c", "d"), forms=forms, train=part, test=part,
        digest="0" * 64, provenance={},
    )  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_each_kind_of_bank_has_a_study_that_builds_its_network(name: str, tmp_path: Path) -> None:
    dataset = made_of([name])
    path = tmp_path / f"{name_of(dataset)}.py"
    path.write_text(text_of(name_of(dataset), dataset))
    study = load_file(path)
    assert study.base.model.reads == (name,)
    assert not study.base.train.modality_dropout
    options = study.base.model.encoders[name].options
    assert options.keys() == kind_of(FORMS[name]).encoders.keys()
    for chosen in options:
        encoders = {name: replace(study.base.model.encoders[name], chosen=chosen)}
        replace(study.base.model, encoders=encoders).build(shapes_of(dataset.train, 4))


def test_several_banks_are_fused_and_may_be_missing(tmp_path: Path) -> None:
    dataset = made_of(["digit", "word", "age"])
    (tmp_path / "studies").mkdir()
    path, is_new = find_or_write(dataset, tmp_path / "studies")
    study = load_file(path)
    assert (study.name, is_new) == ("best_my_set_1", True)
    assert study.base.model.reads == ("digit", "word", "age")
    assert study.base.train.modality_dropout > 0
    paths = {choice.path for choice in study.space}
    assert {"model.fusion.chosen", "model.encoders.word.chosen", "train.augment.age.noise"} <= paths
    path.write_text(path.read_text() + "# mine\n")
    assert find_or_write(dataset, tmp_path / "studies") == (path, False)
    assert path.read_text().endswith("# mine\n")


def test_banks_of_any_name_and_with_gaps_have_a_study(tmp_path: Path) -> None:
    dataset = made_of(["digit", "age"])
    banks = {"EEG": dataset.train.banks["digit"], "T1": replace(dataset.train.banks["age"], index=np.arange(40) - 3)}
    banks["T1"] = replace(banks["T1"], index=np.maximum(banks["T1"].index, -1))
    part = replace(dataset.train, banks=banks)
    odd = replace(dataset, name='my"set\\', forms={"EEG": FORMS["digit"], "T1": FORMS["age"]}, train=part, test=part)
    path, _ = find_or_write(odd, tmp_path)
    study = load_file(path)
    assert study.missing == ("T1",)
    assert study.base.model.reads == ("EEG", "T1")


def test_names_that_are_alike_in_letters_are_kept_apart() -> None:
    dataset = made_of(["digit"])
    names = {name_of(replace(dataset, name=own, digest=own * 9)) for own in ("数据", "文字", "ab", "äb")}
    assert len(names) == 4
    assert name_of(dataset) == "best_my_set_1"


def test_of_banks_of_the_same_recordings_one_is_read() -> None:
    assert banks_of(made_of(["mels", "digit", "waves", "word"])) == ["digit", "word"]
    assert banks_of(made_of(["mels", "waves"])) == ["waves"]
    assert banks_of(made_of(["mels", "waves"], same=False)) == ["mels", "waves"]
    # Two microphones: each row has one of each, of one kind.
    both = made_of(["word"])
    two = replace(both.train, banks={"cough": both.train.banks["word"], "breath": both.train.banks["word"]})
    assert banks_of(replace(both, forms={"cough": Speech(), "breath": Speech()}, train=two)) == ["cough", "breath"]
    assert kind_of(Mfcc()).what == "features over time"


def test_classes_are_weighed_where_one_has_few_rows() -> None:
    even = made_of(["age"])
    few = replace(even.train, labels=np.where(np.arange(40) < 3, 0, 1 + np.arange(40) % 3))
    for dataset, weighs in ((even, False), (replace(even, train=few), True)):
        assert ('under("train", CLASS_WEIGHTS)' in text_of("best_x", dataset)) == weighs


def test_a_class_that_is_never_answered_is_named() -> None:
    dataset = made_of(["age"])
    label = dataset.require_test().labels
    for said, missed, constant in (
        (np.where(label == 2, 1, label), ["c"], ""),
        (np.ones_like(label), ["a", "c", "d"], "b"),
        (label, [], ""),
    ):
        found = told_of(label, said, dataset, "random", 0)
        assert (found.missed, found.constant) == (missed, constant)
        measured = SimpleNamespace(robustness=Robustness(clean=CLEAN, curves=()), rows=40)
        told = limits(SimpleNamespace(measured=measured), dataset, found)  # type: ignore[arg-type]
        assert ("Anything at all: it answers b for every test row." in told) == bool(constant)
        assert ("Finding c: of these test rows it has none right." in told) == (missed == ["c"])

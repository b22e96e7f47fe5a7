"""What is like nothing in training is told, by bank, and what a predictor's folder says of it is checked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calibrated import never_wrong

from mmtune.base.errors import InputError
from mmtune.base.sealed import write_sealed
from mmtune.data.dataset import Dataset
from mmtune.data.forms import form_to_json
from mmtune.data.protocols import folds, rotated, split
from mmtune.networks import Conv1dEncoder, LateFusion, SmallCNN
from mmtune.networks.shapes import shapes_of
from mmtune.networks.storage import save_model
from mmtune.networks.vectors import TOGETHER
from mmtune.serve.answer.predictor import FORMAT, INPUTS, Predictor, save_predictor
from mmtune.serve.answer.telling import called, describe, remarks
from mmtune.serve.answer.usual import Usual, learnt, sides_of, training_rows
from mmtune.study import StudyKey
from mmtune.train.familiarity import Familiarity

READS = ("image", "audio")


def key_of(**other: Any) -> StudyKey:
    own = {"study": "usual", "data": "tiny", "digest": "0" * 64, "protocol": "clip_disjoint", "seed": 0, "epochs": 1}
    return StudyKey(**{**own, "sampler": "reported", **other})


def test_of_folds_all_rows_train_and_the_first_network_tells_by_what_it_never_saw(tiny: Dataset) -> None:
    key = key_of(folds=3)
    sides, first = sides_of(key, tiny), rotated(folds(tiny.train, "clip_disjoint", 3, 0))[0]
    assert first.held is not None
    assert np.array_equal(sides.validation, first.held)
    assert np.array_equal(np.sort(np.concatenate([sides.train, sides.validation])), np.arange(len(tiny.train)))
    assert np.array_equal(training_rows(key, sides), np.arange(len(tiny.train)))
    assert np.array_equal(
        training_rows(key_of(), sides_of(key_of(), tiny)), split(tiny.train, "clip_disjoint", 0).train
    )


@pytest.fixture(scope="module")
def folder(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A predictor with what is usual to it, of a network that has learnt nothing."""
    home = tmp_path_factory.mktemp("usual")
    config = LateFusion(encoders={"image": SmallCNN(channels=4, width=8), "audio": Conv1dEncoder(channels=4, width=8)})
    torch.manual_seed(0)
    shapes = shapes_of(tiny.train, 10)
    save_model(home / "saved", config.build(shapes), config, shapes)
    card = {
        "forms": {name: form_to_json(form) for name, form in tiny.forms.items()},
        "classes": list(tiny.classes),
        "data": {"name": "tiny"},
        "calibration": never_wrong(*READS).told(),
        "missing": list(READS),
    }
    usual = learnt(home / "saved", tiny, key_of())
    save_predictor(home / "ready", home / "saved", card, usual)
    return home / "ready"


@pytest.fixture(scope="module")
def predictor(folder: Path) -> Predictor:
    return Predictor.load(folder)


def some(tiny: Dataset, count: int = 60) -> dict[str, np.ndarray[Any, Any]]:
    rows = split(tiny.train, "clip_disjoint", 0).validation[:count]
    return {bank: tiny.train.banks[bank].of_rows(rows) for bank in READS}


def test_good_rows_are_familiar_and_a_strange_bank_is_told_by_its_name(predictor: Predictor, tiny: Dataset) -> None:
    given = some(tiny)
    good = predictor.predict_values(**given)
    assert good.familiar.mean() > 0.9
    for bank, other in zip(READS, READS[::-1], strict=True):
        odd = predictor.predict_values(**{bank: given[bank][::-1] * 0 + given[bank].max(), other: given[other]})
        assert not odd.familiar.any()
        assert all(odd.strange[bank])
        assert odd.strange[other] == good.strange[other]
        assert odd.abstained.all()


def test_it_is_said_in_a_line(predictor: Predictor, tiny: Dataset) -> None:
    given = some(tiny, 1)
    odd = predictor.predict_values(image=np.full_like(given["image"], 255), audio=given["audio"])
    lines = describe(predictor, odd).splitlines()
    assert any(line.startswith("abstains: the picture is like nothing in training (brightness 1, in") for line in lines)


def test_a_bank_that_is_not_there_is_not_asked(predictor: Predictor, tiny: Dataset) -> None:
    given = some(tiny, 5)
    alone = predictor.predict_values(image=given["image"])
    assert list(alone.strange) == ["image"]
    gaps = predictor.predict_rows({**given, "audio": given["audio"] * 0}, {"audio": np.zeros(5, np.bool_)})
    assert gaps.strange["audio"] == [""] * 5


def test_what_is_more_like_training_answers_where_banks_contradict_each_other(
    predictor: Predictor, tiny: Dataset
) -> None:
    own = replace(predictor, calibration=replace(predictor.calibration, agreement=1.0))
    given = some(tiny, 40)
    noise = np.random.default_rng(0).integers(0, 256, given["image"].shape).astype(np.uint8)
    found = own.predict_values(image=noise, audio=given["audio"])
    apart = ~found.agree
    assert apart.any()
    assert np.array_equal(found.label[apart], found.alone["audio"].label[apart])
    assert found.abstained[apart].all()
    row = int(np.flatnonzero(apart)[0])
    assert any(
        line.endswith(f": the {called(own, 'audio')} is more like training") for line in remarks(own, found, row)
    )


def test_what_is_strange_by_plain_measures_is_further_than_what_is_not() -> None:
    remote = {"image": np.array([0.25, 0.25, 3.0], np.float32), "audio": np.array([0.75, 1.0, 0.5], np.float32)}
    further = Usual().further(remote, {"image": ["", "brightness", "distance"], "audio": ["", "", ""]})
    assert {bank: own.tolist() for bank, own in further.items()} == {
        "image": [0.25, 1.25, 3.0],
        "audio": [0.75, 1.0, 0.5],
    }


def test_both_sides_of_the_disk_say_the_same(predictor: Predictor, folder: Path) -> None:
    again = Predictor.load(folder)
    assert again.usual.extents == predictor.usual.extents
    assert again.usual.near.keys() == predictor.usual.near.keys() == set(READS)
    assert np.array_equal(again.usual.near["image"].places, predictor.usual.near["image"].places)
    assert again.usual.trained.keys() == set(READS)


def test_what_it_was_trained_or_chosen_on_is_told_and_new_rows_are_not(predictor: Predictor, tiny: Dataset) -> None:
    found = predictor.predict_values(**some(tiny))
    assert {bank: bool(own.all()) for bank, own in found.trained.items()} == dict.fromkeys(READS, True)
    assert "the picture is what it was trained or chosen on" in remarks(predictor, found, 0)
    test = {bank: tiny.require_test().banks[bank].of_rows(np.arange(40)) for bank in READS}
    new = predictor.predict_values(**test)
    for bank in READS:
        known = tiny.train.banks[bank].values
        assert new.trained[bank].tolist() == [any(np.array_equal(own, one) for one in known) for own in test[bank]]
    assert not any("recording is what" in line for line in remarks(predictor, new, 0))
    alone = predictor.predict_values(image=some(tiny)["image"]).at(3)
    assert {bank: own.tolist() for bank, own in alone.trained.items()} == {"image": [True]}


def test_what_goes_by_all_banks_together_is_asked_where_all_are_there(predictor: Predictor, tiny: Dataset) -> None:
    near = predictor.usual.near["image"]
    usual = Usual(near={TOGETHER: replace(near, threshold=-1.0)})
    remote = usual.remoteness({TOGETHER: np.ones((2, len(near.mean)), np.float32)}, {})
    given = some(tiny, 2)
    told = usual.strange(predictor.forms, given, remote, {})
    assert all(told[TOGETHER])
    there = {"image": np.array([True, True]), "audio": np.array([True, False])}
    assert [bool(own) for own in usual.strange(predictor.forms, given, remote, there)[TOGETHER]] == [True, False]
    assert TOGETHER not in usual.strange(predictor.forms, {"image": given["image"]}, remote, {})
    assert isinstance(near, Familiarity)


@pytest.mark.parametrize(
    ("usual", "rule"),
    [
        ({"photo": {}}, "usual must be by bank of image, audio"),
        ({"image": {"brightness": [0.0, 1.0]}}, "image must have brightness, contrast, two numbers each"),
        ({"image": {"brightness": [1.0, 0.0], "contrast": [0.0, 1.0]}}, "two numbers each"),
        ({"image": {"brightness": [0.0, float("inf")], "contrast": [0.0, 1.0]}}, "two numbers each|finite|JSON"),
        ([], "usual must be by bank"),
    ],
)
def test_a_forged_card_is_refused(folder: Path, tmp_path: Path, usual: object, rule: str) -> None:
    import shutil

    forged = tmp_path / "forged"
    shutil.copytree(folder, forged)
    card = json.loads((folder / INPUTS).read_text())
    own = {name: value for name, value in card.items() if name not in ("format", "sha256")}
    write_sealed(forged / INPUTS, FORMAT, {**own, "usual": usual})
    with pytest.raises(InputError, match=rule):
        Predictor.load(forged)


def test_a_bank_that_no_training_row_has_reaches_nowhere(folder: Path, tiny: Dataset) -> None:
    kept = split(tiny.train, "clip_disjoint", 0)
    audio = tiny.train.banks["audio"]
    gone = replace(audio, index=np.where(np.isin(np.arange(len(tiny.train)), kept.train), -1, audio.index))
    train = replace(tiny.train, banks={**tiny.train.banks, "audio": gone})
    found = learnt(folder.parent / "saved", replace(tiny, train=train), key_of())
    assert "image" in found.extents
    assert "audio" not in found.extents

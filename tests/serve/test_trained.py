"""A model knows by their content the rows that it was trained or chosen on, and says what the others are worth."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save
from sklearn.metrics import accuracy_score, f1_score

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset, Partition
from mmtune.data.identity import distinct
from mmtune.networks.vectors import TOGETHER
from mmtune.serve.answer.tally import new_alone
from mmtune.serve.answer.trained import FILE, again, load_trained, save_trained, trained_on

READS = ("image", "audio")


def is_of(tiny: Dataset, bank: str, value: NDArray[Any]) -> bool:
    """Whether a value is one of training, number by number."""
    return any(np.array_equal(value, own) for own in tiny.train.banks[bank].values)


def test_rows_of_training_are_told_from_others_by_bank(tiny: Dataset) -> None:
    known = trained_on(tiny.train, READS)
    assert {name: len(own) for name, own in known.items()} == {
        name: len(np.unique(tiny.train.banks[name].index)) for name in READS
    }
    ours, theirs = np.array([7, 0, 299]), np.array([3, 119])
    values = {
        name: np.concatenate([tiny.train.banks[name].of_rows(ours), tiny.require_test().banks[name].of_rows(theirs)])
        for name in READS
    }
    mixed = {"image": values["image"], "audio": values["audio"][::-1]}
    there = {"image": np.array([True, False, True, True, True])}
    found = again(known, mixed, there, READS)
    assert found["image"].tolist() == [True, False, True, *(is_of(tiny, "image", own) for own in values["image"][3:])]
    assert found["audio"].tolist() == [*(is_of(tiny, "audio", own) for own in values["audio"][:2:-1]), *[True] * 3]
    assert not found["audio"].all()
    assert again(known, {"image": values["image"]}, {}, READS).keys() == {"image"}
    assert again({}, values, {}, READS) == {}


def test_a_row_of_few_numbers_is_known_by_all_of_them_together() -> None:
    body = np.array([[1.0, 2.0], [1.0, 2.0], [3.0, 4.0]], np.float32)
    dose = np.array([[5.0], [6.0], [5.0]], np.float32)
    lacking = replace(distinct(dose), index=np.array([0, 1, -1]))
    rows = Partition(banks={"body": distinct(body), "dose": lacking}, labels=np.zeros(3, np.int64), groups={})
    known = trained_on(rows, ("dose", "body"))
    assert {name: len(own) for name, own in known.items()} == {TOGETHER: 3}
    asked = {"body": body[[0, 1, 2, 2]], "dose": np.array([[5.0], [5.0], [5.0], [0.0]], np.float32)}
    there = {"dose": np.array([True, True, True, False])}
    assert again(known, asked, there, ("dose", "body"))[TOGETHER].tolist() == [True, True, False, True]
    alone = again(known, {"body": asked["body"]}, {}, ("dose", "body"))
    assert alone[TOGETHER].tolist() == [False, False, True, True]


def test_what_is_saved_is_what_is_read_and_nothing_else_is(tiny: Dataset, tmp_path: Path) -> None:
    known = trained_on(tiny.train, READS)
    digest = save_trained(tmp_path, known)
    found = load_trained(tmp_path, digest, READS)
    assert found.keys() == known.keys()
    assert all(np.array_equal(found[name], own) for name, own in known.items())
    assert load_trained(tmp_path, save_trained(tmp_path, {}), READS) == {}
    with pytest.raises(InputError, match="must have SHA-256"):
        load_trained(tmp_path, "0" * 64, READS)
    for bad, rule in (
        (save({"photo": known["image"]}), "must have int64 .* of 'photo'"),
        (save({"image": known["image"].astype(np.float64)}), "got float64"),
        (save({"image": known["image"][None]}), "must have int64"),
        (b"rubbish", "must hold arrays as safetensors"),
    ):
        (tmp_path / FILE).write_bytes(bad)
        with pytest.raises(InputError, match=rule):
            load_trained(tmp_path, hashlib.sha256(bad).hexdigest(), READS)
    (tmp_path / FILE).unlink()
    with pytest.raises(InputError):
        load_trained(tmp_path, digest, READS)


def test_the_others_are_scored_by_themselves() -> None:
    rng, classes = np.random.default_rng(0), ("a", "b", "c")
    labels, said = rng.integers(0, 3, (2, 60))
    new = rng.random(60) < 0.4
    known = [
        {"label": classes[label], "class": classes[own], "probability": 0.9, "trained": [] if is_new else ["image"]}
        for label, own, is_new in zip(labels, said, new, strict=True)
    ]
    [told] = new_alone(known, labels == said, classes)
    accuracy, f1 = accuracy_score(labels[new], said[new]), f1_score(labels[new], said[new], average="macro")
    count = int(new.sum())
    assert told.startswith(f"{60 - count} of these are what it was trained or chosen on; of the other {count}: ")
    assert f"accuracy {accuracy:.4f}, macro-F1 {f1:.4f}, " in told
    assert new_alone([own for own in known if not own["trained"]], (labels == said)[new], classes) == []
    [told] = new_alone([own for own in known if own["trained"]], (labels == said)[~new], classes)
    assert told.endswith("; none is new")


def test_a_row_without_a_picture_is_known_by_its_numbers_and_one_of_many_equal_ones_by_nothing() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (6, 4, 4), dtype=np.uint8)
    body = rng.normal(size=(6, 2)).astype(np.float32)
    photo = replace(distinct(pictures), index=np.array([0, 1, 2, -1, -1, -1]))
    rows = Partition(banks={"photo": photo, "body": distinct(body)}, labels=np.zeros(6, np.int64), groups={})
    known = trained_on(rows, ("photo", "body"))
    assert {name: len(own) for name, own in known.items()} == {"photo": 3, TOGETHER: 3}
    found = again(known, {"body": body}, {}, ("photo", "body"))
    assert {name: own.tolist() for name, own in found.items()} == {TOGETHER: [False] * 3 + [True] * 3}
    there = {"photo": np.arange(6) < 3}
    found = again(known, {"photo": pictures, "body": body}, there, ("photo", "body"))
    assert found["photo"].tolist() == [True] * 3 + [False] * 3
    assert found[TOGETHER].tolist() == [False] * 3 + [True] * 3
    sexes = Partition(banks={"sex": distinct(body[[0, 1, 0, 1, 0, 1], :1])}, labels=np.zeros(6, np.int64), groups={})
    assert trained_on(sexes, ("sex",)) == {}

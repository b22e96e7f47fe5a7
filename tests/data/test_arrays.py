"""Data sets from arrays in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filesets import refusal
from hypothesis import given, settings
from hypothesis import strategies as st

from mmtune.base.errors import InputError
from mmtune.data.building.arrays import from_arrays
from mmtune.data.dataset import Dataset
from mmtune.data.identity import shared
from mmtune.data.storage.store import load, save
from mmtune.serve.answer.given import values_given

LABELS = ["cat", "dog", "bee"] * 20


def arrays(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "photo": rng.integers(0, 256, (60, 3, 6, 5), np.uint8),
        "sound": rng.integers(-99, 99, (60, 1600), np.int16),
        "gait": rng.normal(size=(60, 4, 6)),
        "body": rng.normal(size=(60, 2)),
    }


def rows_of(made: Dataset, bank: str) -> list[bytes]:
    parts = [made.train, *([made.test] if made.test else [])]
    return [value.tobytes() for part in parts for value in part.banks[bank].of_rows(np.arange(len(part)))]


def test_what_comes_in_is_what_comes_out(tmp_path: Path) -> None:
    given_arrays = arrays()
    made = from_arrays(labels=LABELS, groups={"owner": [f"o{n // 6}" for n in range(60)]}, **given_arrays)
    assert made.classes == ("bee", "cat", "dog")
    for bank, values in given_arrays.items():
        wanted = values if values.dtype.kind != "f" else values.astype(np.float32)
        assert sorted(rows_of(made, bank)) == sorted(value.tobytes() for value in wanted)
    saved = save(made, tmp_path / "set")
    assert load(saved.folder).digest == made.digest


def test_the_test_may_be_given(tmp_path: Path) -> None:
    mask = np.arange(60) % 4 == 0
    made = from_arrays(labels=LABELS, test=mask, **arrays())
    test = made.require_test()
    assert np.array_equal(test.banks["photo"].of_rows(np.arange(15)), arrays()["photo"][mask])
    assert [made.classes[label] for label in test.labels] == [
        own for own, held in zip(LABELS, mask, strict=True) if held
    ]
    assert from_arrays(labels=LABELS, test=0, **arrays()).test is None


@settings(max_examples=25)
@given(seed=st.integers(0, 99), doubled=st.integers(1, 20))
def test_a_drawn_test_shares_nothing_with_training(seed: int, doubled: int) -> None:
    values = arrays(seed)
    for name in ("photo", "sound"):
        values[name][-3 * doubled :] = values[name][: 3 * doubled]
    made = from_arrays(labels=LABELS, seed=seed, **values)
    assert not shared(made.require_test(), made.train).any()
    owners = [f"o{n % 7}" for n in range(60)]
    apart = from_arrays(labels=LABELS, groups={"owner": owners}, keep_apart="owner", **arrays(seed))
    assert not set(apart.train.groups["owner"]) & set(apart.require_test().groups["owner"])
    assert apart.keep_apart == "owner"


def test_a_row_of_nan_has_nothing() -> None:
    values = arrays()
    values["gait"][::5] = np.nan
    made = from_arrays(labels=LABELS, **values)
    assert sum(int((part.banks["gait"].index < 0).sum()) for part in (made.train, made.require_test())) == 12


@pytest.mark.parametrize("labels", [[3, 7, 11] * 20, np.array([3, 7, 11] * 20, np.uint8), ["3", "7", "11"] * 20])
def test_numbers_are_classes_by_value(labels: Any) -> None:
    assert from_arrays(labels=labels, **arrays()).classes == ("3", "7", "11")


BAD: list[tuple[dict[str, Any], str]] = [
    ({}, "banks must be 1 to 64, got 0"),
    ({"labels": LABELS[:-1], "x": np.zeros((60, 2))}, "x must be numbers (59, ...)"),
    ({"labels": ["a"] * 60, "x": np.zeros((60, 2))}, "classes must be 2 to"),
    ({"labels": [[1], [2]] * 30, "x": np.zeros((60, 2))}, "labels must be whole numbers or names"),
    ({"labels": [0.5, 1] * 30, "x": np.zeros((60, 2))}, "labels must be whole numbers or names"),
    ({"labels": [], "x": np.zeros((0, 2))}, "labels must be whole numbers or names"),
    ({"labels": ["a", "b", float("nan")] * 20, "x": np.zeros((60, 2))}, "a class for every row, row 2 has nan"),
    ({"labels": ["a", pd.NA] * 30, "x": np.zeros((60, 2))}, "a class for every row, row 1 has <NA>"),
    (
        {"labels": np.ma.masked_array(LABELS, LABELS == 0), "x": np.zeros((60, 2))},
        "labels must be an array without a mask",
    ),
    ({"x": np.ma.masked_array(np.eye(60), np.eye(60) > 0)}, "x must be an array without a mask"),
    ({"x": [[1, 2], [3]] * 30}, "x must be an array, its rows differ"),
    ({"x": np.zeros((60, 2)), "groups": {"who": 5}}, "groups: who must have a text for each row, got 5"),
    ({"x": np.zeros((60, 2)), "seed": -1}, "seed must be a whole number from 0"),
    ({"x": np.zeros((60, 2)), "X": np.zeros((60, 2))}, "differ in more than capitals, got x and X"),
    ({"labels": ["a\n", "b"] * 30, "x": np.zeros((60, 2))}, "printable"),
    ({"x": 3.0}, "x must be numbers (60, ...)"),
    ({"x": np.full((60, 2), "a")}, "x must be numbers"),
    ({"x": np.full((60, 2), np.inf)}, "must be finite"),
    ({"x": np.where(np.arange(120).reshape(60, 2) == 7, np.nan, 1.0)}, "must be finite"),
    ({"class": np.zeros((60, 2))}, "must have a name such as"),
    ({"x": np.zeros((60, 2)), "groups": {"who": ["a"] * 59}}, "group who must be (60,)"),
    ({"x": np.zeros((60, 2)), "groups": {"who": ["a\n"] * 60}}, "control character"),
    ({"x": np.zeros((60, 2)), "test": np.zeros(59, bool)}, "of each of 60 rows"),
    ({"x": np.zeros((60, 2)), "test": np.arange(60) % 3 == 0}, "every class must have rows"),
    ({"x": np.zeros((60, 2)), "test": 1.0}, "share of the test"),
    ({"x": np.zeros((60, 2)), "name": "a/b"}, "name must be printable"),
    ({"x": np.zeros((60, 2)), "keep_apart": "who"}, "keep_apart must be a group that is known of every row (none)"),
    ({"x": np.zeros((60, 2)), "groups": {"a": ["", *"b" * 59]}, "keep_apart": "a"}, "known of every row (none), got"),
    (
        {"x": np.eye(60), "groups": {"who": ["a"] * 60}, "keep_apart": "who", "test": np.arange(60) < 20},
        "training and test must have no who in common, 1 of the test's 1 are in both, such as a",
    ),
]


@pytest.mark.parametrize(("given_arrays", "said"), BAD)
def test_what_does_not_fit_is_refused(given_arrays: dict[str, Any], said: str) -> None:
    assert said in refusal(lambda: from_arrays(**{"labels": LABELS, **given_arrays}))


def test_pictures_with_their_channels_last_are_refused() -> None:
    pictures = np.zeros((20, 16, 16, 3), np.uint8)
    with pytest.raises(InputError, match=r"photo must be pictures \(N, C, H, W\), got \(20, 16, 16, 3\): move the"):
        from_arrays(labels=[0, 1] * 10, photo=pictures)


def test_copies_of_a_given_test_are_left_out_of_training_and_said(caplog: pytest.LogCaptureFixture) -> None:
    given_arrays, mask = arrays(), np.arange(60) % 4 == 0
    given_arrays["photo"][1] = given_arrays["photo"][0]
    made = from_arrays(labels=LABELS, test=mask, **given_arrays)
    assert len(made.train) == 60 - mask.sum() - 1
    assert not shared(made.train, made.require_test()).any()
    assert "arrays: 1 training rows are left out, as the test has their content" in caplog.text


def test_a_member_that_is_none_is_not_known() -> None:
    who = ["ann", None, float("nan"), pd.NA, "bob"] * 12
    made = from_arrays(labels=LABELS, groups={"who": who}, **arrays())
    known = {own for part in (made.train, made.require_test()) for own in part.groups["who"].tolist()}
    assert known == {"", "ann", "bob"}
    assert not made.train.known("who")


@pytest.mark.parametrize(
    ("values", "kept"), [(np.uint8, (60, 5)), (np.int16, (60, 5)), (np.int16, (60, 4, 6)), (np.int16, (60, 40, 41))]
)
def test_short_rows_of_whole_numbers_are_numbers(values: type, kept: tuple[int, ...]) -> None:
    made = from_arrays(labels=LABELS, x=np.arange(np.prod(kept)).reshape(kept).astype(values))
    assert made.train.banks["x"].values.dtype == np.float32


@pytest.mark.parametrize("kind", ["<i2", ">i2"])
def test_sounds_are_the_data_sets_own_whatever_becomes_of_the_callers(kind: str) -> None:
    given_sounds = np.random.default_rng(0).integers(-999, 999, (60, 1600)).astype(kind)
    made = from_arrays(labels=LABELS, test=False, x=given_sounds)
    wanted = given_sounds.astype(np.int16)
    given_sounds[:] = 0
    bank = made.train.banks["x"]
    assert bank.values.dtype == np.int16
    assert bank.values.dtype.isnative
    assert np.array_equal(bank.of_rows(np.arange(60)), wanted)


@pytest.mark.parametrize("name", ["combined", "together", "scaled", "self", "_x", "class", "a b"])
def test_no_bank_has_the_name_of_something_else(name: str) -> None:
    with pytest.raises(InputError, match="a bank must have a name such as image or heart_rate, got"):
        from_arrays(labels=[0, 1] * 10, **{name: np.zeros((20, 2))})


def test_one_number_a_row_needs_no_second_axis() -> None:
    ages = np.arange(60.0)
    one, other = (from_arrays(labels=LABELS, age=own) for own in (ages, ages[:, None]))
    assert one.digest == other.digest
    assert np.array_equal(values_given("age", ages, one.forms["age"], "made"), ages[:, None].astype(np.float32))
    assert values_given("age", ages[:1], one.forms["age"], "made").shape == (1, 1)

"""What is usual of training values is where nearly all of them are, and what is far outside is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmtune.data.extent import FAR, extents, measures, outside
from mmtune.data.forms import Digit, Form, LogMel, Mfcc, Picture, Ready, Speech, Vector, Waveform, dtype_of

ALL: list[Form] = [
    Digit(),
    Picture(height=6, width=7, colour=True),
    Waveform(seconds=0.1),
    Speech(seconds=0.1),
    Mfcc(seconds=0.1),
    LogMel(seconds=0.1),
    Vector(columns=("a", "b")),
    Ready(sides=(4, 3)),
]


def values_of(form: Form, count: int = 300) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(1)
    scale = rng.uniform(0.5, 1, (count, *[1] * len(form.shape)))
    return (scale * rng.uniform(20, 100, (count, *form.shape))).astype(dtype_of(form))


@pytest.mark.parametrize("form", ALL, ids=lambda form: form.kind)
def test_hardly_any_training_value_is_outside_and_one_of_another_size_is(form: Form) -> None:
    values = values_of(form)
    usual = extents(form, values, np.arange(len(values)))
    assert list(usual) == list(measures(form))
    assert all(low <= high for low, high in usual.values())
    assert sum(bool(outside(form, usual, value)) for value in values) == 0
    strange = np.full_like(values[0], 1000 if isinstance(form, Vector) else 0)
    [first, *_] = outside(form, usual, strange)
    name, (low, high) = next(iter(usual.items()))
    assert first.startswith(name)
    assert f"in training {low:.4g} to {high:.4g}" in first


def test_numbers_by_name_are_each_told_in_the_units_of_the_table() -> None:
    raw = np.stack([np.linspace(18, 85, 200), np.linspace(1.5, 2.0, 200)], axis=1)
    form = Vector(columns=("age", "height")).fit(raw)
    values = form.scaled(raw)
    usual = extents(form, values, np.arange(200))
    assert list(usual) == ["age", "height"]
    assert usual["age"] == pytest.approx((18, 85), rel=1e-6)
    [told] = outside(form, usual, form.scaled(np.array([[40.0, 180.0]]))[0])
    assert told == "height 180, in training 1.5 to 2"
    # What few rows have is no mistake, and a table of many columns is measured as a whole.
    assert not outside(form, usual, values[0])
    assert list(measures(Vector(columns=tuple(map(str, range(33)))))) == ["mean", "deviation"]


def test_a_length_is_what_lies_between_the_first_sample_and_the_last() -> None:
    waves = np.zeros((3, 16_000), np.int16)
    waves[0, 4000:12_000:2] = 5
    waves[1, 0] = waves[1, -1] = 1
    [length] = measures(Speech()).values()
    assert length(waves).tolist() == [7999 / 16_000, 1.0, 0.0]


def test_a_level_is_in_decibels_of_full_scale() -> None:
    waves = np.full((1, 100), 3277, np.int16)
    [level] = measures(Waveform()).values()
    assert float(level(waves)[0]) == pytest.approx(-20, abs=0.01)


def test_a_few_misread_files_do_not_widen_what_is_usual() -> None:
    values = values_of(Digit(), 3000)
    before = extents(Digit(), values, np.arange(len(values)))
    values[:2] = 255
    after = extents(Digit(), values, np.arange(len(values)))
    low, high = before["brightness"]
    assert abs(after["brightness"][1] - high) < FAR * (high - low)
    assert outside(Digit(), after, values[0])

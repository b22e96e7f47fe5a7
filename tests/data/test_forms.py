"""Forms: what a file becomes, scales and their inverse, and JSON of unknown origin."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from filesets import refusal, write_wav
from sklearn.preprocessing import StandardScaler

from mmtune.base.errors import InputError
from mmtune.data.forms import (
    FORMS,
    Array,
    Digit,
    Form,
    LogMel,
    Mfcc,
    Picture,
    Ready,
    Speech,
    Vector,
    Waveform,
    dtype_of,
    form_from_json,
    form_to_json,
)
from mmtune.data.forms.scaled import scale_of

ALL: list[Form] = [
    Digit(),
    Picture(height=3, width=4, colour=True),
    Waveform(seconds=0.25),
    Mfcc(seconds=0.5),
    LogMel(seconds=0.5, bands=16),
    Vector(columns=("age", "größe in cm")),
    Array(sides=(4, 5)),
    Ready(sides=(2, 3), of="int16"),
]


def values_of(form: Form, count: int = 20) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(50, 20, (count, *form.shape)).clip(0, 255).astype(dtype_of(form))


@pytest.mark.parametrize("form", ALL, ids=lambda form: form.kind)
def test_a_form_survives_json_exactly(form: Form) -> None:
    for own in (form, form.fit(values_of(form))):
        assert form_from_json(json.loads(json.dumps(form_to_json(own))), "x") == own
    assert FORMS[form.kind] is type(form)


@pytest.mark.parametrize("form", ALL, ids=lambda form: form.kind)
def test_scaling_has_an_inverse_and_keeps_type_and_shape(form: Form) -> None:
    values = values_of(form)
    own = form.fit(values)
    scaled = own.scaled(values)
    assert (scaled.shape, scaled.dtype) == (values.shape, dtype_of(own))
    assert np.allclose(own.unscaled(scaled), values, atol=1e-3)


def test_standardised_is_what_scikit_learn_gives() -> None:
    for form in (LogMel(seconds=0.5, bands=16), Vector(columns=("a", "b", "c"))):
        values = values_of(form)
        values[..., 0] = 7  # which never varies
        width = values.shape[-1]
        expected = StandardScaler().fit_transform(values.reshape(-1, width).astype(np.float64))
        assert np.allclose(form.fit(values).scaled(values).reshape(-1, width), expected, atol=1e-5)


def test_a_recording_has_the_shape_that_its_form_says(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", rate=22_050, seconds=0.7)
    for seconds in (0.1, 0.5, 1.0, 1.37):
        for form in (Waveform(seconds=seconds), Mfcc(seconds=seconds), LogMel(seconds=seconds)):
            assert form.extract(path).shape == form.shape


def test_numbers_are_parsed_by_name_or_order() -> None:
    form = Vector(columns=("age", "height"), mean=(1.0, 2.0), std=(2.0, 4.0))
    assert form.parse(" 3, 6").tolist() == form.parse("height=6,age = 3").tolist() == [1.0, 1.0]
    for text in ("", "3", "3,4,5", "age=3", "age=3,weight=4", "a,b", "nan,1", "inf,1", "age=1,age=2", "age=1,6"):
        assert "numbers must be given for age, height" in refusal(lambda own=text: form.parse(own))


def test_of_filled_numbers_some_may_be_missing_and_none_may_be_infinite() -> None:
    form = Vector(columns=("age", "height"), mean=(1.0, 2.0), std=(2.0, 4.0), filled=True)
    assert (
        form.parse("age=3,height=").tolist()
        == form.parse("3,NA").tolist()
        == form.parse("3, nan").tolist()
        == [1.0, 0.0]
    )
    assert form.parse("age=3").tolist() == [1.0, 0.0]
    for text in ("", "3", ",", "age=,height=NA", "inf,1", "a,", "3,,4", "age=3,hieght=6", "age=3,6", "age=3,age=4"):
        assert "numbers must be given for age, height" in refusal(lambda own=text: form.parse(own))


def test_an_array_is_read_as_it_is_and_only_so(tmp_path: Path) -> None:
    form, path = Array(sides=(2, 3)), tmp_path / "a.npy"
    np.save(path, np.arange(6, dtype=np.int64).reshape(2, 3))
    assert np.array_equal(form.extract(path), np.arange(6).reshape(2, 3))
    np.save(path, np.array([[-0.0, 1, 2], [3, 4, 5]]))
    assert not np.signbit(form.extract(path)).any()
    for bad, said in (
        (np.zeros((3, 2)), "must be numbers of shape (2, 3)"),
        (np.zeros((2, 3), complex), "must be numbers of shape (2, 3)"),
        (np.full((2, 3), np.nan), "must be finite"),
        (np.full((2, 3), 1e300), "must be finite"),
        (np.array([["a"] * 3] * 2, object), "must be a valid .npy"),
    ):
        np.save(path, bad, allow_pickle=True)
        assert said in refusal(lambda: form.extract(path))
    assert "came ready-made" in refusal(lambda: Ready(sides=(2,)).read(path))


GOOD = form_to_json(Mfcc())
BAD: list[tuple[Any, str]] = [
    ({}, "must be one of digit, picture"),
    ([1], "got [1]"),
    ({"kind": ["digit"]}, "must be one of"),
    ({"kind": "digit", "more": 1}, "does not take these fields"),
    (GOOD | {"mean": [0.0] * 12}, "13 means"),
    (GOOD | {"std": [0.0] * 13}, "positive"),
    (GOOD | {"high": 0.0}, "positive"),
    (GOOD | {"low": float("nan")}, "finite"),
    (GOOD | {"mean": "mean"}, "mean must be Scale"),
    (GOOD | {"mean": None}, "does not take these fields"),
    (GOOD | {"seconds": 1}, "seconds must be float"),
    (GOOD | {"seconds": 1e9}, "seconds of a recording must be"),
    ({"kind": "picture", "height": 10**9, "width": 1, "colour": False}, "height of a picture"),
    ({"kind": "picture", "height": 1, "width": 1, "colour": 1}, "colour must be bool"),
    ({"kind": "array", "sides": [2**13, 2**13]}, "at most"),
    ({"kind": "array", "sides": []}, "must have sides"),
    ({"kind": "ready", "sides": [1], "of": "object"}, "must be float32, uint8 or int16"),
    ({"kind": "logmel", "seconds": 1.0, "bands": 999, "mean": [], "std": []}, "bands"),
    ({"kind": "vector", "columns": ["", "a"], "mean": [], "std": [], "filled": False}, "must be names, each once"),
    ({"kind": "vector", "columns": ["a"], "mean": [1.0], "std": [], "filled": False}, "1 means"),
]


@pytest.mark.parametrize(("data", "said"), BAD)
def test_bad_json_is_refused(data: Any, said: str) -> None:
    line = refusal(lambda: form_from_json(data, "where"))
    assert line.startswith("where: ")
    assert said in line


@pytest.mark.parametrize("form", ALL, ids=lambda form: form.kind)
@pytest.mark.parametrize("value", [None, -1, 0, 1e400, "x", [], {}, [[]], [None], True, 2**70])
def test_no_field_takes_what_it_should_not(form: Form, value: Any) -> None:
    """Each is refused, or is a form that can be used."""
    for field in fields(form):
        try:
            assert min(form_from_json(form_to_json(form) | {field.name: value}, "where").shape) >= 1
        except InputError:
            assert refusal(lambda own=field.name: form_from_json(form_to_json(form) | {own: value}, "where"))


@pytest.mark.parametrize(
    ("gain", "coding", "noted"),
    [
        (0.02, "PCM_U8", False),
        (0.3, "PCM_U8", False),
        (0.6, "ULAW", False),
        (0.01, "PCM_16", False),
        (1.0, "PCM_16", False),
        (1.2, "PCM_16", True),
        (3.0, "FLOAT", False),
        (3.0, "PCM_24", True),
    ],
)
def test_a_recording_that_is_clipped_is_noted_and_read_all_the_same(
    gain: float, coding: str, noted: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A vowel's sum of harmonics; at full scale nothing is cut off, and floats may go beyond."""
    seconds = np.arange(16_000) / 16_000
    wave = sum(np.sin(2 * np.pi * 140 * n * seconds) / n for n in range(1, 9))
    path = tmp_path / "a.wav"
    soundfile.write(path, wave / wave.max() * gain, 16_000, subtype=coding)
    assert Waveform().read(path).shape == (16_000,)
    assert [("clipped" in own.message, str(path) in own.message) for own in caplog.records] == [(True, True)] * noted


@pytest.mark.parametrize("middle", [0.0, 5.0, 1.7e12])
@pytest.mark.parametrize("deviation", [1e-3, 1.0, 1000.0])
def test_mean_and_deviation_are_rounded_far_below_what_they_scale(middle: float, deviation: float) -> None:
    if deviation < 1e-12 * middle:
        pytest.skip("no float64 tells these apart")
    values = np.random.default_rng(0).normal(middle, deviation, (500, 1))
    mean, std = scale_of(values)
    scaled = (values - mean) / std
    assert abs(scaled.mean()) < 1e-3
    assert scaled.std() == pytest.approx(1, rel=1e-5)
    assert scale_of(np.full((9, 1), 123_456_789.0))[0] == 123_456_789.0


@pytest.mark.parametrize("value", [0.1, 0.7, 36.6, 1000000.1, 3.0, 0.0, -0.3])
@pytest.mark.parametrize("rows", [50, 200, 1000])
def test_equal_numbers_have_no_deviation_whatever_their_sum_is_rounded_to(value: float, rows: int) -> None:
    made = Vector(columns=("dose",)).fit(np.full((rows, 1), value))
    assert made.std == (1.0,)
    assert float(made.scaled(np.array([[value + 0.1]]))[0, 0]) == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize(("hertz", "level"), [(5_000, 0.35), (4_800, 0.13), (440, 0.01)])
def test_what_need_not_be_a_voice_is_heard_as_it_was_in_training(hertz: float, level: float, tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, level * np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000), 16_000)
    for form in (Waveform(), LogMel(), Mfcc()):
        np.testing.assert_array_equal(form.read(path), form.scaled(form.extract(path)))


def test_a_hush_is_nothing_to_any_form(tmp_path: Path) -> None:
    path = tmp_path / "hush.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 1e-3, 16_000), 16_000, subtype="FLOAT")
    for form in (Waveform(), LogMel(), Mfcc(), Speech()):
        assert "nothing is said in it" in refusal(lambda own=form: own.read(path))


def test_floats_that_are_whole_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "whole.wav"
    soundfile.write(path, 3_760 * np.sin(np.arange(8_000) / 9), 16_000, subtype="FLOAT")
    assert "floats must be samples from -1 to 1, got 376" in refusal(lambda: Waveform().extract(path))

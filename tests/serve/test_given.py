"""What a user gives a model becomes what the data set has of it, whether as files, as numbers or as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from PIL import Image

from mmtune.base.errors import InputError
from mmtune.data.forms import Array, Digit, Form, LogMel, Mfcc, Picture, Ready, Vector, Waveform
from mmtune.data.media.recordings import SAMPLE_RATE
from mmtune.serve.answer.given import assigned, values_given

RNG = np.random.default_rng(0)
RAW = RNG.normal(1e6, 40.0, (9, 2))
BODY = Vector(columns=("weight", "wing")).fit(RAW)
WAVES = (3000 * np.sin(np.arange(SAMPLE_RATE) * np.array([[0.1], [0.2], [0.3]]))).astype(np.int16)
MEL = LogMel(bands=8)
MEL = MEL.fit(MEL.of_waves(WAVES))
PICTURES = RNG.integers(0, 256, (3, 3, 6, 5), dtype=np.uint8)


def given(own: Any, form: Form) -> np.ndarray:
    return values_given("bank", own, form, "birds")


def test_numbers_are_in_the_units_of_the_table_however_they_are_held() -> None:
    expected = BODY.scaled(RAW)
    frame = pd.DataFrame(RAW, columns=["weight", "wing"])
    texts = [f"{weight!r}, {wing!r}" for weight, wing in RAW.tolist()]
    for own in (RAW, RAW.tolist(), torch.from_numpy(RAW), frame[["wing", "weight"]], frame.to_dict("list"), texts):
        np.testing.assert_array_equal(given(own, BODY), expected)
    one = expected[:1]
    for own in (RAW[0], tuple(RAW[0]), texts[0], {"wing": RAW[0, 1], "weight": RAW[0, 0]}):
        np.testing.assert_array_equal(given(own, BODY), one)


def test_columns_may_be_numbers_as_those_of_a_frame_without_names_are() -> None:
    form = Vector(columns=("0", "1")).fit(RAW)
    for own in (pd.DataFrame(RAW), {0: RAW[:, 0], 1: RAW[:, 1]}):
        np.testing.assert_array_equal(given(own, form), form.scaled(RAW))


def test_of_filled_numbers_some_may_be_missing_and_are_the_mean(caplog: pytest.LogCaptureFixture) -> None:
    form = Vector(columns=("weight", "wing"), filled=True).fit(RAW)
    expected = form.scaled(np.array([[RAW[0, 0], form.mean[1]], [form.mean[0], RAW[1, 1]]]))
    gaps = {"weight": [RAW[0, 0], None], "wing": [None, RAW[1, 1]]}
    for own in (gaps, pd.DataFrame(gaps), np.array([[RAW[0, 0], np.nan], [np.nan, RAW[1, 1]]])):
        np.testing.assert_array_equal(given(own, form), expected)
    assert "bank: empty, so the mean of training: weight, wing" in caplog.text
    caplog.clear()
    for one in (
        {"weight": RAW[0, 0], "wing": None},
        [RAW[0, 0], None],
        f"weight={float(RAW[0, 0])!r}",
        f"{float(RAW[0, 0])!r},NA",
    ):
        np.testing.assert_array_equal(given(one, form), expected[:1])
        assert caplog.text.endswith("bank: empty, so the mean of training: wing\n")
    for own, rule in (
        ({"weight": [1, None], "wing": [2, None]}, "bank must have a number in each row, row 1 has none"),
        (np.array([1.0, np.inf]), "bank must be finite, row 0 holds NaN or infinity"),
        ({"weight": "1", "wing": None}, "bank must be a text, a mapping or an array"),
    ):
        with pytest.raises(InputError, match=rule):
            given(own, form)
    with pytest.raises(InputError, match="bank must be finite, row 0 holds NaN"):
        given(np.array([1.0, np.nan]), BODY)


@pytest.mark.parametrize("form", [Waveform(), MEL, Mfcc()], ids=lambda own: own.kind)
def test_samples_become_what_their_file_becomes(form: Any, tmp_path: Path) -> None:
    for wave in (WAVES[0], WAVES[1, :5000], np.tile(WAVES[2], 2)):
        soundfile.write(tmp_path / "x.wav", wave, SAMPLE_RATE, subtype="PCM_16")
        expected = given(tmp_path / "x.wav", form)
        assert expected.shape == (1, *form.shape)
        whole = wave.astype(np.int64).tolist()
        for own in (wave, whole, wave[None], wave / 32768, (wave / 32768).astype(np.float32), str(tmp_path / "x.wav")):
            np.testing.assert_array_equal(given(own, form), expected)


def test_pictures_and_arrays_of_one_row_or_of_several_are_taken_as_they_are(tmp_path: Path) -> None:
    form = Picture(height=6, width=5, colour=True)
    np.testing.assert_array_equal(given(PICTURES, form), PICTURES)
    np.testing.assert_array_equal(given(PICTURES[0].astype(np.int64), form), PICTURES[:1])
    files = [tmp_path / f"{n}.png" for n in range(3)]
    for path, own in zip(files, PICTURES, strict=True):
        Image.fromarray(own.transpose(1, 2, 0)).save(path)
    np.testing.assert_array_equal(given(files, form), PICTURES)
    values = RNG.normal(size=(4, 2, 3))
    np.save(tmp_path / "a.npy", values[1])
    for kind in (Array(sides=(2, 3)), Ready(sides=(2, 3))):
        np.testing.assert_array_equal(given(values, kind), values.astype(np.float32))
    np.testing.assert_array_equal(given(tmp_path / "a.npy", Array(sides=(2, 3))), values[1:2].astype(np.float32))
    assert given([1, 0, 1], Ready(sides=(3,))).dtype == np.float32


PIXELS = "bank must be a file or an array (28, 28) or (B, 28, 28) of uint8, got "
HEARD = "bank must be a file or an array (n,) or (B, n) of 16 kHz as int16 or as floats in [-1, 1), got "
NUMBERS = "bank must be a text, a mapping or an array (2,) or (B, 2) of float32, got "


@pytest.mark.parametrize(
    ("own", "form", "said"),
    [
        (np.zeros((28, 28)), Digit(), f"{PIXELS}float64 from 0 to 0"),
        (np.ones((28, 28), bool), Digit(), f"{PIXELS}bool from 1 to 1"),
        ([0, 40_000], MEL, f"{HEARD}int64 from 0 to 40000"),
        (np.full((28, 28), 256), Digit(), f"{PIXELS}int64 from 256 to 256"),
        (np.zeros((28, 28, 3), np.uint8), Digit(), f"{PIXELS}uint8 of shape (28, 28, 3)"),
        (np.zeros((0, 28, 28), np.uint8), Digit(), f"{PIXELS}uint8 of shape (0, 28, 28)"),
        (None, Digit(), f"{PIXELS}NoneType of object"),
        (["a.png", 3], Digit(), f"{PIXELS}list of <U"),
        ([[1, 2], [3]], Digit(), f"{PIXELS}list"),
        ({"a": 1}, Digit(), f"{PIXELS}dict of object"),
        (np.ma.masked_array(np.zeros((28, 28), np.uint8)), Digit(), f"{PIXELS}MaskedArray of uint8"),
        (np.array([0.0, 3.0]), MEL, f"{HEARD}float64 from 0 to 3"),
        (np.array([True]), MEL, f"{HEARD}bool from 1 to 1"),
        (np.zeros((1, 2, 3), np.int16), MEL, f"{HEARD}int16 of shape (1, 2, 3)"),
        (np.array([0.0, np.nan]), MEL, "bank must be finite, row 0 holds NaN or infinity"),
        (np.array([[1.0, 2], [1, np.inf]]), BODY, "bank must be finite, row 1 holds NaN or infinity"),
        ([1.0, 2, 3], BODY, f"{NUMBERS}float64 of shape (3,)"),
        ({"wing": 3}, BODY, "bank must have the numbers weight, wing, got wing"),
        ({"wing": 3, "weight": "x"}, BODY, f"{NUMBERS}ndarray of"),
        ({"wing": [3, 4], "weight": [[1], [1, 2]]}, BODY, "bank must have as many numbers in each of weight, wing"),
        ({"wing": [3, 4], "weight": 1}, BODY, "bank must have as many numbers in each of weight, wing"),
        ("1", BODY, "numbers must be given for weight, wing, got '1'"),
        ("x.png", Ready(sides=(2,)), "x.png: this model was trained on birds, whose bank came ready-made"),
        ([1, 2, 3], Ready(sides=(2,)), "bank must be an array (2,) or (B, 2) of float32, got int64 of shape (3,)"),
    ],
    ids=lambda own: str(own)[:30].replace("\n", ""),
)
def test_what_does_not_fit_is_refused_in_a_line(own: Any, form: Form, said: str) -> None:
    with pytest.raises(InputError) as refusal:
        given(own, form)
    assert str(refusal.value).startswith(said)
    assert "\n" not in str(refusal.value)


def test_what_is_made_of_one_column_is_given_once() -> None:
    forms: dict[str, Form] = {"clip": Waveform(), "clip_mfcc": Mfcc(), "photo": Picture(height=2, width=2)}
    assert assigned({"clip": "a.wav", "photo": "b.png"}, forms) == {
        "clip": "a.wav",
        "clip_mfcc": "a.wav",
        "photo": "b.png",
    }
    apart = {"clip": "a.wav", "clip_mfcc": "c.wav", "photo": "b.png"}
    assert assigned(apart, forms) == apart

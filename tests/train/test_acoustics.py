"""Speakers, rooms, microphones and noise: each is what a plain computation of it gives, and stays within its range."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from mmtune.base.errors import InputError
from mmtune.train.acoustics import filtered, loudest_moment, noise, of_speech, played, room, tilted, unclipped
from mmtune.train.augmentations import SpeechAugmentation

RATE, ROWS = 16_000, 64


def waves(samples: int = 4000, rows: int = ROWS) -> Tensor:
    return 0.1 * torch.randn(rows, samples, generator=torch.Generator().manual_seed(2))


def test_played_as_it_is_it_is_the_same_and_later_it_is_moved() -> None:
    x = waves(rows=3)
    one, later = torch.ones(3), torch.tensor([0.0, 7.0, -40.0])
    found = played(x, one, later)
    torch.testing.assert_close(found[0], x[0])
    torch.testing.assert_close(found[1, 7:], x[1, :-7])
    torch.testing.assert_close(found[2, :-40], x[2, 40:])
    assert not found[1, :7].any()
    assert not found[2, -40:].any()


@pytest.mark.parametrize("factor", [0.8, 1.0, 1.25])
def test_faster_is_higher(factor: float) -> None:
    tone = torch.sin(2 * math.pi * 500 * torch.arange(8000) / RATE).unsqueeze(0)
    found = played(tone, torch.tensor([factor]), torch.zeros(1))
    peak = float(torch.fft.rfft(found)[0].abs().argmax()) * RATE / 8000
    assert peak == pytest.approx(500 * factor, abs=2)


def test_a_filter_is_a_convolution_that_does_not_come_round() -> None:
    x, taps = waves(300, 2), torch.randn(2, 50)
    found = filtered(x, torch.fft.rfft(taps, n=600))
    for row in range(2):
        expected = np.convolve(x[row].double(), taps[row].double())[:300]
        np.testing.assert_allclose(found[row], expected, atol=1e-4)


def test_a_tilt_is_so_many_decibels_an_octave() -> None:
    amplitudes = tilted(torch.tensor([6.0, -3.0]), torch.zeros(2, 8000), RATE)
    decibels = 20 * amplitudes.log10()
    hertz = torch.fft.rfftfreq(16_000, 1 / RATE)
    at = [int((hertz - f).abs().argmin()) for f in (500, 1000, 2000, 4000)]
    torch.testing.assert_close(decibels[:, at], torch.tensor([[-6.0, 0, 6, 12], [3, 0, -3, -6]]), rtol=0, atol=0.01)


def test_a_room_begins_with_the_sound_and_falls_by_60_decibels_in_its_time() -> None:
    own = SpeechAugmentation(room=0.05)  # the smallest, so that all are of one size
    found = room(own, waves(16_000, 2000))
    assert (found[:, 0] == 1).all()
    power = found[:, 1:].square().mean(0)
    early, late = power[:40].mean(), power[380:420].mean()
    assert float(10 * (early / late).log10()) == pytest.approx(60 * 380 / 800, abs=1.0)


def test_noise_is_as_loud_as_is_asked_and_spares_the_others() -> None:
    torch.manual_seed(0)
    x = waves(16_000, 400)
    own = SpeechAugmentation(noise=0.7, snr=10.0)
    made = noise(own, x)
    ratio = 20 * (loudest_moment(x, RATE) / made.square().mean(1).sqrt()).log10()
    noisy = ratio.isfinite()
    assert 0.6 < float(noisy.float().mean()) < 0.8
    assert 10 <= float(ratio[noisy].min()) < 12
    assert 38 < float(ratio[noisy].max()) <= 40.001


def test_a_loudest_moment_is_that_of_a_loop() -> None:
    x = waves(4000, 5)
    expected = [max(float(part.square().mean().sqrt()) for part in row.split(400)) for row in x]
    torch.testing.assert_close(loudest_moment(x, RATE), torch.tensor(expected))


def test_what_would_be_clipped_is_made_quieter_and_nothing_else() -> None:
    x = torch.tensor([[0.5, -0.2], [2.0, -1.0], [0.1, -3.0]])
    found = unclipped(x)
    assert torch.equal(found[0], x[0])
    assert float(found.abs().max()) == pytest.approx(1 - 1 / 32768)
    torch.testing.assert_close(found[1] / found[1, 0], x[1] / x[1, 0])


def test_nothing_asked_is_nothing_done() -> None:
    x = waves()
    assert torch.equal(of_speech(SpeechAugmentation(), (4000,))(x), x)


@pytest.mark.parametrize("field", ["speed", "shift", "tilt", "room", "noise"])
def test_each_field_changes_every_row_on_its_own_and_leaves_what_it_is_given(field: str) -> None:
    x = waves().repeat_interleave(2, 0)[:ROWS]
    before = x.clone()
    found = of_speech(SpeechAugmentation(**{field: 1.0 if field == "noise" else 0.05}), (4000,))(x)
    assert torch.equal(x, before)
    assert found.isfinite().all()
    assert (found[::2] != found[1::2]).any(1).all(), "equal rows are drawn for on their own"


def test_silence_stays_silence() -> None:
    own = SpeechAugmentation(speed=0.2, shift=0.01, tilt=6, room=0.2, noise=1.0)
    assert not of_speech(own, (4000,))(torch.zeros(3, 4000)).any()


def test_features_are_no_waveform() -> None:
    with pytest.raises(InputError, match=r"must be given a waveform \(samples,\), got values of shape \(39, 13\)"):
        of_speech(SpeechAugmentation(), (39, 13))

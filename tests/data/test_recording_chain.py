"""What lies between a mouth and a file does what its names say."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import welch

from mmtune.data.bundled.recording_chain import (
    Conditions,
    at_peak,
    coloured_noise,
    filtered,
    impulse_response,
    placed,
    record,
    reverberant,
    rms,
    through_microphone,
    trimmed,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_room_falls_by_60_decibels_in_its_time(rng: np.random.Generator) -> None:
    room = impulse_response(0.3, 0.0, rng)[1:]
    left = np.log10(np.cumsum(np.square(room)[::-1])[::-1])[: len(room) // 2]  # Schroeder's integral
    slope, _ = np.polyfit(np.arange(len(left)) / 16000, 10 * left, 1)
    assert slope * 0.3 == pytest.approx(-60, rel=0.1)


def test_the_mouth_is_so_much_louder_than_the_room(rng: np.random.Generator) -> None:
    room = impulse_response(0.2, 6.0, rng)
    assert -10 * np.log10(np.square(room[1:]).sum()) == pytest.approx(6.0)
    wave = rng.standard_normal(1000)
    assert np.allclose(reverberant(wave, np.array([1.0])), wave)


@pytest.mark.parametrize("colour", [0.0, 1.0, 2.0])
def test_noise_has_its_colour(colour: float, rng: np.random.Generator) -> None:
    noise = coloured_noise(160_000, colour, rng)
    hertz, power = welch(noise, 16000, nperseg=2048)
    middle = (hertz > 100) & (hertz < 6000)
    slope, _ = np.polyfit(np.log(hertz[middle]), np.log(power[middle]), 1)
    assert slope == pytest.approx(-colour, abs=0.1)
    assert rms(noise) == pytest.approx(1.0)


def test_a_microphone_tilts_by_decibels_an_octave_and_keeps_its_band() -> None:
    def level(hertz: float, tilt: float) -> float:
        tone = np.sin(2 * np.pi * hertz * np.arange(16000) / 16000)
        return 20 * float(np.log10(rms(through_microphone(tone, tilt, 50.0, 3400.0)) / rms(tone)))

    assert level(1000, 3) == pytest.approx(0, abs=0.1)
    assert level(500, 3) == pytest.approx(-3, abs=0.1)
    assert level(3400, 0) == pytest.approx(-3, abs=0.1)
    assert level(50, 0) == pytest.approx(-3, abs=0.1)


def test_a_filter_that_passes_everything_changes_nothing(rng: np.random.Generator) -> None:
    wave = rng.standard_normal(12_347)
    assert np.allclose(filtered(wave, np.ones_like), wave)


def test_a_word_is_trimmed_and_put_where_it_is_said(rng: np.random.Generator) -> None:
    word = rng.uniform(0.5, 1.0, 4000)
    for share in (0.0, 0.4, 1.0):
        made = placed(word, 1.0, share)
        assert len(made) == 16000
        assert np.flatnonzero(made)[0] == round(share * 12000)
        assert np.array_equal(trimmed(made), word)
    assert np.array_equal(placed(word, 0.1, 0.5), word)


def test_the_peak_is_at_its_level(rng: np.random.Generator) -> None:
    assert np.abs(at_peak(rng.standard_normal(100), -6.0)).max() == pytest.approx(10 ** (-0.3))


def test_the_same_draws_are_the_same_recording_and_others_are_not(rng: np.random.Generator) -> None:
    spoken = rng.standard_normal(8000).astype(np.float32)
    once, again, other = (record(spoken, 22050, np.random.default_rng(seed), Conditions()) for seed in (1, 1, 2))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)

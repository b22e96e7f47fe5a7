"""What lies between a mouth and a file: speed, pauses, a room, what else is heard there, a microphone, a level.

Waves are (n,) float64 at 16 kHz. Nothing here goes through BLAS, so that no sum depends on a machine's threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmtune.data.media.recordings import SAMPLE_RATE, resampled

Wave = NDArray[np.float64]
Span = tuple[float, float]
AUDIBLE = 0.01  # of a word's peak: where it begins and ends
LOWEST = 20.0  # Hz: what is below is heard by nobody
SECONDS = 1.0  # that a recording lasts, if what is heard in it is not longer
DRAWS = 6  # whose mean lies seldom far from the middle
PIVOT = 1000.0  # Hz: where a tilt changes nothing
OCTAVE = 20 * float(np.log10(2.0))  # decibels of twice an amplitude


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Between what the conditions of a recording lie.

    speed: the factor by which a word is faster, and its voice higher. place: the share of a second's silence that is
    before the word. decay: of a room, in seconds to 60 dB (RT60). direct: decibels by which what comes straight from
    the mouth is above the room's answer. snr: decibels of the word above the background. colour: of the background,
    whose power falls as 1 / frequency to that. tilt: of the microphone, decibels an octave. low, high: the band that
    it passes, Hz. peak: decibels of full scale.
    """

    speed: Span = (0.85, 1.2)
    place: Span = (0.3, 0.7)
    decay: Span = (0.05, 0.4)
    direct: Span = (5.0, 20.0)
    snr: Span = (5.0, 40.0)
    colour: Span = (0.0, 2.0)
    tilt: Span = (-3.0, 3.0)
    low: Span = (30.0, 300.0)
    high: Span = (3400.0, 8000.0)
    peak: Span = (-26.0, -3.0)


def record(spoken: NDArray[np.float32], rate: int, rng: np.random.Generator, conditions: Conditions) -> Wave:
    """A word at a rate in Hz, (n,) float32, as a recording of a second or longer has it, its conditions drawn.

    Rooms, backgrounds' colours and levels are drawn evenly, whatever else is rarely far from the middle.
    """

    def evenly(span: Span) -> float:
        return float(rng.uniform(*span))

    def mostly(span: Span) -> float:
        return span[0] + (span[1] - span[0]) * float(rng.random(DRAWS).mean())

    word = trimmed(resampled(spoken, round(rate * mostly(conditions.speed))).astype(np.float64))
    room = impulse_response(evenly(conditions.decay), evenly(conditions.direct), rng)
    heard = placed(reverberant(word, room), SECONDS, mostly(conditions.place))
    background = coloured_noise(len(heard), evenly(conditions.colour), rng)
    noisy = heard + background * rms(word) / decibels(mostly(conditions.snr))
    band = mostly(conditions.low), mostly(conditions.high)
    return at_peak(through_microphone(noisy, mostly(conditions.tilt), *band), evenly(conditions.peak))


def decibels(level: float) -> float:
    """The amplitude ratio of a level in decibels."""
    return float(10.0 ** (level / 20.0))


def rms(wave: Wave) -> float:
    """The root of the mean square."""
    return float(np.sqrt(np.square(wave).mean()))


def trimmed(wave: Wave) -> Wave:
    """A word without the silence around it."""
    loud = np.flatnonzero(np.abs(wave) >= AUDIBLE * np.abs(wave).max())
    return wave[loud[0] : loud[-1] + 1]


def placed(wave: Wave, seconds: float, share: float) -> Wave:
    """With silence around it, that share of it before, for so many seconds in all, or as long as it is."""
    spare = max(0, round(seconds * SAMPLE_RATE) - len(wave))
    before = round(share * spare)
    return np.pad(wave, (before, spare - before))


def impulse_response(decay: float, direct: float, rng: np.random.Generator) -> Wave:
    """Of a small room: one at once, then noise that falls by 60 dB in `decay` seconds and is `direct` dB weaker.

    As Polack's model has it (Lebart et al., 2001).
    """
    times = np.arange(1, round(decay * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(times)) * 10.0 ** (-3.0 * times / decay)
    return np.concatenate([[1.0], tail / (np.sqrt(np.square(tail).sum()) * decibels(direct))])


def reverberant(wave: Wave, room: Wave) -> Wave:
    """A wave as a room answers it, with the end of the answer."""
    from scipy.signal import fftconvolve

    heard: Wave = fftconvolve(wave, room)
    return heard


def coloured_noise(count: int, colour: float, rng: np.random.Generator) -> Wave:
    """(count,) noise of RMS 1, the power of which falls as 1 / frequency to `colour`: 0 white, 1 pink, 2 brown."""
    noise = filtered(rng.standard_normal(count), lambda hertz: np.maximum(hertz, LOWEST) ** (-colour / 2))
    return noise / rms(noise)


def through_microphone(wave: Wave, tilt: float, low: float, high: float) -> Wave:
    """Tilted by decibels an octave, and passed from `low` to `high` Hz by Butterworth's second order."""

    def gain(hertz: Wave) -> Wave:
        above = np.maximum(hertz, LOWEST)
        band = 1 / np.sqrt((1 + (low / above) ** 4) * (1 + (above / high) ** 4))
        return band * (above / PIVOT) ** (tilt / OCTAVE)

    return filtered(wave, gain)


def filtered(wave: Wave, gain: Callable[[Wave], Wave]) -> Wave:
    """A wave with its spectrum times the gain at each frequency in Hz, without delay."""
    from scipy.fft import irfft, next_fast_len, rfft

    count = next_fast_len(len(wave), real=True)
    hertz: Wave = np.fft.rfftfreq(count, 1 / SAMPLE_RATE).astype(np.float64)
    made: Wave = irfft(rfft(wave, count) * gain(hertz), count)
    return made[: len(wave)]


def at_peak(wave: Wave, level: float) -> Wave:
    """With its loudest sample at so many decibels of full scale."""
    return wave * (decibels(level) / np.abs(wave).max())

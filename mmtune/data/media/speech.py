"""The spoken part of a recording: found by its energy, trimmed, centred, and as loud as any other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.media.recordings import SAMPLE_RATE, to_float, to_int16

WINDOW, HOP, FFT = 400, 160, 512  # samples: 25 ms every 10 ms
BAND = (100.0, 3_800.0)  # Hz: above hum, and within what a telephone passes
BELOW = 30.0  # dB below its loudest moment that a word still reaches
ABOVE, CLEAR = 8.0, 15.0  # dB above the background that a word reaches, and below its loudest moment at most
GAP = 0.3  # s: a longer pause parts two words, a shorter one may be the stop within "six" or "eight"
SHORTEST = 0.06  # s: what is shorter is a click
WEAKEST = 10.0  # dB that a word may have less energy than the one that has most: what has still less is a noise
SHOWN = 10
NOTHING = 1e-9  # mean square of digital silence
FAINT, FLAT = -50.0, 6.0  # dB of its loudest moment, and of its dynamics: a background with nothing said in it
WHOLE, HUSHED = (0.0, SAMPLE_RATE / 2), -55.0  # as BAND and FAINT, where it need not be a voice that is heard


class Part(NamedTuple):
    """Samples from `start` up to `end`."""

    start: int
    end: int


def levels(wave: NDArray[np.float32], band: tuple[float, float] = BAND) -> NDArray[np.float64]:
    """The mean square in a band, that of a voice, in dB, of each 25 ms of (n,) samples at 16 kHz, every 10 ms: (T,)."""
    wave = np.pad(wave - wave.mean(), (0, max(0, WINDOW - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), FFT)) ** 2
    hertz = np.fft.rfftfreq(FFT, 1 / SAMPLE_RATE)
    heard = power[:, (hertz >= band[0]) & (hertz <= band[1])].sum(axis=1)
    # Two sides of the spectrum; by Parseval the mean square of a frame under the window.
    mean_square: NDArray[np.float64] = 2 * heard / FFT / np.square(np.hanning(WINDOW)).sum()
    return 10 * np.log10(np.maximum(mean_square, 1e-12))


def words(wave: NDArray[np.float32]) -> list[Part]:
    """The words of (n,) samples at 16 kHz: stretches above the background with a pause between them; one at least.

    The background is the tenth of all moments, those of digital silence left out, that are the quietest.
    """
    level = levels(wave)
    top, background = float(level.max()), background_of(level)
    loud = np.flatnonzero(level >= max(top - BELOW, min(background + ABOVE, top - CLEAR)))
    parts = np.split(loud, np.flatnonzero(np.diff(loud) * HOP > GAP * SAMPLE_RATE) + 1)
    energies = [float((10 ** (level[own] / 10)).sum()) for own in parts]
    least = max(energies) * 10 ** (-WEAKEST / 10)
    long = [len(own) * HOP >= SHORTEST * SAMPLE_RATE for own in parts]
    kept = [own for own, energy, lasts in zip(parts, energies, long, strict=True) if lasts and energy >= least]
    strongest = parts[energies.index(max(energies))]
    return [Part(int(own[0]) * HOP, int(own[-1]) * HOP + WINDOW) for own in kept or [strongest]]


def background_of(level: NDArray[np.float64]) -> float:
    """The level of the quietest tenth that is no digital silence."""
    sounding = level[level > 10 * np.log10(NOTHING)]
    return float(np.percentile(sounding, 10)) if len(sounding) else float(level.min())


def require_heard(
    wave: NDArray[np.float32], where: str, band: tuple[float, float] = BAND, faint: float = FAINT
) -> None:
    """Raise InputError, naming `where`, where (n,) samples at 16 kHz are a faint background and nothing else."""
    if is_background(wave, band, faint):
        top = float(levels(wave, band).max())
        raise InputError(f"{where}: nothing is said in it: at most {top:.0f} dB, and the same all the time")


def only_word(wave: NDArray[np.float32], where: str) -> Part:
    """The word of (n,) samples at 16 kHz; InputError, naming `where`, where there is more than one."""
    found = words(wave)
    if len(found) > 1:
        at = ", ".join(f"{part.start / SAMPLE_RATE:.1f}" for part in found[:SHOWN])
        raise InputError(f"{where}: one word must be said in it, {len(found)} are, at {at} s")
    return found[0]


def around(wave: NDArray[np.float32], part: Part, count: int) -> NDArray[np.int16]:
    """(count,) of (n,) samples with a part of them in the middle, zeros where there are none."""
    start = (part.start + part.end - count) // 2
    kept = wave[max(0, start) : start + count]
    before = max(0, -start)
    return to_int16(np.pad(kept, (before, count - len(kept) - before)))


def is_background(wave: NDArray[np.float32], band: tuple[float, float] = BAND, faint: float = FAINT) -> bool:
    """Whether (n,) samples at 16 kHz are faint and alike all the time, so that nothing can have been said."""
    level = levels(wave, band)
    top = float(level.max())
    return top < faint and top - background_of(level) < FLAT


def spoken(waves: NDArray[np.int16]) -> NDArray[np.int16]:
    """(M, samples) at 16 kHz to as many of the same length: the loudest word of each, in the middle, its peak 1."""
    made = np.zeros_like(waves)
    for own, wave in zip(made, waves, strict=True):
        samples = to_float(wave)
        loudest = loudest_word(samples)
        own[:] = centred(samples[loudest.start : loudest.end], len(wave))
    return made


def loudest_word(wave: NDArray[np.float32]) -> Part:
    """The word of (n,) samples that has the most energy."""
    return max(words(wave), key=lambda part: float(np.square(wave[part.start : part.end], dtype=np.float64).sum()))


def centred(word: NDArray[np.float32], count: int) -> NDArray[np.int16]:
    """(n,) samples without their mean, with a peak of 1, in the middle of (count,); of what is longer, the middle."""
    word = word - word.mean(dtype=np.float64).astype(np.float32)
    cut = max(0, len(word) - count) // 2
    word = word[cut : cut + count]
    before = (count - len(word)) // 2
    peak = max(float(np.abs(word).max()), 1 / 32768)
    return to_int16(np.pad(word / np.float32(peak), (before, count - len(word) - before)))

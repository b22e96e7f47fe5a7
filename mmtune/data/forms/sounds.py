"""Recordings: their samples, the word that is spoken in them, or features of either over time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.base.rules import require_count
from mmtune.data.forms.form import Form
from mmtune.data.forms.scaled import Scale, Standardised, require_scale, scale_of
from mmtune.data.media.features import COEFFICIENTS, SHORT_HOP, SHORT_WINDOW, frames_of, log_mel, mfcc
from mmtune.data.media.recordings import (
    MAX_SECONDS,
    SAMPLE_RATE,
    at_rate,
    clipped_share,
    loudest,
    read_wav,
    resampled,
    to_int16,
)
from mmtune.data.media.speech import HUSHED, WHOLE, WINDOW, Part, around, only_word, require_heard, spoken, words

LOG = logging.getLogger("mmtune")
CLIPPED = 0.001
"""Of a recording's samples so many may stand at its loudest value."""


@dataclass(frozen=True, kw_only=True)
class Sound(Form):
    """What is made from a recording, cut or padded to so many seconds at 16 kHz."""

    source: ClassVar[str] = "recording"
    seconds: float = 1.0

    def __post_init__(self) -> None:
        if not 0.1 <= self.seconds <= MAX_SECONDS:
            raise InputError(f"seconds of a recording must be 0.1 to {MAX_SECONDS:g}, got {self.seconds:g}")

    @property
    def samples(self) -> int:
        return round(self.seconds * SAMPLE_RATE)

    def read(self, path: Path) -> NDArray[Any]:
        return self.of_sounds([heard(path)], [str(path)])[0]

    def extract(self, path: Path) -> NDArray[Any]:
        return self.of_waves(to_int16(at_rate(*read_wav(path), self.samples))[None])[0]

    def of_sounds(self, sounds: Sequence[NDArray[np.float32]], where: Sequence[str]) -> NDArray[Any]:
        """The values of sounds (n,) at 16 kHz that a model is given; InputError, saying where, where one has nothing.

        What a data set is built from may be as faint as it is.
        """
        for sound, name in zip(sounds, where, strict=True):
            self.require_heard(sound, name)
        cut = [self.cut(sound, name) for sound, name in zip(sounds, where, strict=True)]
        return self.scaled(self.of_waves(np.stack(cut)))

    def require_heard(self, sound: NDArray[np.float32], where: str) -> None:
        """Raise InputError, naming `where`, where a sound is a faint background and nothing else."""
        require_heard(sound, where, WHOLE, HUSHED)

    def cut(self, sound: NDArray[np.float32], where: str) -> NDArray[np.int16]:
        """(samples,) int16 of (n,) samples at 16 kHz."""
        return to_int16(at_rate(sound, SAMPLE_RATE, self.samples))

    def of_waves(self, waves: NDArray[np.int16]) -> NDArray[Any]:
        """(M, samples) to unscaled values."""
        raise NotImplementedError


def heard(path: Path) -> NDArray[np.float32]:
    """The samples (n,) at 16 kHz of a recording that a model is given; what is clipped is noted in the log."""
    samples, rate = read_wav(path)
    share = clipped_share(samples)
    if share > CLIPPED:
        LOG.warning("%s: clipped: %.1f %% of its samples stand at its loudest value", path, 100 * share)
    return resampled(samples, rate)


@dataclass(frozen=True, kw_only=True)
class Waveform(Sound):
    """The samples themselves."""

    kind: ClassVar[str] = "waveform"
    dtype: ClassVar[type[np.generic]] = np.int16

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.samples,)

    def of_waves(self, waves: NDArray[np.int16]) -> NDArray[Any]:
        return waves


@dataclass(frozen=True, kw_only=True)
class Speech(Waveform):
    """The samples of what is spoken: the word found and trimmed, in the middle, its peak 1 (`data.media.speech`)."""

    kind: ClassVar[str] = "speech"

    def require_heard(self, sound: NDArray[np.float32], where: str) -> None:
        require_heard(sound, where)

    def cut(self, sound: NDArray[np.float32], where: str) -> NDArray[np.int16]:
        """What a data set has of it, its loudest second, or what lies around the word, if that is elsewhere.

        InputError where it is more than one.
        """
        word = only_word(sound, where)
        if len(sound) > self.samples:
            start = loudest(sound, self.samples)
            # Where a word ends is known to a window.
            if word.start < start - WINDOW or word.end > start + self.samples + WINDOW:
                return around(sound, word, self.samples)
            sound = sound[start : start + self.samples]
        return super().cut(sound, where)

    def each(self, path: Path) -> tuple[list[float], NDArray[Any]]:
        """When each word of a file begins, in seconds, and the values of all; InputError where nothing is said."""
        sound = heard(path)
        self.require_heard(sound, str(path))
        found = words(sound)
        alone = [around(sound[part.start : part.end], Part(0, part.end - part.start), self.samples) for part in found]
        return [part.start / SAMPLE_RATE for part in found], self.of_waves(np.stack(alone))

    def of_waves(self, waves: NDArray[np.int16]) -> NDArray[Any]:
        return spoken(waves)


@dataclass(frozen=True, kw_only=True)
class Mfcc(Sound):
    """Khacef's features (frames, 13): each coefficient standardised, then the training clips' range mapped to [0, 1].

    mean, std: 13 numbers each; low, high: the extremes of the standardised training clips. Clips that were not fitted
    may leave [0, 1] a little.
    """

    kind: ClassVar[str] = "mfcc"
    mean: Scale = (0.0,) * COEFFICIENTS
    std: Scale = (1.0,) * COEFFICIENTS
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_scale(self.mean, self.std, COEFFICIENTS)
        require_scale((self.low,), (self.high - self.low,), 1)

    @property
    def shape(self) -> tuple[int, ...]:
        return (frames_of(self.samples), COEFFICIENTS)

    def of_waves(self, waves: NDArray[np.int16]) -> NDArray[Any]:
        return mfcc(waves)

    def fit(self, values: NDArray[Any]) -> Self:
        """InputError where a coefficient never varies."""
        mean, std = scale_of(values)
        ends = np.stack([pick(values.reshape(-1, COEFFICIENTS), axis=0) for pick in (np.min, np.max)])
        scaled = (ends.astype(np.float64) - mean) / np.where(std > 0, std, 1.0)
        low, high = float(scaled.min()), float(scaled.max())
        return replace(self, mean=tuple(mean.tolist()), std=tuple(std.tolist()), low=low, high=high)

    @property
    def unfitted(self) -> Self:
        return type(self)(seconds=self.seconds)

    def scaled(self, values: NDArray[Any]) -> NDArray[Any]:
        scaled = (values.astype(np.float64) - np.array(self.mean)) / np.array(self.std)
        unit: NDArray[np.float64] = (scaled - self.low) / (self.high - self.low)
        return unit.astype(np.float32)

    def unscaled(self, values: NDArray[Any]) -> NDArray[Any]:
        scaled = values.astype(np.float64) * (self.high - self.low) + self.low
        return (scaled * np.array(self.std) + np.array(self.mean)).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class LogMel(Standardised, Sound):
    """Logarithms of so many mel bands (frames, bands), 25 ms of Hann's window every 10 ms."""

    kind: ClassVar[str] = "logmel"
    bands: int = 40

    def __post_init__(self) -> None:
        Sound.__post_init__(self)
        require_count("bands of a log-mel spectrogram", self.bands, 8, 128)
        super().__post_init__()

    @property
    def shape(self) -> tuple[int, ...]:
        # The window of 512 that is transformed holds 400 samples that count.
        return (1 + (self.samples - SHORT_WINDOW) // SHORT_HOP, self.bands)

    def of_waves(self, waves: NDArray[np.int16]) -> NDArray[Any]:
        return log_mel(waves, self.bands)

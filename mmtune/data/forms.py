"""What the values of a bank are, and how a file becomes one: a model is given at predict time what it was trained on.

A form is written beside its values as JSON and read again from files of unknown origin.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.base.rules import require_count
from mmtune.data.archives import open_npy
from mmtune.data.features import COEFFICIENTS, SHORT_HOP, SHORT_WINDOW, frames_of, log_mel, mfcc
from mmtune.data.pictures import MAX_SIDE, SIDE, read_digit, read_picture
from mmtune.data.recordings import (
    MAX_SECONDS,
    SAMPLE_RATE,
    at_rate,
    clipped_share,
    loudest,
    read_wav,
    resampled,
    to_int16,
)
from mmtune.data.speech import HUSHED, WHOLE, WINDOW, Part, around, only_word, require_heard, spoken, words

LOG = logging.getLogger("mmtune")
CLIPPED = 0.001
"""Of a recording's samples so many may stand at its loudest value."""
MOST_VALUES = 2**24
PART = 2**18
ROUNDED = 20  # bits
NOTHING = ("", "nan", "na", "n/a", "null", "none")
"""What a number's text says where there is none, in any case."""
Scale = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Form:
    """What all forms have. source: what kind of file a value is made from, "" for none; kind: its name in JSON."""

    kind: ClassVar[str]
    source: ClassVar[str]
    dtype: ClassVar[type[np.generic]] = np.float32

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one value."""
        raise NotImplementedError

    def read(self, path: Path) -> NDArray[Any]:
        """The value that a file becomes; InputError where it cannot."""
        return self.scaled(self.extract(path)[None])[0]

    def extract(self, path: Path) -> NDArray[Any]:
        """A value before it is scaled."""
        raise InputError(f"{path}: these values came ready-made, so no file can be turned into one")

    def fit(self, values: NDArray[Any]) -> Self:
        """The form with the scale of unscaled training values (M, *shape)."""
        return self

    @property
    def unfitted(self) -> Self:
        """The form without the scale of any values."""
        return self

    def scaled(self, values: NDArray[Any]) -> NDArray[Any]:
        """(M, *shape) unscaled to scaled."""
        return values

    def unscaled(self, values: NDArray[Any]) -> NDArray[Any]:
        """The inverse of `scaled`."""
        return values


@dataclass(frozen=True, kw_only=True)
class Digit(Form):
    """A picture of one digit as MNIST has it: 28 x 28, light ink on black, centred by mass."""

    kind: ClassVar[str] = "digit"
    source: ClassVar[str] = "picture"
    dtype: ClassVar[type[np.generic]] = np.uint8

    @property
    def shape(self) -> tuple[int, ...]:
        return (SIDE, SIDE)

    def extract(self, path: Path) -> NDArray[Any]:
        return read_digit(path)


@dataclass(frozen=True, kw_only=True)
class Picture(Form):
    """A picture as it is, of so many pixels, in grey (height, width) or in colour (3, height, width)."""

    kind: ClassVar[str] = "picture"
    source: ClassVar[str] = "picture"
    dtype: ClassVar[type[np.generic]] = np.uint8
    height: int
    width: int
    colour: bool = False

    def __post_init__(self) -> None:
        require_count("height of a picture", self.height, 1, MAX_SIDE)
        require_count("width of a picture", self.width, 1, MAX_SIDE)

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, self.height, self.width) if self.colour else (self.height, self.width)

    def extract(self, path: Path) -> NDArray[Any]:
        return read_picture(path, self.height, self.width, self.colour)


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
    """The samples of what is spoken: the word found and trimmed, in the middle, its peak 1 (`mmtune.data.speech`)."""

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
class Standardised(Form):
    """Values whose last axis was standardised over the training values.

    mean, std: () until they are fitted; until then values stay as they are.
    """

    mean: Scale = ()
    std: Scale = ()

    def __post_init__(self) -> None:
        require_scale(self.mean, self.std, self.shape[-1] if self.mean else 0)

    def fit(self, values: NDArray[Any]) -> Self:
        return self.fitted(*scale_of(values))

    def fitted(self, mean: NDArray[np.float64], std: NDArray[np.float64]) -> Self:
        """The form with a scale; what never varies keeps its unit."""
        return replace(self, mean=tuple(mean.tolist()), std=tuple(np.where(std > 0, std, 1.0).tolist()))

    @property
    def unfitted(self) -> Self:
        return replace(self, mean=(), std=())

    def scaled(self, values: NDArray[Any]) -> NDArray[Any]:
        if not self.mean:
            return values.astype(np.float32, copy=False)
        mean, std = np.array(self.mean), np.array(self.std)
        with np.errstate(over="ignore"):  # whoever takes it refuses what is not finite
            return ((values.astype(np.float64) - mean) / std).astype(np.float32)

    def unscaled(self, values: NDArray[Any]) -> NDArray[Any]:
        if not self.mean:
            return values
        with np.errstate(over="ignore"):
            return (values.astype(np.float64) * np.array(self.std) + np.array(self.mean)).astype(np.float32)


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


def as_float(text: str) -> float:
    """The number of a text; ValueError where it is none, as with Python's own underscores."""
    return float(text.replace("_", "?"))


def is_nothing(text: str) -> bool:
    """Whether a number's text says that there is none."""
    return text.strip().lower() in NOTHING


@dataclass(frozen=True, kw_only=True)
class Vector(Standardised):
    """Numbers by name, such as the columns of a table.

    filled: whether some of them may be missing, which unscaled are NaN, and become the mean of their column.
    """

    kind: ClassVar[str] = "vector"
    source: ClassVar[str] = "numbers"
    columns: tuple[str, ...]
    filled: bool = False

    def __post_init__(self) -> None:
        if not all(self.columns) or not 0 < len(self.columns) == len(set(self.columns)):
            raise InputError(f"columns of a vector must be names, each once, got {self.columns}")
        super().__post_init__()

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.columns),)

    @property
    def unfitted(self) -> Self:
        """The form without the scale of any values, and without what becomes of gaps, which is of the scale."""
        return replace(self, mean=(), std=(), filled=False)

    def fit(self, values: NDArray[Any]) -> Self:
        """InputError where a column has no number at all."""
        present = ~np.isnan(values)
        if present.all():
            return super().fit(values)
        if not (some := present.any(axis=0)).all():
            raise InputError(f"{self.columns[some.argmin()]} must have a number in training, has none")
        scales = [scale_of(own[there, None]) for own, there in zip(values.T, present.T, strict=True)]
        mean, std = (np.concatenate(own) for own in zip(*scales, strict=True))
        return self.fitted(mean, std)

    def scaled(self, values: NDArray[Any]) -> NDArray[Any]:
        scaled = super().scaled(values)
        return np.where(np.isnan(scaled), np.float32(0), scaled) if self.filled and self.mean else scaled

    def parse(self, text: str) -> NDArray[Any]:
        """The value of numbers in a text, as NAME=NUMBER, each name once, or in order, with commas between them."""
        return self.of_numbers(self.read_numbers(text), text)

    def of_numbers(self, numbers: NDArray[np.float64], text: str) -> NDArray[Any]:
        """The value of numbers (D,) as `read_numbers` has them of a text."""
        with np.errstate(over="ignore"):
            value = self.scaled(numbers[None])[0]
        if not np.isfinite(value).all():
            raise InputError(f"numbers of {', '.join(self.columns)} must be finite in float32, got {text!r}")
        return value

    def read_numbers(self, text: str) -> NDArray[np.float64]:
        """The unscaled numbers (D,) of a text, NaN where one is missing, as only those may be that are filled."""
        parts = [part.strip().rpartition("=") for part in text.split(",")]
        names = [name.strip() for name, _, _ in parts]
        if not any(names):
            names = list(self.columns)
        try:
            given = dict(zip(names, [number for _, _, number in parts], strict=True))
            if len(given) < len(parts) or not given.keys() <= {*self.columns}:
                raise ValueError
            texts = [given.get(name, "") for name in self.columns]
            gaps = [self.filled and is_nothing(own) for own in texts]
            numbers = np.array([math.nan if gap else as_float(own) for own, gap in zip(texts, gaps, strict=True)])
            if all(gaps) or not np.isfinite(numbers[np.logical_not(gaps)]).all():
                raise ValueError
        except ValueError as error:
            raise InputError(f"numbers must be given for {', '.join(self.columns)}, got {text!r}") from error
        return numbers + 0.0  # -0.0 is 0.0, as in a table


@dataclass(frozen=True, kw_only=True)
class Sided(Form):
    """Values of any shape."""

    sides: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.sides or min(self.sides) < 1 or math.prod(self.sides) > MOST_VALUES:
            raise InputError(
                f"an array must have sides of 1 or more and at most {MOST_VALUES:,} numbers, got {self.sides}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.sides


@dataclass(frozen=True, kw_only=True)
class Array(Sided):
    """Float32 numbers of a shape, as a .npy file has them."""

    kind: ClassVar[str] = "array"
    source: ClassVar[str] = "array"

    def extract(self, path: Path) -> NDArray[Any]:
        found = open_npy(path)
        if found.shape != self.sides or found.dtype.kind not in "fiu":
            raise InputError(f"{path}: must be numbers of shape {self.sides}, got {found.shape} {found.dtype}")
        with np.errstate(over="ignore"):
            value = np.array(found, np.float32) + np.float32(0)  # -0.0 and 0.0 are one value
        if not np.isfinite(value).all():
            raise InputError(f"{path}: every number must be finite in float32, one is not")
        return value


@dataclass(frozen=True, kw_only=True)
class Ready(Sided):
    """Values that came ready-made, as arrays in memory or as somebody's features: no file becomes one."""

    kind: ClassVar[str] = "ready"
    source: ClassVar[str] = ""
    of: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.of not in ("float32", "uint8", "int16"):
            raise InputError(f"values must be float32, uint8 or int16, got {self.of}")


FORMS: dict[str, type[Any]] = {
    form.kind: form for form in (Digit, Picture, Waveform, Speech, Mfcc, LogMel, Vector, Array, Ready)
}


def dtype_of(form: Form) -> np.dtype[Any]:
    """The type of a form's values."""
    return np.dtype(form.of if isinstance(form, Ready) else form.dtype)


def require_scale(mean: Scale, std: Scale, count: int) -> None:
    """Raise InputError unless there are so many means, and as many deviations above 0, all finite."""
    if len(mean) != count or len(std) != count:
        raise InputError(f"a scale must have {count} means and deviations, got {len(mean)} and {len(std)}")
    if not all(isinstance(x, float) and math.isfinite(x) for x in (*mean, *std)):
        raise InputError(f"a scale must be of finite numbers, got {(*mean, *std)[:8]}")
    if count and min(std) <= 0:
        raise InputError(f"a scale must have positive deviations and range, got {min(std):g}")


def scale_of(values: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and deviation of what lies on the last axis, part by part, as all in float64 would take twice the memory.

    Rounded to a millionth of the deviation, so that they are the same on every processor. That of equal numbers is 0,
    whatever their sum was rounded to.
    """
    rows = values.reshape(-1, values.shape[-1])
    starts, count, eps = range(0, len(rows), PART), np.float64(len(rows)), np.finfo(np.float64).eps
    mean = sum(rows[start : start + PART].sum(axis=0, dtype=np.float64) for start in starts) / count
    squares = sum(np.square(rows[start : start + PART] - mean).sum(axis=0) for start in starts)
    variance = squares / count
    # scikit-learn's bound: what summing equal numbers may leave as variance.
    variance = np.where(variance <= count * eps * variance + np.square(count * eps * mean), 0.0, variance)
    part, exponent = np.frexp(np.sqrt(variance))
    std = np.ldexp(np.rint(np.ldexp(part, ROUNDED)), exponent - ROUNDED)
    unit = np.ldexp(1.0, exponent - ROUNDED)
    return np.where(std > 0, np.rint(mean / unit) * unit, mean), std


def form_to_json(form: Form) -> dict[str, Any]:
    """A form as plain JSON, with its kind."""
    return {"kind": form.kind, **asdict(form)}


def form_from_json(data: object, where: str) -> Form:
    """The inverse of `form_to_json`; InputError, naming `where`, on an unknown kind and on missing or bad fields."""
    kind = data.get("kind") if isinstance(data, Mapping) else data
    if not isinstance(data, Mapping) or not isinstance(kind, str) or kind not in FORMS:
        raise InputError(f"{where}: what a bank is must be one of {', '.join(FORMS)}, got {kind!r:.80}")
    cls, given = FORMS[kind], {name: value for name, value in data.items() if name != "kind"}
    asked = {field.name: field.type for field in fields(cls)}
    try:
        made = {name: tuple(own) if isinstance(own, list) else own for name, own in given.items()}
        require_types(made, asked)
        return cls(**made)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: {kind} does not take these fields: {error}") from error
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def require_types(given: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise TypeError unless every value is of its field's type; a field's default is of no use in a file."""
    kinds = {"int": int, "bool": bool, "str": str, "float": float}
    inner = {"Scale": float, "tuple[int, ...]": int, "tuple[str, ...]": str}
    if set(given) != set(asked):
        raise TypeError(f"must be {', '.join(asked) or 'none'}, got {', '.join(map(str, given)) or 'none'}")
    for name, value in given.items():
        kind = asked[name]
        several = isinstance(value, tuple) and kind in inner
        sound = all(type(one) is inner[kind] for one in value) if several else type(value) is kinds.get(kind)
        if not sound:
            raise TypeError(f"{name} must be {kind}, got {value!r:.80}")

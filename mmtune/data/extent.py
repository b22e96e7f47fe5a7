"""How far the training values of a bank reach, in a few plain measures, so that a value far outside can be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.data.forms import Form, Sound, Speech, Vector, Waveform
from mmtune.data.media.recordings import SAMPLE_RATE, SIXTEEN_BIT

Values = NDArray[Any]
Extents = dict[str, tuple[float, float]]
"""By measure, the least and the greatest that counts as usual."""
MOST, BLOCK = 10_000, 256
USUAL, WHOLE = (0.1, 99.9), (0.0, 100.0)
"""Percentiles of training values: one file that was misread does not widen what is usual. Of numbers by name all count,
as a few rows with a rare one are no mistakes."""
MOST_COLUMNS = 32
FAR = 0.25
"""Of the distance between them, how much further out a value is far."""
LEAST = 1e-9


def flat(values: Values) -> NDArray[np.float64]:
    """(M, ...) to (M, n)."""
    return values.reshape(len(values), -1).astype(np.float64)


def brightness(values: Values) -> NDArray[np.float64]:
    found: NDArray[np.float64] = flat(values).mean(axis=1) / 255
    return found


def contrast(values: Values) -> NDArray[np.float64]:
    found: NDArray[np.float64] = flat(values).std(axis=1) / 255
    return found


def level(values: Values) -> NDArray[np.float64]:
    found: NDArray[np.float64] = 10 * np.log10(np.square(flat(values) / SIXTEEN_BIT).mean(axis=1) + LEAST)
    return found


def seconds(values: Values) -> NDArray[np.float64]:
    """From the first sample that is not zero to the last."""
    sounding = values != 0
    first, behind = sounding.argmax(axis=1), sounding[:, ::-1].argmax(axis=1)
    found: NDArray[np.float64] = np.where(sounding.any(axis=1), values.shape[1] - first - behind, 0) / SAMPLE_RATE
    return found


def mean(values: Values) -> NDArray[np.float64]:
    found: NDArray[np.float64] = flat(values).mean(axis=1)
    return found


def deviation(values: Values) -> NDArray[np.float64]:
    found: NDArray[np.float64] = flat(values).std(axis=1)
    return found


def number(form: Vector, place: int, values: Values) -> NDArray[np.float64]:
    found: NDArray[np.float64] = form.unscaled(values)[:, place].astype(np.float64)
    return found


Measure = Callable[[Values], NDArray[np.float64]]
PICTURE: dict[str, Measure] = {"brightness": brightness, "contrast": contrast}
WAVEFORM: dict[str, Measure] = {"level in dB": level}
SPEECH: dict[str, Measure] = {"length in s": seconds}
ANY: dict[str, Measure] = {"mean": mean, "deviation": deviation}


def measures(form: Form) -> Mapping[str, Measure]:
    """What is measured of the values of a form; of a few numbers each by its name, in the units of the table."""
    if isinstance(form, Vector) and len(form.columns) <= MOST_COLUMNS:
        return {column: partial(number, form, place) for place, column in enumerate(form.columns)}
    if isinstance(form, Speech):
        return SPEECH
    if isinstance(form, Waveform):
        return WAVEFORM
    return PICTURE if form.source == "picture" and not isinstance(form, Sound) else ANY


def extents(form: Form, values: Values, used: NDArray[np.int64]) -> Extents:
    """What is usual of training values (M, *shape), those of the numbers `used` (K,), K >= 1: from low to high.

    At most MOST of them are measured, BLOCK at a time, so that large ones do not fill the memory.
    """
    some = used[:: max(1, -(-len(used) // MOST))]
    blocks = np.split(some, range(BLOCK, len(some), BLOCK))
    found = {name: [measure(values[block]) for block in blocks] for name, measure in measures(form).items()}
    between = WHOLE if isinstance(form, Vector) else USUAL
    ends = {name: np.percentile(np.concatenate(own), between) for name, own in found.items()}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def outside(form: Form, usual: Extents, value: Values) -> list[str]:
    """What of a value (*shape) lies far outside of what is usual, each as a few words."""
    found = []
    for name, measure in measures(form).items():
        low, high = usual[name]
        own, further = float(measure(value[None])[0]), FAR * (high - low)
        if not low - further <= own <= high + further:
            found.append(f"{name} {own:.4g}, in training {low:.4g} to {high:.4g}")
    return found

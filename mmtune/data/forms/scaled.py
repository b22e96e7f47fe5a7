"""Values that are standardised over what was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.forms.form import Form

PART = 2**18
ROUNDED = 20  # bits
Scale = tuple[float, ...]


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


def require_scale(mean: Scale, std: Scale, count: int) -> None:
    """Raise InputError unless there are so many means, and as many deviations above 0, all finite."""
    if len(mean) != count or len(std) != count:
        raise InputError(f"a scale must have {count} means and deviations, got {len(mean)} and {len(std)}")
    if not all(isinstance(x, float) and math.isfinite(x) for x in (*mean, *std)):
        raise InputError(f"a scale must be of finite numbers, got {(*mean, *std)[:8]}")
    if count and min(std) <= 0:
        raise InputError(f"a scale must have positive deviations and range, got {min(std):g}")

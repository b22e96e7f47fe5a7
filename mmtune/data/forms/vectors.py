"""Numbers by name."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.forms.scaled import Standardised, scale_of

NOTHING = ("", "nan", "na", "n/a", "null", "none")
"""What a number's text says where there is none, in any case."""


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


def as_float(text: str) -> float:
    """The number of a text; ValueError where it is none, as with Python's own underscores."""
    return float(text.replace("_", "?"))


def is_nothing(text: str) -> bool:
    """Whether a number's text says that there is none."""
    return text.strip().lower() in NOTHING

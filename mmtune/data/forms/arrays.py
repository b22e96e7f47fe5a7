"""Arrays of any shape, out of files or ready-made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.forms.form import Form
from mmtune.data.media.archives import open_npy

MOST_VALUES = 2**24


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

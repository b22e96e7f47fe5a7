"""What all forms have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError


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

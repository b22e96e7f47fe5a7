"""Pictures: of a digit as MNIST has it, or as they are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mmtune.base.rules import require_count
from mmtune.data.forms.form import Form
from mmtune.data.media.pictures import MAX_SIDE, SIDE, read_digit, read_picture


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

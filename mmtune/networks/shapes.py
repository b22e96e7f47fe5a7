"""What a network is sized from, which a data set says: the shapes of its banks, and its classes. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """By bank, the shape of one value as a model gets it, and the number of classes.

    A picture is (channels, height, width), a sequence of pictures (steps, height, width), features over time (steps,
    features), a waveform (samples,), a vector (width,).
    """

    banks: Mapping[str, Shape]
    classes: int

    def __getitem__(self, bank: str) -> Shape:
        return self.banks[bank]

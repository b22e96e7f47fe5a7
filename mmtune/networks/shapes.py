"""What a network is sized from, which a data set says: the shapes of its banks, and its classes. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmtune.base.errors import InputError
from mmtune.data.dataset import Bank, Partition

Shape = tuple[int, ...]
KINDS = {
    1: "a waveform (samples,)",
    2: "features over time (steps, features)",
    3: "a picture (channels, height, width)",
}


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


def shapes_of(partition: Partition, classes: int) -> Shapes:
    """What a network for these rows is sized from."""
    return Shapes(banks={name: input_shape(bank) for name, bank in partition.banks.items()}, classes=classes)


def input_shape(bank: Bank) -> Shape:
    """The shape of one value of a bank as a model gets it: a picture in grey has one channel."""
    return as_read(bank.values.shape[1:], bank.values.dtype)


def as_read(shape: Shape, kind: np.dtype[Any]) -> Shape:
    """The shape of one value as a model gets it, by its own shape and type."""
    return (1, *shape) if kind == np.uint8 and len(shape) == 2 else shape


def require_kind(reader: object, shape: Shape, *dimensions: int) -> None:
    """Raise InputError unless a shape has so many dimensions, none of them empty."""
    if len(shape) not in dimensions or 0 in shape:
        kinds = " or ".join(KINDS[n] for n in dimensions)
        raise InputError(f"{type(reader).__name__} must be given {kinds}, got values of shape {tuple(shape)}")

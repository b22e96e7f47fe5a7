"""What all configurations have: rules that stand with their fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from mmtune.base.errors import InputError
from mmtune.base.rules import require_choice, require_count, require_range
from mmtune.networks.shapes import Shapes

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")
MOST_CHANNELS = 4


def ruled(default: T, rule: Callable[[str, T], None]) -> T:
    """A field whose value `rule` is given with its name."""
    return field(default=default, metadata={"rule": rule})


def choice(default: T, allowed: tuple[T, ...]) -> T:
    """A field that is one of the allowed values, of the same type."""
    return ruled(default, partial(require_choice, allowed=allowed))


def count(default: int, low: int, high: int) -> int:
    """A field that is a whole number in [low, high]."""
    return ruled(default, partial(require_count, low=low, high=high))


def odd(default: int, high: int) -> int:
    """A field that is an odd whole number in [1, high]: a kernel that has a middle."""
    return ruled(default, partial(require_odd, high=high))


def require_odd(name: str, value: int, high: int) -> None:
    """Raise InputError unless `value` is an odd whole number in [1, high]."""
    require_count(name, value, 1, high)
    if value % 2 == 0:
        raise InputError(f"{name} must be an odd number from 1 to {high}, got {value}")


def number(default: float, low: float, high: float) -> float:
    """A field that is a finite number in [low, high]."""
    return ruled(default, partial(require_range, low=low, high=high))


def rate(default: float) -> float:
    """A field that is a dropout's rate."""
    return number(default, 0.0, 0.95)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """Checks its fields when it is made; InputError states the rule and the value."""

    def __post_init__(self) -> None:
        for f in fields(self):
            if "rule" in f.metadata:
                f.metadata["rule"](f.name, getattr(self, f.name))


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Checked):
    """The configuration of a network that the papers have; one of a user's own needs no such base.

    `reads` names the banks that its network takes, and `build` makes that for the shapes of a data set.
    """

    @property
    def reads(self) -> tuple[str, ...]:
        return ("image", "audio")

    def build(self, shapes: Shapes) -> nn.Module:
        """The network, with fresh weights from torch's current random state; InputError where shapes do not fit it."""
        raise NotImplementedError


def require_picture(shapes: Shapes) -> tuple[int, ...]:
    """(channels, height, width) of the bank image; InputError where it is no picture in grey or colour."""
    shape = require_shape(shapes, "image", 3)
    if shape[0] > MOST_CHANNELS:
        raise InputError(f"image must be pictures of {MOST_CHANNELS} channels at most for this network, got {shape}")
    return shape


def require_shape(shapes: Shapes, bank: str, axes: int) -> tuple[int, ...]:
    """The shape of a bank's values; InputError unless there is such a bank and its values have so many axes."""
    shape = shapes.banks.get(bank)
    if shape is None or len(shape) != axes:
        named = {1: "(samples,)", 2: "(steps, features)", 3: "(channels, height, width)"}[axes]
        raise InputError(f"{bank} must be of shape {named} for this network, got {shape or 'none'}")
    return shape

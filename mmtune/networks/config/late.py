"""Networks of one's own made from parts: banks that meet after their encoders, or before any layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmtune.base.errors import InputError
from mmtune.networks.config.base import Checked, choice
from mmtune.networks.config.encoders import Dense, Encoder
from mmtune.networks.config.fusions import Concatenation, Fusion, Head
from mmtune.networks.shapes import Shapes

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class LateFusion(Checked):
    """An encoder for each bank, a fusion of what they make, and a head.

    The embedding is what the encoders make, side by side. alone: whether each of several banks also has a linear
    classifier of its own, on the encoder's vector. guided: whether their losses train the encoders too, beside the
    fusion's; without it they have no effect on anything else.
    crossed: whether encoders of residual blocks tell each other what they see, and none says anything alone: after each
    block the means over one's maps (Joze et al., 2020) go by a linear layer into the others' (XFlow, section 2.1).
    """

    encoders: Mapping[str, Encoder]
    fusion: Fusion = field(default_factory=Concatenation)
    head: Head = field(default_factory=Head)
    alone: bool = choice(True, (True, False))
    guided: bool = choice(False, (True, False))
    crossed: bool = choice(False, (True, False))

    def __post_init__(self) -> None:
        super().__post_init__()
        require_reads("encoders", self.reads)
        if self.guided and not self.alone:
            raise InputError("guided must be False where alone is, whose losses it is about; got True")
        if self.crossed and self.alone:
            raise InputError("alone must be False where encoders are crossed and know of each other, got True")

    @property
    def reads(self) -> tuple[str, ...]:
        """The banks that it reads."""
        return tuple(self.encoders)

    def build(self, shapes: Shapes) -> nn.Module:
        from mmtune.networks.late import LateNetwork

        require_banks(self.reads, shapes)
        return LateNetwork(self, shapes)


@dataclass(frozen=True, kw_only=True)
class EarlyFusion(Dense):
    """The values of all banks, flat and side by side, through hidden layers, the last of which is the embedding."""

    reads: tuple[str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        require_reads("reads", self.reads)

    def build(self, shapes: Shapes) -> nn.Module:
        from mmtune.networks.late import EarlyNetwork

        require_banks(self.reads, shapes)
        return EarlyNetwork(self, shapes)


def require_reads(name: str, banks: tuple[str, ...]) -> None:
    """Raise InputError unless these are the names of one or more banks, each once."""
    if not banks or len(set(banks)) < len(banks):
        raise InputError(f"{name} must name one or more banks, each once, got {', '.join(banks) or 'none'}")


def require_banks(banks: tuple[str, ...], shapes: Shapes) -> None:
    """Raise InputError unless the data have these banks."""
    for bank in banks:
        if bank not in shapes.banks:
            raise InputError(f"a bank must be one of the data's {', '.join(shapes.banks)}, got {bank!r}")

"""Networks made from whole others: one of several kinds, or several that answer together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmtune.base.errors import InputError
from mmtune.base.fields import inner_of
from mmtune.networks.shapes import Shapes

if TYPE_CHECKING:
    from torch import nn

MOST_MEMBERS = 32


@dataclass(frozen=True, kw_only=True)
class OneOf:
    """One of several configurations, so that a search may choose among kinds: of encoders, fusions or whole networks.

    chosen: the name of the one that is built. Beside it a search draws what belongs to that one alone
    (`mmtune.study.space.one_of`).
    """

    chosen: str
    options: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.chosen not in self.options:
            raise InputError(f"chosen must be one of {', '.join(self.options) or 'no options'}, got {self.chosen!r}")
        frozen = [name for name, own in self.options.items() if getattr(own, "frozen", False)]
        if frozen:
            raise InputError(
                f"options must train all of a network, {frozen[0]} starts from encoders that stay as they are"
            )

    @property
    def width(self) -> int:
        """Of the vector that the chosen encoder makes."""
        width: int = self.options[self.chosen].width
        return width

    @property
    def reads(self) -> tuple[str, ...]:
        """The banks that the chosen network reads."""
        read: tuple[str, ...] = self.options[self.chosen].reads
        return read

    def build(self, *shapes: Any) -> nn.Module:
        """What the chosen one builds."""
        module: nn.Module = self.options[self.chosen].build(*shapes)
        return module


def every_bank(config: Any) -> tuple[str, ...]:
    """The banks that a network reads, or of a `OneOf` what any of its options does."""
    options = config.options.values() if isinstance(config, OneOf) else (config,)
    return tuple(dict.fromkeys(bank for own in options for bank in own.reads))


def built_of(config: Any) -> dict[str, Any]:
    """What a configuration has by name, less the options that a `OneOf` has not chosen: for `flatten`."""
    inner = inner_of(config)
    if isinstance(config, OneOf):
        inner["options"] = {config.chosen: config.options[config.chosen]}
    return inner


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Trained networks that answer together: by the mean of their probabilities (Caruana et al., 2004).

    members: by name, their configurations. weights: by name, how much each counts, together 1. temperatures: by name,
    what its logits are divided by before, so that none counts for more than it knows.
    A bank has an answer of its own where every member that reads it has one.
    """

    members: Mapping[str, Any]
    weights: Mapping[str, float]
    temperatures: Mapping[str, float]

    def __post_init__(self) -> None:
        names = list(self.members)
        if not 0 < len(names) <= MOST_MEMBERS or not all(name.isidentifier() for name in names):
            raise InputError(f"members must be 1 to {MOST_MEMBERS} networks by names, got {', '.join(names) or 'none'}")
        for what, own in (("weights", self.weights), ("temperatures", self.temperatures)):
            plain = all(isinstance(value, int | float) and 0 < value < math.inf for value in own.values())
            if list(own) != names or not plain:
                raise InputError(f"{what} must be a positive number for each of {', '.join(names)}, got {dict(own)}")
        if not math.isclose(sum(self.weights.values()), 1.0, abs_tol=1e-6):
            raise InputError(f"weights must be 1 together, got {sum(self.weights.values()):g}")

    @property
    def reads(self) -> tuple[str, ...]:
        """The banks that any member reads."""
        return tuple(dict.fromkeys(bank for own in self.members.values() for bank in own.reads))

    def build(self, shapes: Shapes) -> nn.Module:
        from mmtune.networks.ensemble import EnsembleNetwork

        return EnsembleNetwork(self, shapes)

"""Fusions and heads for networks of one's own: what makes one vector of several banks', and scores of that one.

A fusion is whatever has a `build`; it need not derive from anything here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mmtune.networks.config.base import Checked, choice, count, rate
from mmtune.networks.config.encoders import WIDEST, require_multiple

if TYPE_CHECKING:
    from torch import nn


class Fusion(Protocol):
    """The configuration of a fusion."""

    def build(self, widths: Mapping[str, int]) -> nn.Module:
        """A module from (B, widths[bank]) for each bank, by keyword, to (B, width), which it has as attribute."""


@dataclass(frozen=True, kw_only=True)
class Concatenation(Checked):
    """All vectors side by side."""

    def build(self, widths: Mapping[str, int]) -> nn.Module:
        from mmtune.networks.fusions import Concatenated

        return Concatenated(widths)


@dataclass(frozen=True, kw_only=True)
class Sum(Checked):
    """The sum of all vectors; those narrower than the widest go through a linear layer first."""

    def build(self, widths: Mapping[str, int]) -> nn.Module:
        from mmtune.networks.fusions import Summed

        return Summed(widths)


@dataclass(frozen=True, kw_only=True)
class Gated(Checked):
    """Gated multimodal units (Arevalo et al., 2017, section 3.1): the sum over banks of gate * tanh(linear(vector)).

    The gates, one for each bank and unit, are a linear layer of all vectors; by "softmax" a unit's gates add up to 1,
    which for two banks is the paper's z and 1 - z, by "sigmoid" each is on its own.
    """

    width: int = count(64, 1, WIDEST)
    gate: str = choice("softmax", ("softmax", "sigmoid"))

    def build(self, widths: Mapping[str, int]) -> nn.Module:
        from mmtune.networks.fusions import GatedUnits

        return GatedUnits(self, widths)


@dataclass(frozen=True, kw_only=True)
class CrossAttention(Checked):
    """Each bank a token of `width`, to which self-attention over all of them is added (Vaswani et al., 2017).

    summary: the tokens "joined" side by side, or their "mean".
    """

    width: int = count(64, 1, WIDEST)
    heads: int = count(4, 1, 64)
    summary: str = choice("joined", ("joined", "mean"))

    def __post_init__(self) -> None:
        super().__post_init__()
        require_multiple("width", self.width, self.heads)

    def build(self, widths: Mapping[str, int]) -> nn.Module:
        from mmtune.networks.fusions import AttendedTokens

        return AttendedTokens(self, widths)


@dataclass(frozen=True, kw_only=True)
class LowRank(Checked):
    """Low-rank multimodal fusion (Liu et al., 2018, section 3.2): a linear layer of the outer product of all (x, 1).

    Its weights are a sum of `rank` products with a factor for each bank, so that the outer product is never made.
    """

    width: int = count(64, 1, WIDEST)
    rank: int = count(4, 1, 256)

    def build(self, widths: Mapping[str, int]) -> nn.Module:
        from mmtune.networks.fusions import LowRankProduct

        return LowRankProduct(self, widths)


@dataclass(frozen=True, kw_only=True)
class Head(Checked):
    """A linear layer to the logits, after `layers` hidden ones of `hidden` units with ReLU unless that is 0.

    dropout: before each of them.
    """

    hidden: int = count(0, 0, WIDEST)
    layers: int = count(1, 1, 8)
    dropout: float = rate(0.0)

    def build(self, width: int, classes: int) -> nn.Module:
        """A module from (B, width) to logits (B, classes)."""
        from mmtune.networks.fusions import head

        return head(self, width, classes)

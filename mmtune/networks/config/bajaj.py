"""Bajaj's network: two small CNNs whose 64 outputs each are joined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmtune.base.errors import InputError
from mmtune.networks.config.base import ModelConfig, count, rate
from mmtune.networks.shapes import Shapes

if TYPE_CHECKING:
    from torch import nn

BLOCKS = 2


@dataclass(frozen=True, kw_only=True)
class DualCNNConfig(ModelConfig):
    """Bajaj's FusionModel (section 2.2); the defaults are the printed modules.

    kernel, stride: of all four convolutions, padded by kernel // 2; a pool of 2 follows each.
    dropout: after each block and the first linear layer of both encoders.
    Section 2.4 tunes all three and prints no ranges.
    """

    kernel: int = count(5, 1, 27)
    stride: int = count(1, 1, 27)
    dropout: float = rate(0.5)

    def build(self, shapes: Shapes) -> nn.Module:
        from mmtune.networks.papers.bajaj import DualCNN

        return DualCNN(self, shapes)

    def left_of(self, what: str, start: int) -> int:
        """What remains of a side of `start` after each block's convolution and pool; InputError where nothing does."""
        size = start
        for _ in range(BLOCKS):
            size = ((size + 2 * (self.kernel // 2) - self.kernel) // self.stride + 1) // 2
        if size < 1:
            raise InputError(
                f"kernel and stride must leave something of the {what}, got kernel {self.kernel} and stride "
                f"{self.stride}: nothing is left of its {start} after {BLOCKS} convolutions and pools"
            )
        return size

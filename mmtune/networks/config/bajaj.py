"""Bajaj's network: two small CNNs whose 64 outputs each are joined."""

from __future__ import annotations

from dataclasses import dataclass

from mmtune.base.errors import InputError
from mmtune.networks.config.base import ModelConfig, count, rate

IMAGE_SIDE, AUDIO_LENGTH = 28, 39 * 13
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

    def __post_init__(self) -> None:
        super().__post_init__()
        for what, start, left in (("image", IMAGE_SIDE, self.image_side), ("audio", AUDIO_LENGTH, self.audio_length)):
            if left < 1:
                raise InputError(
                    f"kernel and stride must leave something of the {what}, got kernel {self.kernel} and stride "
                    f"{self.stride}: nothing is left of its {start} after {BLOCKS} convolutions and pools"
                )

    @property
    def image_side(self) -> int:
        """The side of the last feature map; 7 as printed."""
        return self.left_of(IMAGE_SIDE)

    @property
    def audio_length(self) -> int:
        """The length of the last feature map; 126 as printed."""
        return self.left_of(AUDIO_LENGTH)

    def left_of(self, size: int) -> int:
        """What remains of `size` after each block's convolution and pool; 0 or less where a block has no output."""
        for _ in range(BLOCKS):
            size = ((size + 2 * (self.kernel // 2) - self.kernel) // self.stride + 1) // 2
        return size

"""XFlow's two networks, CNN x MLP and {CNN x MLP}-LSTM, with or without what crosses between their streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmtune.base.errors import InputError
from mmtune.base.rules import require_count
from mmtune.networks.config.base import ModelConfig, choice, count, rate, require_shape
from mmtune.networks.shapes import Shapes

if TYPE_CHECKING:
    from torch import nn

WIDEST_POOL = 8


@dataclass(frozen=True, kw_only=True)
class XFlowConfig(ModelConfig):
    """What both networks have.

    cross, residual: whether there are cross-connections, and residual cross-connections. Neither is the baseline.
    kernel1, kernel2: of the transposed convolutions; the map that they enlarge is the pooled size - kernel + 1.
    """

    cross: bool = choice(True, (True, False))
    residual: bool = choice(True, (True, False))
    kernel1: int = count(8, 1, 512)
    kernel2: int = count(4, 1, 512)

    def sizes(self, shapes: Shapes) -> tuple[tuple[int, int, int], tuple[int, int], bool]:
        """The shapes of image and audio, and whether they are sequences, a picture for each step.

        InputError where pictures are too small for the pools and kernels.
        """
        (channels, height, width), (steps, features) = (
            require_shape(shapes, "image", 3),
            require_shape(shapes, "audio", 2),
        )
        require_count("a side of the image", min(height, width), WIDEST_POOL)
        for name, pooled in (("kernel1", 2), ("kernel2", 4)):
            require_count(name, getattr(self, name), 1, min(height, width) // pooled)
        return (channels, height, width), (steps, features), channels == steps > 1


@dataclass(frozen=True, kw_only=True)
class XFlowMLPConfig(XFlowConfig):
    """XFlow's CNN x MLP (Cangea et al., section 2.1, figures 1a and 4a).

    A still picture goes with a clip of MFCC frames, which enter as one vector; of an audiovisual sequence `frames`
    evenly spaced steps are seen and heard, all of them where it is 0.
    pool_dropout: after max pooling, and in the first residual map. dense_dropout: in the MLP stream, in the other
        maps, and where streams join. merge_dropout: before and after the last hidden layer.
    """

    frames: int = count(0, 0, 4096)
    pool_dropout: float = rate(0.25)
    dense_dropout: float = rate(0.5)
    merge_dropout: float = rate(0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames == 1:
            raise InputError("frames must be 0 for all of a sequence, or 2 or more, got 1")

    def build(self, shapes: Shapes) -> nn.Module:
        from mmtune.networks.papers.xflow import XFlowMLP

        return XFlowMLP(self, shapes)


@dataclass(frozen=True, kw_only=True)
class XFlowLSTMConfig(XFlowConfig):
    """XFlow's {CNN x MLP}-LSTM (Cangea et al., section 2.1, figures 1c and 4b).

    A still picture is shown at every step of the clip; a sequence has as many frames as steps.
    """

    merge_dropout: float = rate(0.5)

    def build(self, shapes: Shapes) -> nn.Module:
        from mmtune.networks.papers.xflow import XFlowLSTM

        return XFlowLSTM(self, shapes)

"""XFlow's two networks, CNN x MLP and {CNN x MLP}-LSTM, with or without what crosses between their streams."""

from __future__ import annotations

from dataclasses import dataclass

from mmtune.base.errors import InputError
from mmtune.base.rules import require_count
from mmtune.networks.config.base import ModelConfig, choice, count, rate

WIDEST_POOL = 8


@dataclass(frozen=True, kw_only=True)
class XFlowConfig(ModelConfig):
    """What both networks have.

    cross, residual: whether there are cross-connections, and residual cross-connections. Neither is the baseline.
    height, width: of a picture; frames: how many, 1 being a still one; steps, coefficients: of the MFCCs.
    kernel1, kernel2: of the transposed convolutions; the map that they enlarge is the pooled size - kernel + 1.
    """

    cross: bool = choice(True, (True, False))
    residual: bool = choice(True, (True, False))
    height: int = count(28, WIDEST_POOL, 1024)
    width: int = count(28, WIDEST_POOL, 1024)
    frames: int = count(1, 1, 4096)
    steps: int = count(39, 1, 4096)
    coefficients: int = count(13, 1, 4096)
    classes: int = count(10, 2, 65_536)
    kernel1: int = 8
    kernel2: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, pooled in (("kernel1", 2), ("kernel2", 4)):
            require_count(name, getattr(self, name), 1, min(self.height, self.width) // pooled)


@dataclass(frozen=True, kw_only=True)
class XFlowMLPConfig(XFlowConfig):
    """XFlow's CNN x MLP (Cangea et al., section 2.1, figures 1a and 4a), adapted to 28 x 28 and 39 x 13.

    A still picture goes with a clip of `steps` MFCC frames, which enter as one vector; of an audiovisual sequence
    `frames` evenly spaced steps are seen, and steps = frames.
    pool_dropout: after max pooling, and in the first residual map. dense_dropout: in the MLP stream, in the other
        maps, and where streams join. merge_dropout: before and after the last hidden layer.
    """

    pool_dropout: float = rate(0.25)
    dense_dropout: float = rate(0.5)
    merge_dropout: float = rate(0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames != 1 and self.steps != self.frames:
            raise InputError(f"steps must be frames where frames > 1, got steps={self.steps} frames={self.frames}")


@dataclass(frozen=True, kw_only=True)
class XFlowLSTMConfig(XFlowConfig):
    """XFlow's {CNN x MLP}-LSTM (Cangea et al., section 2.1, figures 1c and 4b), adapted likewise.

    A still picture is shown at every step of the clip; a sequence has as many frames as steps.
    steps: the most that a sequence may have.
    """

    merge_dropout: float = rate(0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames not in (1, self.steps):
            raise InputError(f"frames must be 1 or steps, got frames={self.frames} steps={self.steps}")

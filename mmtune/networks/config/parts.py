"""The parts that a network of one's own is made from, in one place to import them from."""

from __future__ import annotations

from mmtune.networks.config.encoders import (
    MLP,
    Conv1dEncoder,
    Encoder,
    Recurrent,
    SmallCNN,
    SmallResNet,
    SmallTransformer,
    SpectrogramCNN,
)
from mmtune.networks.config.fusions import Concatenation, CrossAttention, Fusion, Gated, Head, LowRank, Sum
from mmtune.networks.config.late import EarlyFusion, LateFusion

__all__ = [
    "MLP",
    "Concatenation",
    "Conv1dEncoder",
    "CrossAttention",
    "EarlyFusion",
    "Encoder",
    "Fusion",
    "Gated",
    "Head",
    "LateFusion",
    "LowRank",
    "Recurrent",
    "SmallCNN",
    "SmallResNet",
    "SmallTransformer",
    "SpectrogramCNN",
    "Sum",
]

"""From a configuration to its module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from mmtune.networks.audio import AudioRNN
from mmtune.networks.config import (
    AudioRNNConfig,
    DualCNNConfig,
    ImageCNNConfig,
    LatentFusionConfig,
    ModelConfig,
    MultiheadFusionConfig,
    SpectrogramFusionConfig,
    XFlowLSTMConfig,
    XFlowMLPConfig,
)
from mmtune.networks.dual_cnn import DualCNN
from mmtune.networks.fusion import LatentFusion
from mmtune.networks.image import ImageCNN
from mmtune.networks.multihead import MultiheadFusion
from mmtune.networks.spectrogram import SpectrogramFusion
from mmtune.networks.xflow import XFlowLSTM, XFlowMLP

BUILDERS: dict[type, Callable[[Any], nn.Module]] = {
    ImageCNNConfig: ImageCNN,
    AudioRNNConfig: AudioRNN,
    LatentFusionConfig: LatentFusion,
    MultiheadFusionConfig: MultiheadFusion,
    DualCNNConfig: DualCNN,
    SpectrogramFusionConfig: SpectrogramFusion,
    XFlowMLPConfig: XFlowMLP,
    XFlowLSTMConfig: XFlowLSTM,
}


def build_model(config: ModelConfig) -> nn.Module:
    """The module of a configuration, with fresh weights from torch's current random state."""
    return BUILDERS[type(config)](config)


def count_parameters(model: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)

"""From a configuration to its module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from mmtune.networks.config import ModelConfig, model_kind
from mmtune.networks.dual_cnn import DualCNN
from mmtune.networks.joshi import AudioRNN, ImageCNN, LatentFusion
from mmtune.networks.multihead import MultiheadFusion
from mmtune.networks.spectrogram import SpectrogramFusion
from mmtune.networks.xflow import XFlowLSTM, XFlowMLP

BUILDERS: dict[str, Callable[[Any], nn.Module]] = {
    "image_cnn": ImageCNN,
    "audio_rnn": AudioRNN,
    "latent_fusion": LatentFusion,
    "multihead_fusion": MultiheadFusion,
    "dual_cnn_fusion": DualCNN,
    "spectrogram_fusion": SpectrogramFusion,
    "xflow_cnn_mlp": XFlowMLP,
    "xflow_lstm": XFlowLSTM,
}


def build_model(config: ModelConfig) -> nn.Module:
    """The module of a configuration, with fresh weights from torch's current random state."""
    return BUILDERS[model_kind(config)](config)


def count_parameters(model: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)

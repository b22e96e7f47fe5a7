"""What a network is made of: frozen, keyword-only, checked on construction, and free of torch.

One class for each architecture of the papers, a file for each paper, and parts for networks of one's own. All turn
into plain JSON and back without loss, which is how they travel to artifacts and the registry.
"""

from mmtune.networks.config.bajaj import DualCNNConfig
from mmtune.networks.config.encoders import (
    MLP,
    Conv1dEncoder,
    Recurrent,
    SmallCNN,
    SmallResNet,
    SmallTransformer,
    SpectrogramCNN,
)
from mmtune.networks.config.ensemble import Ensemble, OneOf
from mmtune.networks.config.fusions import Concatenation, CrossAttention, Gated, Head, LowRank, Sum
from mmtune.networks.config.joshi import NORM_CODES, AudioRNNConfig, ImageCNNConfig, LatentFusionConfig
from mmtune.networks.config.late import EarlyFusion, LateFusion
from mmtune.networks.config.log_mel import LogMelResNet
from mmtune.networks.config.subrahmanya import SpectrogramFusionConfig
from mmtune.networks.config.venkatachalam import MultiheadFusionConfig
from mmtune.networks.config.xflow import XFlowLSTMConfig, XFlowMLPConfig

__all__ = [
    "MLP",
    "NORM_CODES",
    "AudioRNNConfig",
    "Concatenation",
    "Conv1dEncoder",
    "CrossAttention",
    "DualCNNConfig",
    "EarlyFusion",
    "Ensemble",
    "Gated",
    "Head",
    "ImageCNNConfig",
    "LateFusion",
    "LatentFusionConfig",
    "LogMelResNet",
    "LowRank",
    "MultiheadFusionConfig",
    "OneOf",
    "Recurrent",
    "SmallCNN",
    "SmallResNet",
    "SmallTransformer",
    "SpectrogramCNN",
    "SpectrogramFusionConfig",
    "Sum",
    "XFlowLSTMConfig",
    "XFlowMLPConfig",
]

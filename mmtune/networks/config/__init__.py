"""What a network is made of: frozen, keyword-only, checked on construction, and free of torch.

One class for each architecture, a file for each paper. All turn into plain JSON and back without loss, which is how
they travel to artifacts and the registry.
"""

from mmtune.networks.config.bajaj import DualCNNConfig
from mmtune.networks.config.joshi import NORM_CODES, AudioRNNConfig, ImageCNNConfig, LatentFusionConfig
from mmtune.networks.config.subrahmanya import SpectrogramFusionConfig
from mmtune.networks.config.venkatachalam import MultiheadFusionConfig
from mmtune.networks.config.xflow import XFlowLSTMConfig, XFlowMLPConfig

__all__ = [
    "NORM_CODES",
    "AudioRNNConfig",
    "DualCNNConfig",
    "ImageCNNConfig",
    "LatentFusionConfig",
    "MultiheadFusionConfig",
    "SpectrogramFusionConfig",
    "XFlowLSTMConfig",
    "XFlowMLPConfig",
]

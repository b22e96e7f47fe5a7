"""What a network is made of: frozen, keyword-only, checked on construction, and free of torch.

One class for each architecture, a file for each report. All turn into plain JSON and back without loss, which is how
they travel to workers, artifacts and the registry.
"""

from mmtune.networks.config.bajaj import DualCNNConfig
from mmtune.networks.config.joshi import NORM_CODES, AudioRNNConfig, ImageCNNConfig, LatentFusionConfig
from mmtune.networks.config.kinds import (
    MODEL_CONFIGS,
    ModelConfig,
    alone_modalities,
    class_count,
    has_frozen_encoders,
    model_from_json,
    model_kind,
    model_to_json,
    sizes_for,
    takes_sequences,
)
from mmtune.networks.config.subrahmanya import SpectrogramFusionConfig
from mmtune.networks.config.venkatachalam import MultiheadFusionConfig
from mmtune.networks.config.xflow import XFlowLSTMConfig, XFlowMLPConfig

__all__ = [
    "MODEL_CONFIGS",
    "NORM_CODES",
    "AudioRNNConfig",
    "DualCNNConfig",
    "ImageCNNConfig",
    "LatentFusionConfig",
    "ModelConfig",
    "MultiheadFusionConfig",
    "SpectrogramFusionConfig",
    "XFlowLSTMConfig",
    "XFlowMLPConfig",
    "alone_modalities",
    "class_count",
    "has_frozen_encoders",
    "model_from_json",
    "model_kind",
    "model_to_json",
    "sizes_for",
    "takes_sequences",
]

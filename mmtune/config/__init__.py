"""What a trial is made of: frozen, keyword-only, checked on construction, and free of torch.

A trial is a model configuration (one class per architecture, a file per report) and a training configuration.
Both turn into plain JSON and back without loss, which is how they travel to workers, artifacts and the registry.
"""

from mmtune.config.bajaj import DualCNNConfig
from mmtune.config.joshi import NORM_CODES, AudioRNNConfig, ImageCNNConfig, LatentFusionConfig
from mmtune.config.key import DRAWN, PROTOCOLS, SAMPLERS, StudyKey
from mmtune.config.rules import CLASSES, require_choice, require_count, require_range
from mmtune.config.subrahmanya import SpectrogramFusionConfig
from mmtune.config.trial import (
    MODEL_CONFIGS,
    ModelConfig,
    TrainConfig,
    TrialConfig,
    class_count,
    flatten,
    model_from_json,
    model_kind,
    model_to_json,
    replace_path,
    replace_paths,
)
from mmtune.config.venkatachalam import MultiheadFusionConfig
from mmtune.config.xflow import XFlowLSTMConfig, XFlowMLPConfig

__all__ = [
    "CLASSES",
    "DRAWN",
    "MODEL_CONFIGS",
    "NORM_CODES",
    "PROTOCOLS",
    "SAMPLERS",
    "AudioRNNConfig",
    "DualCNNConfig",
    "ImageCNNConfig",
    "LatentFusionConfig",
    "ModelConfig",
    "MultiheadFusionConfig",
    "SpectrogramFusionConfig",
    "StudyKey",
    "TrainConfig",
    "TrialConfig",
    "XFlowLSTMConfig",
    "XFlowMLPConfig",
    "class_count",
    "flatten",
    "model_from_json",
    "model_kind",
    "model_to_json",
    "replace_path",
    "replace_paths",
    "require_choice",
    "require_count",
    "require_range",
]

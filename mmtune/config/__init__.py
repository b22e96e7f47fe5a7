"""What a trial is made of: frozen, keyword-only, checked on construction, and free of torch.

A trial is a model configuration (one class per architecture, a file per report) and a training configuration.
Both turn into plain JSON and back without loss, which is how they travel to workers, artifacts and the registry.
"""

from mmtune.config.joshi import NORM_CODES, AudioRNNConfig, ImageCNNConfig, LatentFusionConfig
from mmtune.config.key import PROTOCOLS, SAMPLERS, StudyKey
from mmtune.config.rules import CLASSES, require_choice, require_count, require_range
from mmtune.config.trial import (
    MODEL_CONFIGS,
    ModelConfig,
    TrainConfig,
    TrialConfig,
    flatten,
    model_from_json,
    model_kind,
    model_to_json,
    replace_path,
    replace_paths,
)

__all__ = [
    "CLASSES",
    "MODEL_CONFIGS",
    "NORM_CODES",
    "PROTOCOLS",
    "SAMPLERS",
    "AudioRNNConfig",
    "ImageCNNConfig",
    "LatentFusionConfig",
    "ModelConfig",
    "StudyKey",
    "TrainConfig",
    "TrialConfig",
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

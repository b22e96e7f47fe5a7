"""What a network is made of: frozen, keyword-only, checked on construction, and free of torch.

One class for each architecture, a file for each report. All turn into plain JSON and back without loss, which is how
they travel to workers, artifacts and the registry.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mmtune.base.errors import InputError
from mmtune.base.rules import CLASSES
from mmtune.networks.config.bajaj import DualCNNConfig
from mmtune.networks.config.base import ModelConfig
from mmtune.networks.config.joshi import NORM_CODES, AudioRNNConfig, ImageCNNConfig, LatentFusionConfig
from mmtune.networks.config.subrahmanya import SpectrogramFusionConfig
from mmtune.networks.config.venkatachalam import MultiheadFusionConfig
from mmtune.networks.config.xflow import XFlowConfig, XFlowLSTMConfig, XFlowMLPConfig

__all__ = [
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
]

MODEL_CONFIGS: dict[str, type[Any]] = {
    "image_cnn": ImageCNNConfig,
    "audio_rnn": AudioRNNConfig,
    "latent_fusion": LatentFusionConfig,
    "multihead_fusion": MultiheadFusionConfig,
    "dual_cnn_fusion": DualCNNConfig,
    "spectrogram_fusion": SpectrogramFusionConfig,
    "xflow_cnn_mlp": XFlowMLPConfig,
    "xflow_lstm": XFlowLSTMConfig,
}


def class_count(config: ModelConfig) -> int:
    """How many classes a model tells apart: the ten digits, unless its configuration says otherwise."""
    return int(getattr(config, "classes", CLASSES))


def model_kind(config: ModelConfig) -> str:
    """The name of an architecture, as in MODEL_CONFIGS."""
    return next(kind for kind, cls in MODEL_CONFIGS.items() if type(config) is cls)


def has_frozen_encoders(config: ModelConfig) -> bool:
    """Whether a network starts from trained encoders that stay as they are."""
    return getattr(config, "encoders", "") == "frozen"


def alone_modalities(config: ModelConfig) -> tuple[str, ...]:
    """The modalities that a network also answers by without the others."""
    return config.modalities if isinstance(config, LatentFusionConfig) else ()


def takes_sequences(config: ModelConfig) -> bool:
    """Whether a network takes sequences of frames of any size, beside pictures with clips."""
    return isinstance(config, XFlowConfig)


def sizes_for(
    config: ModelConfig, images: tuple[int, ...], clips: tuple[int, ...], classes: int, frames: object
) -> dict[str, Any]:
    """By field, what sequences settle of a network that takes them: images (T, H, W), clips (T, K).

    frames: how many of the T the user wants. Raises InputError where the network cannot have so many.
    """
    if isinstance(config, XFlowLSTMConfig) and frames != images[0]:
        raise InputError(f"frames must be all {images[0]} of a sequence for a network over time, got {frames}")
    if frames == 1:
        raise InputError(f"frames must be 2 or more of the {images[0]} of a sequence, got 1")
    sizes = {"height": images[1], "width": images[2], "coefficients": clips[1]}
    return {**sizes, "frames": frames, "steps": frames, "classes": classes}


def model_to_json(config: ModelConfig) -> dict[str, Any]:
    """A model configuration as plain JSON, with its kind."""
    return {"kind": model_kind(config), **dataclasses.asdict(config)}


def model_from_json(data: Mapping[str, Any]) -> ModelConfig:
    """The inverse of `model_to_json`; InputError on an unknown kind, an unknown field or a bad value."""
    values = {name: value for name, value in data.items() if name != "kind"}
    cls = MODEL_CONFIGS.get(str(data.get("kind")))
    if cls is None:
        raise InputError(f"model kind must be one of {', '.join(MODEL_CONFIGS)}, got {data.get('kind')!r}")
    parts = {"image": ImageCNNConfig, "audio": AudioRNNConfig}
    try:
        return cls(**{k: parts[k](**v) if k in parts else v for k, v in values.items()})
    except TypeError as error:
        raise InputError(f"model of kind {data['kind']!r} does not take these fields: {error}") from error

"""One trial, whole: which model, how it is trained, and the way of both to plain JSON and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmtune.config.bajaj import DualCNNConfig
from mmtune.config.joshi import AudioRNNConfig, ImageCNNConfig, LatentFusionConfig
from mmtune.config.rules import CLASSES, require_choice, require_count, require_range
from mmtune.config.subrahmanya import SpectrogramFusionConfig
from mmtune.config.venkatachalam import MultiheadFusionConfig
from mmtune.config.xflow import XFlowLSTMConfig, XFlowMLPConfig
from mmtune.errors import InputError

ModelConfig = (
    ImageCNNConfig
    | AudioRNNConfig
    | LatentFusionConfig
    | MultiheadFusionConfig
    | DualCNNConfig
    | SpectrogramFusionConfig
    | XFlowMLPConfig
    | XFlowLSTMConfig
)
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
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained: Adam on the cross-entropy, a fixed number of epochs, a fixed batch size.

    class_weights: whether the loss weights each class by the inverse of its frequency in the training rows.
    keep_final: whether the weights of the last epoch are evaluated and kept too, beside those of the best.
    precision: of products and convolutions while training; weights, and all that is evaluated, are float32.
    """

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    class_weights: bool = False
    keep_final: bool = False
    precision: str = "float32"

    def __post_init__(self) -> None:
        require_choice("class_weights", self.class_weights, (True, False))
        require_choice("keep_final", self.keep_final, (True, False))
        require_choice("precision", self.precision, PRECISIONS)
        require_count("epochs", self.epochs, 1, 100_000)
        require_count("batch_size", self.batch_size, 2, 65_536)
        require_range("learning_rate", self.learning_rate, 1e-8, 10.0)


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """One trial, whole: fields are addressed by dotted paths such as `model.kernel` or `train.learning_rate`."""

    model: ModelConfig
    train: TrainConfig = field(default_factory=TrainConfig)


def class_count(config: ModelConfig) -> int:
    """How many classes a model tells apart: the ten digits, unless its configuration says otherwise."""
    return int(getattr(config, "classes", CLASSES))


def model_kind(config: ModelConfig) -> str:
    """The name of an architecture, as in MODEL_CONFIGS."""
    return next(kind for kind, cls in MODEL_CONFIGS.items() if type(config) is cls)


def replace_path(config: Any, path: str, value: object) -> Any:
    """A copy of a configuration with the field at a dotted `path` set; InputError if there is no such field."""
    return replace_paths(config, {path: value})


def replace_paths(config: Any, values: Mapping[str, object]) -> Any:
    """`replace_path` for many paths at once, so that fields which depend on each other can change together."""
    known = {f.name for f in dataclasses.fields(config)}
    inner: dict[str, dict[str, object]] = {}
    fields: dict[str, object] = {}
    for path, value in values.items():
        head, _, rest = path.partition(".")
        if head not in known:
            names = ", ".join(f.name for f in dataclasses.fields(config))
            raise InputError(f"{type(config).__name__} has no field {head!r}; it has {names}")
        if rest:
            inner.setdefault(head, {})[rest] = value
        else:
            fields[head] = value
    below = {head: replace_paths(getattr(config, head), own) for head, own in inner.items()}
    return dataclasses.replace(config, **fields, **below)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """A configuration as {dotted path: plain value}, in the order of its fields."""
    flat: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        value, path = getattr(config, f.name), f"{prefix}{f.name}"
        flat |= flatten(value, f"{path}.") if dataclasses.is_dataclass(value) else {path: value}
    return flat


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

"""What a trial is made of: frozen, keyword-only, checked on construction, and free of torch.

A trial is a model configuration (one class per architecture) and a training configuration. Both turn
into plain JSON and back without loss, which is how they travel to workers, artifacts and the registry.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mmtune.errors import InputError

CLASSES = 10
PROTOCOLS = ("as_reported", "clip_disjoint", "speaker_disjoint")
SAMPLERS = ("grid", "tpe", "random", "gp", "cmaes")
LONGEST_SLUG = 180
NORM_CODES = ("l1-l2-l3-l4-l5", "l1-l2", "l1-l3-l4")


def require_choice(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise InputError unless `value` is one of `allowed`, of the same type."""
    if not any(value == a and type(value) is type(a) for a in allowed):
        raise InputError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")


def require_range(name: str, value: float, low: float, high: float) -> None:
    """Raise InputError unless `value` is a finite number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{name} must be a number from {low:g} to {high:g}, got {value!r}")


def require_count(name: str, value: int, low: int = 1, high: int = 2**31 - 1) -> None:
    """Raise InputError unless `value` is a whole number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name} must be a whole number from {low} to {high}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class ImageCNNConfig:
    """Joshi's image network: four unpadded convolutions 6-12-24-48, then 120-64-10 (section 2.2, figure 9).

    norm: which of the layers l1..l5 of the report's grid are batch-normalised. l1..l4 are the convolutions.
    l5: the report names five layers but prints four modules; "absent" follows the print (its parameter
        count is then the printed model's), "fc1" puts a BatchNorm1d on the first linear layer instead.
    pools: after which convolutions the two unprinted 2x2 pools stand; both give the printed 768 inputs.
    """

    kernel: int = 3
    activation: str = "tanh"
    norm: str = "l1-l2-l3-l4-l5"
    l5: str = "absent"
    pools: str = "2-4"
    dropout: float = 0.05

    def __post_init__(self) -> None:
        require_choice("kernel", self.kernel, (3, 5))
        require_choice("activation", self.activation, ("tanh", "relu"))
        require_choice("norm", self.norm, NORM_CODES)
        require_choice("l5", self.l5, ("absent", "fc1"))
        require_choice("pools", self.pools, ("2-4", "3-4"))
        require_range("dropout", self.dropout, 0.0, 0.95)

    @property
    def modalities(self) -> tuple[str, ...]:
        return ("image",)


@dataclass(frozen=True, kw_only=True)
class AudioRNNConfig:
    """Joshi's audio network: an RNN, then linear layers 100-64-10, each batch-normalised (section 2.2, figure 10).

    view: "step" feeds the clip as one step of 507 values, as the report did; "sequence" as 39 steps of 13.
    """

    hidden: int = 320
    layers: int = 1
    view: str = "step"

    def __post_init__(self) -> None:
        require_count("hidden", self.hidden, 1, 8192)
        require_count("layers", self.layers, 1, 8)
        require_choice("view", self.view, ("step", "sequence"))

    @property
    def modalities(self) -> tuple[str, ...]:
        return ("audio",)


@dataclass(frozen=True, kw_only=True)
class LatentFusionConfig:
    """Joshi's latent fusion: both embeddings side by side, then one or two linear layers (section 2.2).

    embedding: 64 joins the second-last layers of the encoders, 10 their ten outputs.
    encoders: "frozen" keeps the given encoders as they are, as the report did; "joint" trains all together.
    """

    layers: int = 1
    embedding: int = 64
    encoders: str = "frozen"
    image: ImageCNNConfig = field(default_factory=ImageCNNConfig)
    audio: AudioRNNConfig = field(default_factory=AudioRNNConfig)

    def __post_init__(self) -> None:
        require_choice("layers", self.layers, (1, 2))
        require_choice("embedding", self.embedding, (10, 64))
        require_choice("encoders", self.encoders, ("frozen", "joint"))
        if self.encoders == "joint" and self.embedding == 10:
            raise InputError(
                "embedding must be 64 where encoders=joint, got 10: ten outputs are read off trained encoders"
            )

    @property
    def modalities(self) -> tuple[str, ...]:
        return ("image", "audio")


ModelConfig = ImageCNNConfig | AudioRNNConfig | LatentFusionConfig
MODEL_CONFIGS: dict[str, type[Any]] = {
    "image_cnn": ImageCNNConfig,
    "audio_rnn": AudioRNNConfig,
    "latent_fusion": LatentFusionConfig,
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained: Adam on the cross-entropy, a fixed number of epochs, a fixed batch size."""

    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        require_count("epochs", self.epochs, 1, 100_000)
        require_count("batch_size", self.batch_size, 2, 65_536)
        require_range("learning_rate", self.learning_rate, 1e-8, 10.0)


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """One trial, whole: fields are addressed by dotted paths such as `model.kernel` or `train.learning_rate`."""

    model: ModelConfig
    train: TrainConfig = field(default_factory=TrainConfig)


def model_kind(config: ModelConfig) -> str:
    """The name of an architecture, as in MODEL_CONFIGS."""
    return next(kind for kind, cls in MODEL_CONFIGS.items() if type(config) is cls)


def replace_path(config: Any, path: str, value: object) -> Any:
    """A copy of a configuration with the field at a dotted `path` set; InputError if there is no such field."""
    head, _, rest = path.partition(".")
    if head not in {f.name for f in dataclasses.fields(config)}:
        known = ", ".join(f.name for f in dataclasses.fields(config))
        raise InputError(f"{type(config).__name__} has no field {head!r}; it has {known}")
    inner = replace_path(getattr(config, head), rest, value) if rest else value
    return dataclasses.replace(config, **{head: inner})


def replace_paths(config: Any, values: Mapping[str, object]) -> Any:
    """`replace_path` for many paths at once, applied in the given order."""
    for path, value in values.items():
        config = replace_path(config, path, value)
    return config


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


@dataclass(frozen=True, kw_only=True)
class StudyKey:
    """What makes two trials comparable; two studies with the same key are one study, resumed.

    data: the data set's name, digest: of its content. prune: whether hopeless trials are stopped early.
    fixed: choices settled by the user, as (path, value). encoders: the runs it starts from, as (modality, run id).
    """

    study: str
    data: str
    digest: str
    protocol: str
    seed: int
    epochs: int
    sampler: str
    prune: bool = False
    fixed: tuple[tuple[str, Any], ...] = ()
    encoders: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        require_choice("protocol", self.protocol, PROTOCOLS)
        require_choice("sampler", self.sampler, SAMPLERS)
        require_count("seed", self.seed, 0)
        require_count("epochs", self.epochs, 1, 100_000)

    @property
    def title(self) -> str:
        """What sets this study apart from others of its name, in words."""
        facts = [self.data, self.protocol, f"seed {self.seed}", f"{self.epochs} epochs", self.sampler]
        return ", ".join([*facts, *(f"{path}={value}" for path, value in self.fixed)])

    @property
    def slug(self) -> str:
        """A readable name that is safe in a path: study.data-digest.protocol.seed.epochs.sampler."""
        parts = [
            self.study,
            f"{self.data}-{self.digest[:8]}",
            self.protocol,
            f"seed{self.seed}",
            f"epochs{self.epochs}",
        ]
        how = [self.sampler + ("-pruned" if self.prune else "")]
        settled = [f"{path}={value}" for path, value in self.fixed]
        started = [f"{modality}-{run_id[:8]}" for modality, run_id in self.encoders]
        text = re.sub(r"[^A-Za-z0-9_.=-]", "_", ".".join([*parts, *how, *settled, *started]))
        # Names of files end at 255 bytes, suffixes included.
        return (
            text
            if len(text) <= LONGEST_SLUG
            else f"{text[:LONGEST_SLUG]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
        )

"""One trial, whole: which model, and how it is trained. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from mmtune.base.rules import require_choice, require_count, require_range
from mmtune.networks.config import ModelConfig

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

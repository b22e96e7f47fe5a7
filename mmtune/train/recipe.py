"""One trial, whole: which model, and how it is trained. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mmtune.networks.config.base import Checked, choice, count, number

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Train(Checked):
    """How a model is trained: Adam on the cross-entropy, a fixed number of epochs, a fixed batch size.

    class_weights: whether the loss weights each class by the inverse of its frequency in the training rows.
    keep_final: whether the weights of the last epoch are evaluated and kept too, beside those of the best.
    precision: of products and convolutions while training; weights, and all that is evaluated, are float32.
    """

    epochs: int = count(10, 1, 100_000)
    batch_size: int = count(64, 2, 65_536)
    learning_rate: float = number(1e-3, 1e-8, 10.0)
    class_weights: bool = choice(False, (True, False))
    keep_final: bool = choice(False, (True, False))
    precision: str = choice("float32", PRECISIONS)


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """One trial, whole; model: a configuration that builds its network.

    Fields are addressed by dotted paths such as `model.kernel` or `train.learning_rate`.
    """

    model: Any
    train: Train = field(default_factory=Train)

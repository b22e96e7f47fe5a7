"""Classification scores from a confusion matrix, computed where the predictions are."""

from __future__ import annotations

import torch
from torch import Tensor

from mmtune.base.rules import CLASSES


def confusion(labels: Tensor, predictions: Tensor, classes: int = CLASSES) -> Tensor:
    """(N,) and (N,) int64 to counts (classes, classes) int64: rows are labels, columns predictions."""
    return torch.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


def accuracy(counts: Tensor) -> float:
    """The share of rows on the diagonal of a confusion matrix."""
    return int(counts.diagonal().sum()) / int(counts.sum())


def f1_per_class(counts: Tensor) -> Tensor:
    """F1 of each class, (classes,) float64; 0 for one that was neither there nor predicted (as scikit-learn has it)."""
    hits = counts.diagonal().double()
    total = (counts.sum(0) + counts.sum(1)).double()
    return torch.where(total > 0, 2 * hits / total.clamp(min=1), 0.0)


def macro_f1(counts: Tensor) -> float:
    """The mean of F1 over the classes that occur as a label or a prediction."""
    seen = (counts.sum(0) + counts.sum(1)) > 0
    return float(f1_per_class(counts)[seen].mean())


def scores(prefix: str, loss: float, counts: Tensor) -> dict[str, float]:
    """{prefix}_loss, {prefix}_accuracy and {prefix}_macro_f1."""
    return {f"{prefix}_loss": loss, f"{prefix}_accuracy": accuracy(counts), f"{prefix}_macro_f1": macro_f1(counts)}

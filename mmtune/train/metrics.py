"""Scores of a model's answers, computed where the rows are. Logits are (N, C) floats, labels (N,) int64."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from mmtune.base.errors import InputError
from mmtune.train.objective import KNOWN, MOST_RANKED, Metric, Objective

BINS = 15


def confusion(labels: Tensor, predictions: Tensor, classes: int) -> Tensor:
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


def by_member(
    members: NDArray[np.str_], right: NDArray[np.bool_]
) -> tuple[NDArray[np.str_], NDArray[np.int64], NDArray[np.float64]]:
    """The members of a group (G,), by name, how many of N rows each has, and the share of them that is right."""
    names, of_row = np.unique(members, return_inverse=True)
    counts = np.bincount(of_row, minlength=len(names))
    return names, counts, np.bincount(of_row, weights=right, minlength=len(names)) / counts


def balanced_accuracy(counts: Tensor) -> float:
    """The mean over the classes that occur of the share of their rows that are right."""
    rows = counts.sum(1).double()
    return float((counts.diagonal().double() / rows)[rows > 0].mean())


def auroc(probabilities: Tensor, labels: Tensor) -> float:
    """The mean over classes of the area under each one's ROC curve against the rest; NaN where no class has a rest.

    By ranks, equal ones sharing theirs (Mann and Whitney's U); a class that does not occur is left out.
    """
    found = [area(probabilities[:, own], labels == own) for own in labels.unique()]
    return float(torch.stack(found).mean()) if len(found) > 1 else math.nan


def area(scores: Tensor, positive: Tensor) -> Tensor:
    """The share of pairs of a positive and a negative row in which the positive one has more, equal ones half."""
    ordered, own = scores.sort().values, scores[positive]
    ranks = (torch.searchsorted(ordered, own) + torch.searchsorted(ordered, own, right=True) + 1).double() / 2
    hits, rows = len(own), len(scores)
    return (ranks.sum() - hits * (hits + 1) / 2) / (hits * (rows - hits))


def calibration_error(confidence: Tensor, right: Tensor) -> float:
    """The expected calibration error: how far confidence is from accuracy, over 15 bins of equal width.

    confidence (N,) float64 of the class that is predicted, right (N,) whether it is the true one. Guo et al., "On
    Calibration of Modern Neural Networks", section 2; a bin has its upper end.
    """
    edges = torch.linspace(0, 1, BINS + 1, dtype=confidence.dtype, device=confidence.device)[1:-1]
    sums = torch.zeros(BINS, dtype=confidence.dtype, device=confidence.device)
    sums.index_add_(0, torch.bucketize(confidence, edges), right.to(confidence.dtype) - confidence)
    return float(sums.abs().sum() / len(right))


def confidence_of(logits: Tensor) -> Tensor:
    """The probability of the class that is predicted, (N,) float64."""
    return logits.log_softmax(1).amax(1).double().exp()


def probable(logits: Tensor) -> Tensor:
    """Logits as probabilities, (N, C) float64."""
    return logits.double().softmax(1)


def counted(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits and labels as a confusion matrix."""
    return confusion(labels, logits.argmax(1), logits.shape[1])


MEASURES: dict[str, Callable[[Tensor, Tensor], float]] = {
    "accuracy": lambda logits, labels: accuracy(counted(logits, labels)),
    "macro_f1": lambda logits, labels: macro_f1(counted(logits, labels)),
    "balanced_accuracy": lambda logits, labels: balanced_accuracy(counted(logits, labels)),
    "loss": lambda logits, labels: float(cross_entropy(logits, labels)),
    "auroc": lambda logits, labels: auroc(probable(logits), labels),
    "calibration_error": lambda logits, labels: calibration_error(confidence_of(logits), logits.argmax(1) == labels),
}
"""What validation rows say, by the name of a metric."""


def measure(metric: Metric, logits: Tensor, labels: Tensor) -> float:
    """The value of a metric that validation rows tell; InputError where a study's own function gives no number."""
    if metric.function is None:
        return MEASURES[metric.name](logits, labels)
    # A copy: a function may write into what it is given, and the labels are those of all that is measured after it.
    return own_value(metric, labels.cpu().numpy().copy(), probable(logits).cpu().numpy())


def own_value(metric: Metric, labels: np.ndarray, probabilities: np.ndarray) -> float:
    """What a study's own function says; InputError where it raises, or gives no finite number."""
    assert metric.function is not None
    try:
        value = metric.function(labels, probabilities)
    except Exception as error:  # anybody may have written it
        said = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise InputError(f"metric {metric.name} must be a number for {len(labels)} rows: {said}") from error
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise InputError(f"metric {metric.name} must be a finite number, got {value!r:.80}")
    return float(value)


def every_metric(objective: Objective, classes: int) -> list[Metric]:
    """What is measured once a model is trained, beside loss, accuracy and macro-F1."""
    told = ["balanced_accuracy", *(["auroc"] if classes <= MOST_RANKED else []), "calibration_error"]
    # Of one that the store alone has named there is no function.
    return [*(KNOWN[name] for name in told), *(own for own in objective.metrics if own.function is not None)]


def scores(prefix: str, loss: float, counts: Tensor) -> dict[str, float]:
    """{prefix}_loss, {prefix}_accuracy and {prefix}_macro_f1."""
    return {f"{prefix}_loss": loss, f"{prefix}_accuracy": accuracy(counts), f"{prefix}_macro_f1": macro_f1(counts)}

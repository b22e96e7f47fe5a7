"""A model over many rows, without gradients, and its scores from a confusion matrix, computed where the rows are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmtune.networks.output import Output, answer, parts_of
from mmtune.train.batches import Rows
from mmtune.train.device import evaluation_batch

MOST_DETAILED = 50
"""Of more classes a metric each would bury the others."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What a model says of N rows: logits (N, C), embedding (N, E), `alone` by bank (N, C), labels (N,).

    parts: the widths of the named parts that the embedding is the concatenation of, in order.
    """

    logits: Tensor
    embedding: Tensor
    alone: dict[str, Tensor]
    labels: Tensor
    parts: Mapping[str, int]

    @property
    def predictions(self) -> Tensor:
        """(N,) int64."""
        return self.logits.argmax(1)

    @property
    def counts(self) -> Tensor:
        """The confusion matrix, (C, C)."""
        return confusion(self.labels, self.predictions, self.logits.shape[1])

    def scores(self, prefix: str) -> dict[str, float]:
        """Mean cross-entropy, accuracy and macro-F1, named {prefix}_..."""
        return scores(prefix, float(cross_entropy(self.logits, self.labels)), self.counts)

    def details(self, prefix: str) -> dict[str, float]:
        """F1 of each class as {prefix}_f1_0 and so on, up to MOST_DETAILED classes; for a fusion model also
        {prefix}_accuracy_image_alone and so on."""
        hits = {name: (logits.argmax(1) == self.labels).double() for name, logits in self.alone.items()}
        by_class = f1_per_class(self.counts).tolist() if self.logits.shape[1] <= MOST_DETAILED else []
        return {
            **{f"{prefix}_f1_{label}": value for label, value in enumerate(by_class)},
            **{f"{prefix}_accuracy_{name}_alone": float(hit.mean()) for name, hit in hits.items()},
        }


@torch.no_grad()
def evaluate(model: nn.Module, rows: Rows) -> Evaluation:
    """Run `model` over `rows` in order, in eval mode; its mode is restored."""
    was_training = model.training
    model.eval()
    outputs: list[Output] = []
    for index in torch.arange(len(rows), device=rows.labels.device).split(evaluation_batch(rows.labels.device)):
        inputs, _ = rows.batch(index)
        outputs.append(answer(model, inputs))
    model.train(was_training)
    return Evaluation(
        logits=torch.cat([o.logits for o in outputs]),
        embedding=torch.cat([o.embedding for o in outputs]),
        alone={name: torch.cat([o.alone[name] for o in outputs]) for name in outputs[0].alone},
        labels=rows.labels,
        parts=parts_of(model, outputs[0].embedding),
    )


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


def scores(prefix: str, loss: float, counts: Tensor) -> dict[str, float]:
    """{prefix}_loss, {prefix}_accuracy and {prefix}_macro_f1."""
    return {f"{prefix}_loss": loss, f"{prefix}_accuracy": accuracy(counts), f"{prefix}_macro_f1": macro_f1(counts)}

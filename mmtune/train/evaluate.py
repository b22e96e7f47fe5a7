"""A model over many rows, without gradients, and what its answers say of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmtune.networks.output import Output, answer, parts_of
from mmtune.train.batches import Rows
from mmtune.train.device import evaluation_batch
from mmtune.train.metrics import calibration_error, confusion, f1_per_class, measure, scores
from mmtune.train.objective import Metric
from mmtune.train.temperature import scaled_confidence

MOST_DETAILED = 50
"""Of more classes a metric each would bury the others."""
SCALED = "calibration_error_scaled"
"""What a calibration error is called that is taken by a temperature fitted on other rows."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """What a model says of N rows: logits (N, C), embedding (N, E), `alone` by bank (N, C), labels (N,).

    parts: the widths of the named parts that the embedding is the concatenation of, in order. there: by bank which rows
    (N,) have a value.
    """

    logits: Tensor
    embedding: Tensor
    alone: dict[str, Tensor]
    labels: Tensor
    parts: Mapping[str, int]
    there: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def predictions(self) -> Tensor:
        """(N,) int64."""
        return self.logits.argmax(1)

    @property
    def counts(self) -> Tensor:
        """The confusion matrix, (C, C)."""
        return confusion(self.labels, self.predictions, self.logits.shape[1])

    def scores(self, prefix: str, *more: Metric) -> dict[str, float]:
        """Mean cross-entropy, accuracy and macro-F1, and whatever else is asked for, named {prefix}_..."""
        found = scores(prefix, float(cross_entropy(self.logits, self.labels)), self.counts)
        asked = {f"{prefix}_{own.name}": own for own in more}
        return found | {
            name: measure(own, self.logits, self.labels) for name, own in asked.items() if name not in found
        }

    def scaled(self, prefix: str, temperature: float) -> dict[str, float]:
        """The calibration error as {prefix}_calibration_error_scaled, by a temperature from other rows."""
        confidence = scaled_confidence(self.logits, temperature)
        return {f"{prefix}_{SCALED}": calibration_error(confidence, self.predictions == self.labels)}

    def details(self, prefix: str) -> dict[str, float]:
        """F1 of each class as {prefix}_f1_0 and so on, up to MOST_DETAILED classes; for a fusion model also
        {prefix}_accuracy_image_alone and so on."""
        by_class = f1_per_class(self.counts).tolist() if self.logits.shape[1] <= MOST_DETAILED else []
        return {
            **{f"{prefix}_f1_{label}": value for label, value in enumerate(by_class)},
            **{f"{prefix}_accuracy_{name}_alone": share for name, share in self.right_alone().items()},
        }

    def right_alone(self) -> dict[str, float]:
        """By bank the share of the rows that have a value of it in which it is right by itself; of all, if none has."""
        hits = {name: (logits.argmax(1) == self.labels).double() for name, logits in self.alone.items()}
        there = {name: self.there.get(name, torch.ones_like(hit, dtype=torch.bool)) for name, hit in hits.items()}
        return {name: float((hit[there[name]] if there[name].any() else hit).mean()) for name, hit in hits.items()}


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
        there={name: held.index >= 0 for name, held in rows.banks.items() if held.gaps},
    )

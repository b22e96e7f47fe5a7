"""One step of Adam on one batch, and what an epoch of them adds up to; nothing in it waits for the device."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmtune.train.adam import Adam
from mmtune.train.batches import Rows
from mmtune.train.evaluate import scores


class DivergenceError(RuntimeError):
    """The loss stopped being a number; more epochs cannot mend that."""


class Step:
    """A model, its optimiser and its rows; called with row numbers (B,) int64 it trains on them.

    weights: of the classes in the loss, (C,) float32. precision: "float32", or "bfloat16" for the forward pass of
    convolutions and matrix products, and for their gradients; weights and loss stay float32.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Adam,
        rows: Rows,
        classes: int,
        weights: Tensor | None = None,
        precision: str = "float32",
    ) -> None:
        self.model, self.optimizer, self.rows = model, optimizer, rows
        self.weights, self.half = weights, precision == "bfloat16"
        device = rows.labels.device
        self.total = torch.zeros((), dtype=torch.float64, device=device)
        self.counts = torch.zeros((classes, classes), dtype=torch.int64, device=device)

    def __call__(self, index: Tensor) -> None:
        image, audio, labels = self.rows.batch(index)
        with torch.autocast(labels.device.type, torch.bfloat16, enabled=self.half):
            output = self.model(image, audio)
        logits = output.logits.float()
        loss = cross_entropy(logits, labels, self.weights)
        alone = (cross_entropy(own.float(), labels, self.weights) for own in output.alone.values())
        self.optimizer.zero_grad()
        sum(alone, loss).backward()
        self.optimizer.step()
        self.note(loss.detach(), labels, logits.detach().argmax(1))

    def note(self, loss: Tensor, labels: Tensor, predictions: Tensor) -> None:
        """Add a batch to the epoch's sums."""
        self.total += loss * len(labels)
        places = labels * self.counts.shape[1] + predictions
        self.counts.view(-1).scatter_add_(0, places, torch.ones_like(places))

    def start_epoch(self) -> None:
        """Forget the sums of the epoch before."""
        self.model.train()
        self.total.zero_()
        self.counts.zero_()

    def scores(self) -> dict[str, float]:
        """Loss, accuracy and macro-F1 since `start_epoch`, of the model as it was at each step.

        Raises DivergenceError on a loss that is not finite.
        """
        mean = float(self.total) / len(self.rows)
        if not math.isfinite(mean):
            raise DivergenceError(f"training loss must be finite, got {mean}")
        return scores("train", mean, self.counts)

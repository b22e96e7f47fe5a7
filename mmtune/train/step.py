"""One step of Adam on one batch, and ways to run an epoch of them; nothing in it waits for the device.

All engines make the same steps on the same batches, in the same order.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmtune.networks.output import answer
from mmtune.train.adam import Adam
from mmtune.train.batches import Rows, batch_sizes
from mmtune.train.metrics import scores

WARM = 3


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
        inputs, labels = self.rows.batch(index)
        with torch.autocast(labels.device.type, torch.bfloat16, enabled=self.half):
            output = answer(self.model, inputs)
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


class Engine(Protocol):
    """Trains on all rows in the given order, (N,) int64."""

    def epoch(self, order: Tensor) -> None: ...


class Eager:
    """Step by step, as Python comes to it."""

    def __init__(self, step: Step, batch_size: int) -> None:
        self.step, self.batch_size = step, batch_size

    def epoch(self, order: Tensor) -> None:
        for index in order.split(batch_sizes(len(order), self.batch_size)):
            self.step(index)


class Moving:
    """The next batch of an order that stays where it is; what a CUDA graph needs, which knows addresses alone.

    order (N,) int64 and cursor () int64 lie on the rows' device; each call trains on as many rows as it is told.
    """

    def __init__(self, step: Step) -> None:
        self.step = step
        labels = step.rows.labels
        self.order = torch.zeros(len(labels), dtype=torch.int64, device=labels.device)
        self.cursor = torch.zeros((), dtype=torch.int64, device=labels.device)

    def start(self, order: Tensor) -> None:
        """Begin with a new order."""
        self.order.copy_(order)
        self.cursor.zero_()

    def __call__(self, size: int) -> None:
        places = self.cursor + torch.arange(size, device=self.order.device)
        self.step(self.order[places])
        self.cursor += size


class Graphed:
    """Every step is one launch of a CUDA graph, one graph for each batch size; nothing waits for the host.

    The first steps run on their own, because kernels and the optimiser's state are made as they are first needed.
    They are steps of the training like all others, so nothing has to be undone.
    """

    def __init__(self, step: Step, batch_size: int) -> None:
        self.batch_size = batch_size
        self.moving = Moving(step)
        self.stream = torch.cuda.Stream(step.rows.labels.device)
        self.ran: Counter[int] = Counter()
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def epoch(self, order: Tensor) -> None:
        self.stream.wait_stream(torch.cuda.current_stream(self.stream.device))
        with torch.cuda.stream(self.stream):
            self.moving.start(order)
            for size in batch_sizes(len(order), self.batch_size):
                self.advance(size)
        torch.cuda.current_stream(self.stream.device).wait_stream(self.stream)

    def advance(self, size: int) -> None:
        """One step on the next `size` rows."""
        if self.ran[size] < WARM:
            self.ran[size] += 1
            self.moving(size)
            return
        if size not in self.graphs:
            # Recording trains nothing.
            self.graphs[size] = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graphs[size], stream=self.stream):
                self.moving(size)
        self.graphs[size].replay()


def make_engine(step: Step, batch_size: int) -> Engine:
    """The fastest engine for the device that the rows are on."""
    on_device = step.rows.labels.is_cuda and step.rows.whole
    return Graphed(step, batch_size) if on_device else Eager(step, batch_size)

"""One step on one batch, and ways to run an epoch of them; nothing in it waits for the device.

All engines make the same steps on the same batches, in the same order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from mmtune.networks.output import answer
from mmtune.train.augment import Change, unchanged
from mmtune.train.average import Average
from mmtune.train.balance import Balance
from mmtune.train.batches import Rows, batch_sizes
from mmtune.train.metrics import scores
from mmtune.train.optimizers import Optimizer
from mmtune.train.recipe import Train

WARM = 3
Random = AbstractContextManager[Any]
AS_IT_IS: Random = nullcontext()
"""In it torch draws whatever comes next in this process."""


class DivergenceError(RuntimeError):
    """The loss stopped being a number; more epochs cannot mend that."""


class Step:
    """A model, its optimiser and its rows; called with row numbers (B,) int64 it trains on them, by a recipe.

    weights: of the classes in the loss, (C,) float32. change: what is done to batches. rate: the learning rate of a
    step by its number. average: of the model's weights, where whoever trains it has set one.
    In bfloat16 the forward pass of convolutions and matrix products, and their gradients, are; weights and loss stay
    float32.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        rows: Rows,
        recipe: Train,
        *,
        weights: Tensor | None = None,
        change: Change = unchanged,
        rate: Callable[[int], float] | None = None,
    ) -> None:
        self.model, self.optimizer, self.rows, self.recipe = model, optimizer, rows, recipe
        self.weights, self.change, self.rate = weights, change, rate
        self.average: Average | None = None
        self.balance = Balance(model, recipe.balance) if recipe.balance else None
        self.half, self.restrained = recipe.precision == "bfloat16", bool(recipe.l1 or recipe.clip)
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.number = 0
        device, classes = rows.labels.device, rows.shapes.classes
        self.total = torch.zeros((), dtype=torch.float64, device=device)
        self.counts = torch.zeros((classes, classes), dtype=torch.int64, device=device)

    @property
    def evaluated(self) -> nn.Module:
        """The model that counts: the averaged one where there is an average."""
        return self.model if self.average is None else self.average.current()

    def prepare(self) -> None:
        """Set what differs from one step to the next, before it is made; a CUDA graph finds it at its place."""
        if self.rate is not None:
            self.optimizer.set_rate(self.rate(self.number))
        if self.average is not None:
            self.average.prepare(self.number)
        self.number += 1

    def __call__(self, index: Tensor) -> None:
        inputs, labels = self.rows.batch(index)
        absent = self.rows.absent(index)
        inputs, others, lost = self.change(inputs, labels, absent)
        with torch.autocast(labels.device.type, torch.bfloat16, enabled=self.half):
            output = answer(self.model, inputs)

        def loss_of(logits: Tensor, gone: Tensor | None) -> Tensor:
            found = self.entropy(logits, labels, gone)
            if others is None:
                return found
            return others.share * found + (1 - others.share) * self.entropy(logits, others.labels, gone)

        logits = output.logits.float()
        loss = loss_of(logits, torch.stack(list(lost.values())).all(0) if lost else None)
        alone = (loss_of(own.float(), lost.get(bank)) for bank, own in output.alone.items())
        self.optimizer.zero_grad()
        sum(alone, loss).backward()
        if self.balance is not None:
            gone = {bank: own | lost[bank] if bank in lost else own for bank, own in absent.items()}
            self.balance(output.alone, labels, {**lost, **gone})
        if self.restrained:
            self.restrain()
        self.optimizer.step()
        if self.average is not None:
            self.average.follow()
        self.note(loss.detach(), labels, logits.detach().argmax(1))

    def entropy(self, logits: Tensor, labels: Tensor, lost: Tensor | None = None) -> Tensor:
        """The mean cross-entropy of logits (B, C), as the recipe has it; lost rows (B,) are of each class alike."""
        smoothing = self.recipe.label_smoothing
        if lost is None:
            return cross_entropy(logits, labels, self.weights, label_smoothing=smoothing)
        known = cross_entropy(logits, labels, self.weights, label_smoothing=smoothing, reduction="none")
        alike = -log_softmax(logits, 1).mean(1)
        # The mean over rows of different weight, as cross_entropy has it.
        weight = torch.ones_like(alike) if self.weights is None else self.weights[labels]
        weight = torch.where(lost, torch.ones_like(weight), weight)
        return torch.where(lost, alike, known).sum() / weight.sum()

    @torch.no_grad()
    def restrain(self) -> None:
        """Add what an L1 penalty pulls to the gradients, and cut them to their largest norm."""
        recipe = self.recipe
        if recipe.l1:
            pulled = [(parameter.grad, parameter) for parameter in self.trained if parameter.grad is not None]
            signs = torch._foreach_sign([parameter.data for _, parameter in pulled])
            torch._foreach_add_([grad for grad, _ in pulled], signs, alpha=recipe.l1)
        if recipe.clip:
            nn.utils.clip_grad_norm_(self.trained, recipe.clip)

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
    """Step by step, as Python comes to it. random: inside it torch draws what the training is to draw."""

    def __init__(self, step: Step, batch_size: int, random: Random = AS_IT_IS) -> None:
        self.step, self.batch_size, self.random = step, batch_size, random

    def epoch(self, order: Tensor) -> None:
        # On a GPU others in this process wait for their turn to draw, on a CPU there are none.
        whole, each = (AS_IT_IS, self.random) if order.is_cuda else (self.random, AS_IT_IS)
        with whole:
            for index in order.split(batch_sizes(len(order), self.batch_size)):
                self.step.prepare()
                with each:
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
    They are steps of the training like all others, so nothing has to be undone. random: as of `Eager`; a launch needs
    it no more.
    """

    def __init__(self, step: Step, batch_size: int, random: Random = AS_IT_IS) -> None:
        self.step, self.batch_size, self.random = step, batch_size, random
        self.moving = Moving(step)
        device = step.rows.labels.device
        # torch has 32 streams, which it hands out in turn: whoever has its own needs no other, which may be another's.
        own = torch.cuda.current_stream(device)
        self.stream = torch.cuda.Stream(device) if own == torch.cuda.default_stream(device) else own
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
        self.step.prepare()
        if self.ran[size] < WARM:
            self.ran[size] += 1
            with self.random:
                self.moving(size)
            return
        if size not in self.graphs:
            self.graphs[size] = self.captured(size)
        self.graphs[size].replay()

    def captured(self, size: int) -> torch.cuda.CUDAGraph:
        """A step on `size` rows as a graph, which trains nothing yet; other threads go on meanwhile."""
        graph = torch.cuda.CUDAGraph()
        with self.random, torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            self.moving(size)
        return graph


def make_engine(step: Step, batch_size: int, random: Random = AS_IT_IS) -> Engine:
    """The fastest engine for the device that the rows are on."""
    on_device = step.rows.labels.is_cuda and step.rows.whole and step.optimizer.capturable
    return Graphed(step, batch_size, random) if on_device else Eager(step, batch_size, random)

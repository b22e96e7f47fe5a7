"""Ways to run the steps of an epoch. All of them make the same steps on the same batches, in the same order."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

import torch
from torch import Tensor

from mmtune.train.batches import batch_sizes
from mmtune.train.step import Step

WARM = 3


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
    return Graphed(step, batch_size) if step.rows.labels.is_cuda else Eager(step, batch_size)

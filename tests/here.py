"""A pool that trains in the test's own process: no worker to start, and every event at a moment of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self

import torch

from mmtune.data.dataset import Dataset
from mmtune.pool.worker import Event, Job, WorkerSpec, run_job
from mmtune.train.batches import Resident


def here(dataset: Dataset) -> Callable[[WorkerSpec, int], Here]:
    """What makes such a pool for a data set."""

    def pool(spec: WorkerSpec, count: int) -> Here:
        return Here(spec=spec, data=Resident(dataset.train, spec.classes, torch.device("cpu"), spec.missing))

    return pool


@dataclass(kw_only=True)
class Here:
    """A pool that trains in this very process, a job whenever it is listened to."""

    spec: WorkerSpec
    data: Resident
    waiting: list[Job] = field(default_factory=list)
    said: list[Event] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    @property
    def idle(self) -> int:
        return 1 - len(self.waiting)

    def narrow(self) -> int:
        return 1

    def submit(self, job: Job) -> None:
        self.waiting.append(job)

    def answer(self, number: int, go_on: bool) -> None:
        raise AssertionError("nothing is pruned")

    def send(self, event: Event) -> None:
        self.said.append(event)

    def recv(self) -> bool:
        raise AssertionError("nothing is pruned")

    def events(self, timeout: float) -> Iterator[Event]:
        for job in self.waiting[:1]:
            self.said.append(run_job(job, self.data, self.spec, self))
            yield from self.said
            self.said, self.waiting = [], []

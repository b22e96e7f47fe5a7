"""Pools of workers, which the coordinator hands jobs and hears events from.

A worker dies with its coordinator, and when it dies itself its job comes back as a `Died` event.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

from mmtune.base.errors import InputError
from mmtune.pool.worker import Broken, Died, Done, Event, Failed, Job, Ready, WorkerSpec

STARTS = 3
OUT_OF_MEMORY = "worker was killed by the kernel, as memory gave out"
# To load torch and the data may take so long on a slow disk.
START_SECONDS = 300.0
# What one look at the workers may add to their silence: a coordinator that was stopped itself has not listened.
LOOK_SECONDS = 5.0


@dataclass(kw_only=True, eq=False)
class Worker:
    """The job that a worker has, and for how many seconds it has said nothing.

    begun: whether it has a place to run; ready: whether it has its data; ending: whether it can do no more. lost:
    whether it is ended for another one's sake.
    """

    job: Job | None = None
    begun: bool = True
    ready: bool = False
    ending: bool = False
    lost: bool = False
    silent: float = 0.0

    @property
    def free(self) -> bool:
        """Whether it may be given a job."""
        return self.ready and not self.ending and self.job is None


W = TypeVar("W", bound=Worker)


class Workers(ABC, Generic[W]):
    """What pools have in common: who has which job, who hangs, who died; `count` jobs at most run side by side."""

    workers: list[W]

    def __init__(self, spec: WorkerSpec, count: int) -> None:
        self.spec = spec
        self.looked = time.monotonic()
        self.failed_starts = 0
        self.limit = count

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def idle(self) -> int:
        """How many workers are ready, have no job and may have one."""
        busy = sum(worker.job is not None for worker in self.workers)
        return min(sum(worker.free for worker in self.workers), self.limit - busy)

    def narrow(self) -> int:
        """From now on let fewer jobs run side by side than ran when memory gave out; returns how many may."""
        busy = sum(worker.job is not None for worker in self.workers)
        self.limit = max(1, min(self.limit - 1, busy))
        return self.limit

    def submit(self, job: Job) -> None:
        """Give a job to an idle worker; there must be one."""
        worker = next(worker for worker in self.workers if worker.free)
        worker.job, worker.silent = job, 0.0
        self._send(worker, job)

    def answer(self, number: int, go_on: bool) -> None:
        """Tell the worker that waits at a rung of job `number` whether to go on."""
        worker = next(worker for worker in self.workers if worker.job is not None and worker.job.number == number)
        self._send(worker, go_on)

    @abstractmethod
    def events(self, timeout: float) -> Iterator[Event]:
        """What has happened, waiting up to `timeout` seconds for the first event.

        Raises InputError where workers cannot start.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop every worker at once."""

    @abstractmethod
    def _send(self, worker: W, message: Job | bool) -> None:
        """Say something to a worker; one that is already dead is reported by `events`, with its job."""

    @abstractmethod
    def _kill(self, worker: W) -> None:
        """End a worker that may not listen."""

    @abstractmethod
    def _take_away(self, worker: W) -> str:
        """What is left of a worker that is dead; returns how it died."""

    @abstractmethod
    def _replace(self, worker: W) -> None:
        """Put another one in the place of a worker that is dead."""

    def _end_hung(self) -> Iterator[Event]:
        now = time.monotonic()
        passed, self.looked = min(now - self.looked, LOOK_SECONDS), now
        for worker in list(self.workers):
            owes_word = worker.job is not None or (worker.begun and not worker.ready)
            worker.silent += passed if owes_word else 0.0
            patience = self.spec.hung_after if worker.ready else max(self.spec.hung_after, START_SECONDS)
            if worker.silent > patience:
                self._kill(worker)
                yield from self._remove(worker, f"worker hung: it said nothing for {patience:g} s")

    def _note(self, worker: W, event: Event) -> Event:
        worker.silent = 0.0
        if isinstance(event, Broken):
            raise InputError(f"workers cannot start: {event.reason}")
        if isinstance(event, Ready):
            worker.ready, self.failed_starts = True, 0
        if isinstance(event, Done | Failed):
            worker.job, worker.ending = None, isinstance(event, Failed) and event.last
        return event

    def _remove(self, worker: W, reason: str = "", lost: bool = False) -> Iterator[Event]:
        found = self._take_away(worker)
        reason = reason or found
        self.failed_starts += not worker.ready
        if self.failed_starts >= STARTS * len(self.workers):
            raise InputError(f"workers cannot start: {reason}")
        self._replace(worker)
        if worker.job is not None:
            memory = found == OUT_OF_MEMORY
            yield Died(number=worker.job.number, reason=reason, lost=lost or worker.lost, memory=memory)

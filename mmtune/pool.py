"""Workers that only train; the coordinator hands them jobs and hears events.

A worker knows neither Optuna nor MLflow. It dies with its coordinator, and when it dies itself its job
comes back as a `Died` event.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from mmtune.config import TrialConfig
from mmtune.data.dataset import Partition
from mmtune.data.splits import Split
from mmtune.errors import InputError
from mmtune.files import storage_problem

if TYPE_CHECKING:
    import torch

    from mmtune.train.batches import Resident

STARTS = 3
HUNG_AFTER = 1800.0
# To load torch and the data may take so long on a slow disk.
START_SECONDS = 300.0
# What one look at the workers may add to their silence: a coordinator that was stopped itself has not listened.
LOOK_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training to do in `folder`. After the epochs in `rungs` the worker waits to hear whether to go on.

    split: the number of the split to train on. encoders: by modality, the folder of a trained model to start from.
    checkpoint: the folder of a training to go on from.
    """

    number: int
    config: TrialConfig
    seed: int
    folder: Path
    split: int = 0
    rungs: frozenset[int] = frozenset()
    encoders: Mapping[str, Path] = field(default_factory=dict)
    checkpoint: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A worker has its data and names its device."""

    device: str


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A worker cannot get its data, and no other one could."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """An epoch of a job is done."""

    number: int
    epoch: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Done:
    """A job is done, or was pruned; its folder is complete."""

    number: int
    metrics: Mapping[str, float]
    pruned: bool


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A job raised; its folder holds `error.txt`.

    retry: whether another attempt makes sense. memory: whether there was too little of it for this job beside others.
    storage: what kept its files from being written, "" if nothing did.
    """

    number: int
    reason: str
    retry: bool
    memory: bool = False
    storage: str = ""


@dataclass(frozen=True, kw_only=True)
class Died:
    """A worker died under a job."""

    number: int
    reason: str


Event = Ready | Broken | Epoch | Done | Failed | Died


@dataclass(frozen=True, kw_only=True)
class WorkerSpec:
    """What every worker is started with: the data, the rows of each split, and the device.

    hung_after: after so many seconds without a word a worker that has something to do counts as hung.
    """

    data: Path
    splits: tuple[Split, ...]
    device: str
    hung_after: float = HUNG_AFTER


@dataclass(kw_only=True, eq=False)
class Worker:
    """The job that a worker has, and for how many seconds it has said nothing.

    begun: whether it has a place to run; ready: whether it has its data.
    """

    job: Job | None = None
    begun: bool = True
    ready: bool = False
    silent: float = 0.0


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
        return min(sum(worker.ready and worker.job is None for worker in self.workers), self.limit - busy)

    def narrow(self) -> int:
        """From now on let fewer jobs run side by side than ran when memory gave out; returns how many may."""
        busy = sum(worker.job is not None for worker in self.workers)
        self.limit = max(1, min(self.limit - 1, busy))
        return self.limit

    def submit(self, job: Job) -> None:
        """Give a job to an idle worker; there must be one."""
        worker = next(worker for worker in self.workers if worker.ready and worker.job is None)
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
                yield from self._bury(worker, f"worker hung: it said nothing for {patience:g} s")

    def _note(self, worker: W, event: Event) -> Event:
        worker.silent = 0.0
        if isinstance(event, Broken):
            raise InputError(f"workers cannot start: {event.reason}")
        if isinstance(event, Ready):
            worker.ready, self.failed_starts = True, 0
        if isinstance(event, Done | Failed):
            worker.job = None
        return event

    def _bury(self, worker: W, reason: str = "") -> Iterator[Event]:
        found = self._take_away(worker)
        reason = reason or found
        self.failed_starts += not worker.ready
        if self.failed_starts >= STARTS * len(self.workers):
            raise InputError(f"workers cannot start: {reason}")
        self._replace(worker)
        if worker.job is not None:
            yield Died(number=worker.job.number, reason=reason)


@dataclass(kw_only=True, eq=False)
class LocalWorker(Worker):
    """A process, and our end of its pipe."""

    process: SpawnProcess
    pipe: Connection


class LocalPool(Workers[LocalWorker]):
    """`count` worker processes on this machine; a worker that dies or hangs is replaced."""

    def __init__(self, spec: WorkerSpec, count: int) -> None:
        super().__init__(spec, count)
        self.workers = [start_worker(spec) for _ in range(count)]

    def events(self, timeout: float) -> Iterator[Event]:
        ends = {worker.pipe: worker for worker in self.workers}
        for pipe in wait(list(ends), timeout):
            worker = ends[pipe]  # type: ignore[index]
            try:
                event = worker.pipe.recv()
            except (EOFError, OSError):
                yield from self._bury(worker)
            else:
                yield self._note(worker, event)
        yield from self._end_hung()

    def close(self) -> None:
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            self._take_away(worker)

    def _send(self, worker: LocalWorker, message: Job | bool) -> None:
        with suppress(OSError):
            worker.pipe.send(message)

    def _kill(self, worker: LocalWorker) -> None:
        worker.process.kill()

    def _take_away(self, worker: LocalWorker) -> str:
        worker.process.join()
        worker.pipe.close()
        return exit_reason(worker.process.exitcode)

    def _replace(self, worker: LocalWorker) -> None:
        self.workers[self.workers.index(worker)] = start_worker(self.spec)


def exit_reason(code: int | None) -> str:
    """How a process ended, in words."""
    if code is not None and code < 0:
        return f"worker was killed by {signal.Signals(-code).name}"
    return f"worker exited with code {code}"


def start_worker(spec: WorkerSpec) -> LocalWorker:
    """A new worker process, which loads its data while the caller goes on."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(spec, theirs), daemon=True)
    # Ctrl-C and SIGTERM reach the whole process group, but stopping is the coordinator's to decide: a worker
    # inherits the mask, so that neither can end it, from its first instruction on.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return LocalWorker(process=process, pipe=ours)


def work(spec: WorkerSpec, pipe: Connection) -> None:
    """The life of a worker process."""
    threading.Thread(target=die_with_parent, daemon=True).start()

    from mmtune.data.store import load

    with suppress(EOFError):
        live(spec, lambda: load(spec.data, verify=False).train, pipe)


class Line(Protocol):
    """A worker's end of what ties it to its pool: it sends events, and receives jobs and verdicts at rungs."""

    def send(self, event: Event, /) -> None: ...
    def recv(self) -> Any: ...


def live(spec: WorkerSpec, read: Callable[[], Partition], line: Line) -> None:
    """A worker's life: load the data once, then train job after job for as long as the device does."""
    import torch

    from mmtune.train.batches import Resident
    from mmtune.train.device import settle

    device = torch.device(spec.device)
    settle(device)
    try:
        partition = read()
    except InputError as error:
        line.send(Broken(reason=str(error)))
        return
    line.send(Ready(device=spec.device))
    data = Resident(partition, device)
    while device_lives(device):
        line.send(run_job(line.recv(), data, spec, line))


def device_lives(device: torch.device) -> bool:
    """Whether more can be done on the device; after a failed assertion on a GPU its process never can."""
    import torch

    try:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.empty_cache()
    except RuntimeError:
        return False
    return True


def die_with_parent() -> None:
    """End this process as soon as the coordinator is gone, also if it was killed."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def run_job(job: Job, data: Resident, spec: WorkerSpec, line: Line) -> Event:
    """Train one job; whatever it raises becomes a Failed event."""
    from mmtune.train.step import DivergenceError
    from mmtune.train.trial import Origin, run_trial

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> bool:
        line.send(Epoch(number=job.number, epoch=epoch, metrics=metrics))
        return bool(line.recv()) if epoch in job.rungs else True

    try:
        origin = Origin(encoders=job.encoders, checkpoint=job.checkpoint)
        split = spec.splits[job.split]
        metrics, pruned = run_trial(job.config, data, split, job.seed, job.folder, on_epoch, origin)
        return Done(number=job.number, metrics=metrics, pruned=pruned)
    except Exception as error:  # a worker outlives every job
        # Where the disk is what failed, this fails too.
        with suppress(OSError):
            job.folder.mkdir(parents=True, exist_ok=True)
            (job.folder / "error.txt").write_text(traceback.format_exc())
        return Failed(
            number=job.number,
            reason=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            retry=not isinstance(error, DivergenceError | InputError),
            memory=out_of_memory(error),
            storage=("" if isinstance(error, InputError) else storage_problem(error)) or "",
        )


def out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed, of Python's, of numpy's, or of torch's on any device."""
    import torch

    # On a CPU torch has no class of its own for it.
    told = isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    return told or isinstance(error, MemoryError | torch.OutOfMemoryError)

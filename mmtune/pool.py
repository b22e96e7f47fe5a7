"""Worker processes that only train; the coordinator hands them jobs and hears events.

A worker knows neither Optuna nor MLflow. It dies with its coordinator, and when it dies itself its job
comes back as a `Died` event.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING

from mmtune.config import TrialConfig
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
    """A process, our end of its pipe, the job it has, and for how many seconds it has said nothing."""

    process: SpawnProcess
    pipe: Connection
    job: Job | None = None
    ready: bool = False
    silent: float = 0.0


class LocalPool:
    """`count` worker processes on this machine; a worker that dies or hangs is replaced."""

    def __init__(self, spec: WorkerSpec, count: int) -> None:
        self.spec = spec
        self.looked = time.monotonic()
        self.failed_starts = 0
        self.limit = count
        self.workers = [start_worker(spec) for _ in range(count)]

    def __enter__(self) -> LocalPool:
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
        # A worker that is already dead is reported by `events`, with this job.
        with suppress(OSError):
            worker.pipe.send(job)

    def answer(self, number: int, go_on: bool) -> None:
        """Tell the worker that waits at a rung of job `number` whether to go on."""
        worker = next(worker for worker in self.workers if worker.job is not None and worker.job.number == number)
        with suppress(OSError):
            worker.pipe.send(go_on)

    def events(self, timeout: float) -> Iterator[Event]:
        """What has happened, waiting up to `timeout` seconds for the first event.

        Raises InputError where workers cannot start.
        """
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
        """Stop every worker at once."""
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.process.join()
            worker.pipe.close()

    def _end_hung(self) -> Iterator[Event]:
        now = time.monotonic()
        passed, self.looked = min(now - self.looked, LOOK_SECONDS), now
        for worker in list(self.workers):
            worker.silent += passed if worker.job is not None or not worker.ready else 0.0
            patience = self.spec.hung_after if worker.ready else max(self.spec.hung_after, START_SECONDS)
            if worker.silent > patience:
                worker.process.kill()
                yield from self._bury(worker, f"worker hung: it said nothing for {patience:g} s")

    def _note(self, worker: Worker, event: Event) -> Event:
        worker.silent = 0.0
        if isinstance(event, Broken):
            raise InputError(f"workers cannot start: {event.reason}")
        if isinstance(event, Ready):
            worker.ready, self.failed_starts = True, 0
        if isinstance(event, Done | Failed):
            worker.job = None
        return event

    def _bury(self, worker: Worker, reason: str = "") -> Iterator[Event]:
        worker.process.join()
        worker.pipe.close()
        reason = reason or exit_reason(worker.process.exitcode)
        self.failed_starts += not worker.ready
        if self.failed_starts >= STARTS * len(self.workers):
            raise InputError(f"workers cannot start: {reason}")
        self.workers[self.workers.index(worker)] = start_worker(self.spec)
        if worker.job is not None:
            yield Died(number=worker.job.number, reason=reason)


def exit_reason(code: int | None) -> str:
    """How a process ended, in words."""
    if code is not None and code < 0:
        return f"worker was killed by {signal.Signals(-code).name}"
    return f"worker exited with code {code}"


def start_worker(spec: WorkerSpec) -> Worker:
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
    return Worker(process=process, pipe=ours)


def work(spec: WorkerSpec, pipe: Connection) -> None:
    """A worker's life: load the data once, then train job after job."""
    threading.Thread(target=die_with_parent, daemon=True).start()

    import torch

    from mmtune.data.store import load
    from mmtune.train.batches import Resident
    from mmtune.train.device import settle

    device = torch.device(spec.device)
    settle(device)
    try:
        partition = load(spec.data, verify=False).train
    except InputError as error:
        pipe.send(Broken(reason=str(error)))
        return
    pipe.send(Ready(device=spec.device))
    data = Resident(partition, device)
    while device_lives(device):
        try:
            job = pipe.recv()
        except EOFError:
            return
        pipe.send(run_job(job, data, spec, pipe))


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


def run_job(job: Job, data: Resident, spec: WorkerSpec, pipe: Connection) -> Event:
    """Train one job; whatever it raises becomes a Failed event."""
    from mmtune.train.step import DivergenceError
    from mmtune.train.trial import Origin, run_trial

    def on_epoch(epoch: int, metrics: Mapping[str, float]) -> bool:
        pipe.send(Epoch(number=job.number, epoch=epoch, metrics=metrics))
        return bool(pipe.recv()) if epoch in job.rungs else True

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

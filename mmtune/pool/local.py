"""Pools of workers, which the coordinator hands jobs and hears events from; the one of this machine.

A worker dies with its coordinator, and when it dies itself its job comes back as a `Died` event.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Self, TypeVar

import cloudpickle

from mmtune.base.errors import InputError
from mmtune.base.signals import STOPS
from mmtune.pool.worker import Broken, Died, Done, Event, Failed, Job, Ready, WorkerSpec, live

PRELOADED = ("mmtune.train.trial", "mmtune.data.storage.store")
SAFE_PATH = "PYTHONSAFEPATH"
STARTS = 3
VMSTAT = Path("/proc/vmstat")
OUT_OF_MEMORY = "worker was killed by the kernel, as memory gave out"
# Each has a stream of a GPU, of which torch has 32.
MOST_TOGETHER = 16
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


@dataclass(kw_only=True, eq=False)
class LocalWorker(Worker):
    """A process, or a thread of one, and our end of its pipe."""

    process: ForkServerProcess
    pipe: Connection


class LocalPool(Workers[LocalWorker]):
    """`count` workers on this machine, each a process; a worker that dies or hangs is replaced.

    On a GPU, which has time for one process only at any moment, they are threads of one process. Once that has died,
    which ends all of their jobs, they are processes there too: whatever does it again ends no other job.
    together: how many share a process; 1 on a CPU, MOST_TOGETHER on a GPU if not given.
    """

    def __init__(self, spec: WorkerSpec, count: int, together: int | None = None) -> None:
        super().__init__(spec, count)
        self.together = min(count, together or (MOST_TOGETHER if spec.device.startswith("cuda") else 1))
        self.spare: list[LocalWorker] = []
        self.ended_by_kernel = count_ended_by_kernel()
        self.workers = [self._next() for _ in range(count)]

    def _next(self) -> LocalWorker:
        """A worker that has begun to load its data."""
        self.spare = self.spare or start_workers(self.spec, self.together)
        return self.spare.pop()

    def events(self, timeout: float) -> Iterator[Event]:
        ends = {worker.pipe: worker for worker in self.workers}
        for pipe in wait(list(ends), timeout):
            worker = ends[pipe]  # type: ignore[index]
            try:
                event = worker.pipe.recv()
            except (EOFError, OSError):
                yield from self._remove(worker)
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
            worker.pipe.send_bytes(cloudpickle.dumps(message))

    def _kill(self, worker: LocalWorker) -> None:
        for other in self.workers:
            other.lost = other.lost or (other.process is worker.process and other is not worker)
        worker.process.kill()

    def _take_away(self, worker: LocalWorker) -> str:
        worker.process.join()
        worker.pipe.close()
        code = worker.process.exitcode
        before, self.ended_by_kernel = self.ended_by_kernel, count_ended_by_kernel()
        if code == -signal.SIGKILL and self.ended_by_kernel > before:
            return OUT_OF_MEMORY
        if code is not None and code < 0:
            return f"worker was killed by {signal.Signals(-code).name}"
        return f"worker exited with code {code}"

    def _replace(self, worker: LocalWorker) -> None:
        self.together = 1
        self.workers[self.workers.index(worker)] = self._next()


def count_ended_by_kernel() -> int:
    """How many processes of this machine Linux has killed for their memory; 0 where nothing says."""
    with suppress(OSError, ValueError):
        named = dict(line.split() for line in VMSTAT.read_text().splitlines())
        return int(named.get("oom_kill", 0))
    return 0


@contextmanager
def loaded_ahead() -> Iterator[None]:
    """Begin to load what workers need, once for all of them: in a process that they are forked from, which ends with
    this. It takes a second or two, in which the caller goes on."""
    server: Any = forkserver._forkserver
    # One that somebody else's processes are forked from is not ours to end.
    ours = server._forkserver_pid is None
    load_ahead()
    try:
        yield
    finally:
        if ours and server._forkserver_pid is not None:
            # It would first take apart what it has loaded.
            os.kill(server._forkserver_pid, signal.SIGKILL)
            server._stop()


def load_ahead() -> None:
    """Have a process that workers can be forked from."""
    context = get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    # Such signals reach the whole process group, but stopping is the coordinator's to decide: workers inherit the mask,
    # so that none can end them, from their first instruction on.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    path = os.environ.get(SAFE_PATH)
    # It would look for torch in the folder that one happens to be in.
    os.environ[SAFE_PATH] = "1"
    try:
        # With its first process multiprocessing starts one of its own and then takes the mask away again.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        with without_main():
            forkserver.ensure_running()
    finally:
        os.environ.pop(SAFE_PATH)
        os.environ.update({} if path is None else {SAFE_PATH: path})
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_workers(spec: WorkerSpec, count: int) -> list[LocalWorker]:
    """New workers in one process, which loads its data while the caller goes on; InputError where none can be begun."""
    load_ahead()
    context = get_context("forkserver")
    ours, theirs = zip(*(context.Pipe() for _ in range(count)), strict=True)
    # What is read of the environment from now on is what it says now, not when the server of all workers began.
    process = context.Process(target=work, args=(cloudpickle.dumps(spec), theirs, dict(os.environ)), daemon=True)
    try:
        with without_main():
            process.start()
    except (OSError, EOFError) as error:
        raise InputError(f"workers cannot start: what they are forked from has ended ({error})") from error
    for pipe in theirs:
        pipe.close()
    return [LocalWorker(process=process, pipe=pipe) for pipe in ours]


@contextmanager
def without_main() -> Iterator[None]:
    """Keep a process that starts from running our main file again: a worker needs nothing that stands in there."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


class Ears:
    """A worker's end of its pipe; what it hears may hold classes of a study's file, or of a notebook."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe

    def send(self, event: Event) -> None:
        self.pipe.send(event)

    def recv(self) -> Job | bool:
        found: Job | bool = cloudpickle.loads(self.pipe.recv_bytes())
        return found


def work(spec: bytes, pipes: Sequence[Connection], environment: Mapping[str, str]) -> None:
    """The life of a process of workers, one for each pipe."""
    # Where somebody else's server has forked it, no mask was inherited.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=die_with_parent, daemon=True).start()

    # Its end of the pipe is closed, or gone: so is its coordinator.
    with suppress(EOFError, ConnectionError):
        own: WorkerSpec = cloudpickle.loads(spec)
        live(own, own.training_rows, *map(Ears, pipes))


def die_with_parent() -> None:
    """End this process as soon as the coordinator is gone, also if it was killed."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)

"""The pool of this machine: workers are processes, or on a GPU threads of one."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from mmtune.base.errors import InputError
from mmtune.base.signals import STOPS
from mmtune.pool.worker import Event, Job, WorkerSpec, live
from mmtune.pool.workers import OUT_OF_MEMORY, Worker, Workers

PRELOADED = ("mmtune.train.trial", "mmtune.data.storage.store")
SAFE_PATH = "PYTHONSAFEPATH"
VMSTAT = Path("/proc/vmstat")
# Each has a stream of a GPU, of which torch has 32.
MOST_TOGETHER = 16


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

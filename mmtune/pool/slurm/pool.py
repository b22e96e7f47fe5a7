"""SLURM for the length of a command, and the pool of a study on it: its jobs, what they are told and what they say."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty
from typing import Any, Self

from mmtune.base.errors import InputError
from mmtune.pool.same import SAME, differences, made_with
from mmtune.pool.slurm.job import Leaving, train
from mmtune.pool.slurm.queue import (
    TAKEN_AWAY,
    Request,
    Submit,
    cancel,
    how_ended,
    last_line,
    own_folder,
    slurm_executor,
    submit,
)
from mmtune.pool.slurm.tie import Listener, Tie, names
from mmtune.pool.worker import Done, Event, Failed, Job, WorkerSpec
from mmtune.pool.workers import STARTS, Worker, Workers

PATIENCE_SECONDS = 15.0
# A start that failed is tried again so much later, and a request that SLURM refused while others run.
RETRY_SECONDS, REFUSED_SECONDS = 10.0, 60.0
LOOK_SECONDS = 2.0
# So long SLURM may take to say what has become of a job whose worker is gone without a word.
VERDICT_SECONDS = 20.0
ELSEWHERE = ("ModuleNotFoundError:", "ImportError:", "AttributeError:")


@dataclass(kw_only=True, eq=False)
class SlurmWorker(Worker):
    """A task of a job, and our end of its tie once it has begun.

    ended: when the tie was found gone. goodbye: what the worker said before. over: whether its job needs no end.
    """

    submitted: Any
    task: int
    tie: Tie | None = None
    name: str = ""
    ended: float | None = None
    goodbye: Leaving | None = None
    over: bool = False


class SlurmSession:
    """SLURM for one command: a folder below its store, from the first pool that it makes to its end."""

    def __init__(
        self, request: Request, store: Path, say: Callable[[str], None], executor: Submit = slurm_executor
    ) -> None:
        self.request, self.store, self.say, self.executor = request, store, say, executor
        self.folder: Path | None = None
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def __call__(self, spec: WorkerSpec, count: int) -> SlurmPool:
        """A pool of `count` workers at most. Raises InputError where SLURM refuses."""
        if self.folder is None:
            self.folder = self.stack.enter_context(own_folder(self.store.absolute()))
        return SlurmPool(spec, count, self.request, self.folder, self.executor(self.folder), self.say)


class SlurmPool(Workers[SlurmWorker]):
    """Tasks of jobs, `count` of them; where one ends, another job is asked for.

    folder: of scripts, logs and the secret, which every node sees. executor: submitit's, which writes there.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        count: int,
        request: Request,
        folder: Path,
        executor: Any,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(replace(spec, data=spec.data.absolute()), count)
        self.count, self.request, self.folder, self.executor, self.say = count, request, folder, executor, say
        self.workers: list[SlurmWorker] = []
        self.ties: dict[Tie, SlurmWorker] = {}
        self.began, self.refusal = False, ""
        self.due = self.look_due = 0.0
        self.waits_since: float | None = time.monotonic()
        self.listener = Listener()
        self.secret = folder / f"secret-{self.listener.port}"
        try:
            with os.fdopen(os.open(self.secret, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(self.listener.secret)
            self._follow()
        except BaseException:
            self.close()
            raise

    def events(self, timeout: float) -> Iterator[Event]:
        self._follow()
        for tie, message in self._said(timeout):
            yield from self._hear(tie, message)
        yield from self._look()
        yield from self._end_hung()

    def close(self) -> None:
        self.listener.close()
        for tie in list(self.ties):
            tie.close()
        cancel(worker.submitted.job_id for worker in self.workers if not worker.over)
        self.workers, self.ties = [], {}
        self.secret.unlink(missing_ok=True)

    # ---- how many

    def _follow(self) -> None:
        """Ask for the jobs that are missing, unless there is less to do than there are workers."""
        now = time.monotonic()
        if now < self.due or any(worker.ready and worker.job is None for worker in self.workers):
            return
        tasks = min(self.request.tasks, self.count)
        jobs = math.ceil(self.count / tasks) - len({worker.submitted.job_id for worker in self.workers})
        whole = min(jobs, (self.count - len(self.workers)) // tasks)
        if whole:
            self._ask(whole, tasks)
        # The last job has as many as are left.
        rest = self.count - len(self.workers)
        if jobs > whole and 0 < rest < tasks:
            self._ask(1, rest)
        if any(worker.begun for worker in self.workers):
            self.waits_since = None
        elif self.waits_since is not None and now - self.waits_since > PATIENCE_SECONDS:
            pending = len({worker.submitted.job_id for worker in self.workers})
            self.say(f"waiting for SLURM: {pending} job{'s' * (pending > 1)} pending")
            self.waits_since = None

    def _ask(self, jobs: int, tasks: int) -> None:
        work = (train, names(), self.listener.port, self.secret)
        try:
            made = submit(self.executor, self.request.parameters(tasks), work, jobs)
        except InputError as error:
            if not self.workers:
                raise
            # A limit on how many one may have, perhaps; what runs goes on.
            if self.refusal != str(error):
                self.refusal = str(error)
                self.say(self.refusal)
            self.due = time.monotonic() + REFUSED_SECONDS
            return
        self.workers += [SlurmWorker(submitted=job, task=task, begun=False) for job in made for task in range(tasks)]

    # ---- saying and hearing

    def _send(self, worker: SlurmWorker, message: Job | bool) -> None:
        if isinstance(message, Job):
            # A job begins in a folder of SLURM's choosing.
            encoders = {bank: folder.absolute() for bank, folder in message.encoders.items()}
            checkpoint = None if message.checkpoint is None else message.checkpoint.absolute()
            message = replace(message, folder=message.folder.absolute(), encoders=encoders, checkpoint=checkpoint)
        if worker.tie is not None:
            with suppress(OSError):
                worker.tie.send(message)

    def _said(self, timeout: float) -> Iterator[tuple[Tie, Any]]:
        with suppress(Empty):
            yield self.listener.heard.get(timeout=timeout) if timeout else self.listener.heard.get_nowait()
            while True:
                yield self.listener.heard.get_nowait()

    def _hear(self, tie: Tie, message: Any) -> Iterator[Event]:
        worker = self.ties.get(tie)
        if worker is None:
            if isinstance(message, Mapping):
                self._welcome(tie, message)
        elif message is None:
            yield from self._gone(worker)
        elif isinstance(message, Leaving):
            worker.goodbye = message
        else:
            if isinstance(message, Done | Failed) and worker.job is not None:
                refresh(worker.job.folder)
            yield self._note(worker, message)

    def _welcome(self, tie: Tie, hello: Mapping[str, Any]) -> None:
        """Tell a worker what it is there for; InputError where it would train with other code than this machine's."""
        place = (hello["job"], hello["task"])
        found = [own for own in self.workers if not own.begun and (own.submitted.job_id, own.task) == place]
        if not found:
            tie.close()
            return
        (worker,) = found
        worker.begun, worker.silent, worker.name, worker.tie = True, 0.0, hello["name"], tie
        self.began, self.ties[tie] = True, worker
        differing = differences(hello["made_with"], made_with())
        if differing:
            raise InputError(f"{SAME}: {worker.name} has {', '.join(differing)}")
        with suppress(OSError):
            tie.send(self.spec)

    # ---- dying

    def _gone(self, worker: SlurmWorker) -> Iterator[Event]:
        """The tie of a worker is gone: it has said why, or SLURM may."""
        if worker.job is not None:
            refresh(worker.job.folder)
        worker.ended = time.monotonic()
        self.look_due = 0.0
        if worker.goodbye is not None:
            worker.over = self.request.tasks == 1
            yield from self._remove(worker, worker.goodbye.reason, worker.goodbye.lost)
        elif worker.ready and worker.job is None:
            yield from self._remove(worker)

    def _look(self) -> Iterator[Event]:
        """Ask SLURM about workers that have not begun, or are gone without a word."""
        now = time.monotonic()
        asked = [worker for worker in self.workers if worker.ended is not None or not worker.begun]
        if not asked or now < self.look_due:
            return
        self.look_due = now + LOOK_SECONDS
        # What waits may do so for days, and is asked for ever less often.
        mode = "force" if any(worker.ended is not None for worker in asked) else "standard"
        for worker in asked:
            state, mode = how_ended(worker.submitted, mode), "cache"
            if state or (worker.ended is not None and now - worker.ended > VERDICT_SECONDS):
                worker.over = bool(state)
                yield from self._remove(worker, self._cause(worker, state), state in TAKEN_AWAY)

    def _cause(self, worker: SlurmWorker, state: str) -> str:
        """Why a worker is gone, in a line; InputError where others will not fare better."""
        if worker.begun:
            return f"{worker.name} ended: {state}" if state else f"{worker.name} died"
        line = last_line(worker.submitted) or f"no log is in {self.folder}, which every node must see under this path"
        if line.startswith(ELSEWHERE):
            raise InputError(f"{SAME}: {line}")
        reason = f"job {worker.submitted.job_id} ended before it began, {state}: {line}"
        if not self.began and self.failed_starts + 1 >= STARTS:
            raise InputError(f"workers cannot start: {reason}")
        return reason

    def _kill(self, worker: SlurmWorker) -> None:
        # A process that is stopped does not find its tie gone.
        cancel([worker.submitted.job_id])
        worker.over = True

    def _take_away(self, worker: SlurmWorker) -> str:
        if worker.tie is not None:
            worker.tie.close()
            self.ties.pop(worker.tie, None)
        others = [own for own in self.workers if own is not worker and own.submitted is worker.submitted]
        if not worker.over and not others:
            # It may be out of reach and yet alive.
            cancel([worker.submitted.job_id])
        return f"{worker.name or 'worker'} died"

    def _replace(self, worker: SlurmWorker) -> None:
        self.workers.remove(worker)
        if any(own.ready for own in self.workers):
            self.failed_starts = 0
        self.due = 0.0 if worker.ready else time.monotonic() + RETRY_SECONDS


def refresh(folder: Path) -> None:
    """Have a network file system look again what a folder holds: what another machine has written since the last time
    may not be there for it yet."""
    with suppress(OSError):
        list(folder.iterdir())

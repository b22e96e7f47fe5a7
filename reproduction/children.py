"""Tasks as child processes: the very commands that the table shows, some at a time."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmtune.base.files import make_folder
from reproduction.tasks import Task

INTERRUPTED, LOCKED = 130, "already runs, and one coordinator"
PATIENCE, AGAIN = 60.0, 15.0


@dataclass(frozen=True, kw_only=True)
class Where:
    """What all children share: the data set's folder (None for the bundled sample), the store, the device."""

    data: Path | None
    store: Path
    device: str


@dataclass(kw_only=True)
class Child:
    """A task under way on some workers. offset: where in its log it begins."""

    task: Task
    process: subprocess.Popen[bytes]
    workers: int
    log: Path
    offset: int

    def last_line(self) -> str:
        """The last line that it printed."""
        with self.log.open("rb") as file:
            file.seek(self.offset)
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
        return next((line for line in reversed(lines) if line), "it printed nothing").removeprefix("mmtune: ")


def start(task: Task, where: Where, workers: int) -> Child:
    """Start a task. It has a session of its own, so that Ctrl-C reaches it once, from here."""
    words = [sys.executable, "-m", "mmtune.cli", *task.command(where.data)[1:]]
    words += ["--workers", str(workers), "--device", where.device, "--store", str(where.store)]
    folder = make_folder(where.store / "logs" / "reproduce")
    path = folder / f"{task.title.replace(', ', '.').replace(' ', '')}.log"
    with path.open("ab") as log:
        offset = log.tell()
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    return Child(task=task, process=process, workers=workers, log=path, offset=offset)


@dataclass(kw_only=True)
class Crew:
    """Runs tasks on so many slots until none is left or it is stopped.

    waiting: tasks in the order in which they should start. needed: by task, those that must have ended before it.
    started, ended: told of every child; `ended` gives the reason where it failed, else "".
    """

    where: Where
    slots: int
    waiting: list[Task]
    needed: Mapping[Task, Sequence[Task]]
    started: Callable[[Task], None]
    ended: Callable[[Task, str], None]
    running: list[Child] = field(default_factory=list)
    later: dict[Task, float] = field(default_factory=dict)

    def run(self, stopped: Callable[[], bool], tick: Callable[[], None]) -> None:
        """Until nothing waits or runs; once `stopped()`, the children end what they do as interrupted."""
        try:
            while (self.waiting or self.running) and not stopped():
                self._collect()
                self._fill()
                tick()
                time.sleep(0.1)
        finally:
            self._stop()

    def _fill(self) -> None:
        for task in list(self.waiting):
            free = self.slots - sum(child.workers for child in self.running)
            if free < 1:
                return
            if self._ready(task):
                self.waiting.remove(task)
                self.started(task)
                self.running.append(start(task, self.where, self._share(task, free)))

    def _ready(self, task: Task) -> bool:
        open_tasks = {*self.waiting, *(child.task for child in self.running)}
        return time.monotonic() >= self.later.get(task, 0.0) and not open_tasks & set(self.needed.get(task, ()))

    def _share(self, task: Task, free: int) -> int:
        """The workers of a task: folds and repeats can use more than one where few tasks are left."""
        parts = max(task.folds, 1) * task.repeats
        return max(1, min(parts, free // (len(self.waiting) + 1)))

    def _collect(self) -> None:
        for child in [child for child in self.running if child.process.poll() is not None]:
            self.running.remove(child)
            said = child.last_line() if child.process.returncode else ""
            if LOCKED in said:
                # Left behind by a killed call, or started by hand: its trials count, so it is waited for.
                self.later[child.task] = time.monotonic() + AGAIN
                self.waiting.append(child.task)
            else:
                self.ended(child.task, said)

    def _stop(self) -> None:
        for child in self.running:
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGINT)
        end = time.monotonic() + PATIENCE
        for child in self.running:
            try:
                child.process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        self.running.clear()

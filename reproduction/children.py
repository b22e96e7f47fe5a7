"""Tasks as child processes: the very commands that the table shows."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmtune.base.files import make_folder
from reproduction.tasks import Order, Task

PATIENCE = 60.0


@dataclass(kw_only=True)
class Child:
    """A task under way on some workers. offset: where in its log it begins; trained: how many epochs are done."""

    process: subprocess.Popen[bytes]
    workers: int
    log: Path
    offset: int
    trained: int = 0

    def last_line(self) -> str:
        """The last line that it printed."""
        lines = self.log.read_bytes()[self.offset :].decode(errors="replace").splitlines()
        said = [line.strip() for line in lines if line.strip()] or ["it printed nothing"]
        return said[-1].removeprefix("mmtune: ")


def start(task: Task, order: Order, workers: int) -> Child:
    """Start a task. It has a session of its own, so that Ctrl-C reaches it once, from here."""
    words = [sys.executable, "-m", "mmtune.cli", *task.command(order.data)[1:]]
    words += ["--workers", str(workers), "--device", order.device, "--store", str(order.store)]
    words += ["--threads", str(order.threads)] if order.threads > 1 else []
    folder = make_folder(order.store / "logs" / "reproduce")
    path = folder / f"{task.title.replace(', ', '.').replace(' ', '')}.log"
    with path.open("ab") as log:
        offset = log.tell()
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    return Child(process=process, workers=workers, log=path, offset=offset)


def end(children: Iterable[Child]) -> None:
    """Interrupt children, and kill those that go on for longer than PATIENCE seconds."""
    processes = [child.process for child in children]
    for process in processes:
        process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + PATIENCE
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

"""How a reproduction stands: live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mmtune.base.progress import Watched, say
from reproduction.tasks import Task

EVERY = 3.0


@dataclass(kw_only=True)
class Display(Watched):
    """Tasks done of all, and what runs.

    epochs: by task, of all its trainings together; costs: by task, how long it takes, in any unit.
    trained: how many epochs of a task that runs are done; it is asked every few seconds, on a terminal only.
    """

    console: Console
    epochs: Mapping[Task, int]
    costs: Mapping[Task, float]
    trained: Callable[[Task], int]
    done: int = 0
    failed: int = 0
    skipped: set[Task] = field(default_factory=set)
    ended: set[Task] = field(default_factory=set)
    running: dict[Task, int] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)
    asked: float = 0.0
    live: Live | None = None

    def skip(self, task: Task, failed: bool) -> None:
        """A task had ended in an earlier call."""
        self.skipped.add(task)
        self._count(failed)

    def begin(self, task: Task) -> None:
        """A task started, or is tried again after it was found running elsewhere."""
        if self.live is None and task not in self.running:
            say(self.console, f"{task.title}: started")
        self.running[task] = 0

    def finish(self, task: Task, said: str, failed: bool) -> None:
        """A task ended, or failed before it began."""
        self.running.pop(task, None)
        self.ended.add(task)
        self._count(failed)
        left = self.time_left()
        tail = "" if left is None or self.live is not None else f", about {left} left"
        say(self.console, f"[{self.done + self.failed}/{len(self.epochs)}] {task.title}: {said}{tail}")

    def _count(self, failed: bool) -> None:
        self.failed += failed
        self.done += not failed

    def tick(self) -> None:
        """Look at what runs, where somebody is watching."""
        if self.live is None or time.monotonic() - self.asked < EVERY:
            return
        for task in self.running:
            self.running[task] = self.trained(task)
        self.asked = time.monotonic()

    def time_left(self) -> timedelta | None:
        """An estimate from what was done in this call; None before anything was."""
        part = sum(self.costs[task] * trained / self.epochs[task] for task, trained in self.running.items())
        made = part + sum(self.costs[task] for task in self.ended)
        if not made:
            return None
        missing = sum(cost for task, cost in self.costs.items() if task not in self.skipped) - made
        return timedelta(seconds=round((time.monotonic() - self.begun) / made * max(missing, 0.0)))

    def render(self) -> RenderableType:
        """The live display."""
        table = Table.grid(padding=(0, 2))
        for task, trained in list(self.running.items()):
            whole = self.epochs[task]
            table.add_row(task.title, ProgressBar(whole, trained, width=20), f"epoch {trained}/{whole}")
        failed = f", {self.failed} failed" if self.failed else ""
        left = self.time_left()
        tail = "" if left is None else f" · about {left} left"
        return Group(Text(f"{self.done}/{len(self.epochs)} tasks{failed}{tail}", style="bold"), table)

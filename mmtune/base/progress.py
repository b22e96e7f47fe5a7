"""What a study is doing, live on a terminal and as plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import Progress as Bars
from rich.progress import TaskID
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

QUIET = 60.0
"""Seconds without a line, off a terminal, after which the next epoch that ends has one."""


def say(console: Console, text: str) -> None:
    """Print text as it is: no markup, no colours of rich's choosing, no line breaks of its own."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


class Scale(Protocol):
    """What scores are called, how they are shown, and which of two is better."""

    @property
    def label(self) -> str: ...
    def show(self, value: float) -> str: ...
    def better(self, value: float, than: float | None) -> bool: ...


class Forecast(Protocol):
    """When trainings that are known by a number will have ended, as a clock in seconds sees them go on."""

    def begin(self, number: int, now: float) -> None: ...
    def advance(self, number: int, epoch: int, now: float, new: bool) -> None: ...
    def finish(self, number: int, now: float) -> None: ...
    def drop(self, number: int) -> None: ...
    def left(self, fresh: int, now: float) -> float | None: ...
    def soonest(self, parts: int) -> float: ...


class Watched:
    """What a display has to be live on a terminal while it is entered; elsewhere its lines are all there is."""

    console: Console
    running: dict[Any, Any]
    live: Live | None

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self.live = Live(console=self.console, get_renderable=self.render, refresh_per_second=4)
            self.live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.running.clear()
        if self.live is not None:
            self.live.__exit__(None, None, None)

    def render(self) -> RenderableType:
        """The live display."""
        raise NotImplementedError


@dataclass(kw_only=True)
class Running:
    """A training under way: a trial, or a part of one."""

    name: str
    epochs: int
    epoch: int = 0
    score: float | None = None


@dataclass(kw_only=True)
class Progress(Watched):
    """The state of a study and its display: trainings done, the best trial so far, each one's epoch, time left.

    trials: trainings in the whole study, a trial's parts each counted, None where they go on until something else ends
    them. done: those that were finished before. scale: of their scores. deadline: when all ends, by time.monotonic.
    """

    console: Console
    scale: Scale
    forecast: Forecast
    trials: int | None
    done: int
    best: tuple[float, str] | None = None
    deadline: float = math.inf
    failed: int = 0
    running: dict[int, Running] = field(default_factory=dict)
    live: Live | None = None
    said: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """One line that stays."""
        self.said = time.monotonic()
        say(self.console, text)

    def begin(self, number: int, name: str, epochs: int) -> None:
        """A training started."""
        self.running[number] = Running(name=name, epochs=epochs)
        self.forecast.begin(number, time.monotonic())
        if self.live is None:
            self.say(f"trial {name}: started")

    def advance(self, number: int, epoch: int, score: float, new: bool = True) -> None:
        """A training finished an epoch; new: whether it did so just now, and not in an earlier call."""
        own = self.running[number]
        own.epoch, own.score = epoch, score
        self.forecast.advance(number, epoch, time.monotonic(), new)
        if self.live is None and new and time.monotonic() - self.said >= QUIET:
            told = f"epoch {epoch} of {own.epochs}, {self.scale.label} {self.scale.show(score)}"
            self.say(f"[{self.count()}] trial {own.name}: {told}{self.tail()}")

    def drop(self, trainings: int) -> None:
        """So many trainings will not be made after all."""
        if self.trials is not None:
            self.trials -= trainings

    def finish(self, number: int, state: str, told: str) -> None:
        """A training ended; told: what it has come to, or why it failed."""
        own = self.running.pop(number)
        # Of patience, of its seconds, or because it was hopeless.
        early = f" after {own.epoch} of {own.epochs} epochs" if state != "FAIL" and 0 < own.epoch < own.epochs else ""
        self.done += state != "FAIL"
        self.failed += state == "FAIL"
        if state == "FAIL":
            self.forecast.drop(number)
        else:
            self.forecast.finish(number, time.monotonic())
        self.say(f"[{self.count()}] trial {own.name}: {state.lower()}{early}, {told}{self.tail()}")

    def put_back(self, number: int, reason: str) -> None:
        """A training waits for another worker."""
        own = self.running.pop(number)
        self.forecast.drop(number)
        self.say(f"trial {own.name}: {reason}; it waits for another worker")

    def rate(self, name: str, score: float) -> None:
        """A trial is complete with this objective."""
        if self.scale.better(score, self.best[0] if self.best else None):
            self.best = (score, name)

    def count(self) -> str:
        """How many are done, and of how many."""
        return str(self.done) if self.trials is None else f"{self.done}/{self.trials}"

    def time_left(self) -> timedelta | None:
        """An estimate, the time to the deadline at most; None where nothing is known yet."""
        now = time.monotonic()
        found = self.deadline - now
        if self.trials is not None:
            left = self.forecast.left(max(0, self.trials - self.done - len(self.running)), now)
            found = found if left is None else min(found, left)
        return None if math.isinf(found) else timedelta(seconds=round(max(0.0, found)))

    def tail(self) -> str:
        """What a line says of the time left, where no display says so."""
        left = self.time_left()
        return "" if left is None or self.live is not None else f", about {left} left"

    def render(self) -> RenderableType:
        """The live display."""
        table = Table.grid(padding=(0, 2))
        for running in list(self.running.values()):
            score = "" if running.score is None else self.scale.show(running.score)
            epoch = f"epoch {running.epoch}/{running.epochs}"
            table.add_row(running.name, ProgressBar(running.epochs, running.epoch, width=20), epoch, score)
        best = f"best {self.scale.show(self.best[0])} ({self.best[1]})" if self.best else "no trial finished yet"
        failed = f", {self.failed} failed" if self.failed else ""
        left = self.time_left()
        head = f"{self.count()} trials{failed} · {best} · {'' if left is None else f'about {left} left'}"
        return Group(Text(head, style="bold"), table)


@contextmanager
def steps(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Bars for a job of several steps; gives a function of (step, done, total).

    Off a terminal there is a line when a step begins and one when it ends.
    """
    seen: set[tuple[str, bool]] = set()
    tasks: dict[str, TaskID] = {}
    with Bars(console=console, transient=True, disable=not console.is_terminal) as bars:

        def advance(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bars.add_task(step)
            bars.update(tasks[step], completed=done, total=total)
            event = (step, done >= total)
            if not console.is_terminal and event not in seen:
                seen.add(event)
                say(console, f"{step}: {done} of {total}")

        yield advance

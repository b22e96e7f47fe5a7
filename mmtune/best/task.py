"""What is asked for, what comes of it, and the time that it takes."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from mmtune.base.progress import say
from mmtune.best.state import State, write_state
from mmtune.data.dataset import Dataset
from mmtune.study import Study
from mmtune.study.definition import schedule
from mmtune.study.options import Options
from mmtune.train.objective import objective_of
from mmtune.tune.machine import PoolMaker
from mmtune.tune.made import made_from
from mmtune.tune.plan import protocol_of

CLOSING = 0.12
"""The share of the time that is kept for all that follows the last training."""
EVERY = 20.0
"""Seconds after which the time that was spent is written down."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is asked for. seconds: of all calls together; options: where and how trainings run.

    given: the options of the command as they were given, by which the certificate says how to make it again.
    """

    study: Study
    dataset: Dataset
    seconds: float
    options: Options
    root: Path
    console: Console
    stopped: Callable[[], bool]
    make_pool: PoolMaker
    given: Mapping[str, object] = field(default_factory=dict)

    @property
    def protocol(self) -> str:
        return protocol_of(self.options, self.dataset)

    @property
    def path(self) -> Path:
        """Where its state is kept."""
        own = f"{self.study.name}-{self.dataset.digest[:8]}.{self.protocol}.seed{self.options.seed}"
        return self.root / "best" / f"{own.replace(':', '-')}.json"

    @property
    def made(self) -> str:
        """Of what the study consists, as a hash."""
        base, repeats = self.study.base, self.study.repeats
        told = "\n".join(made_from(base, schedule(self.study, "tpe", base, {}), repeats))
        return hashlib.sha256(f"{told}\n{objective_of(self.study.objective).told()}".encode()).hexdigest()

    def say(self, text: str) -> None:
        say(self.console, text)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What has come of a task.

    study: what was searched; version: of the registered model, which has its name; is_champion: whether it is that now;
    path: of the certificate.
    """

    study: Study
    path: Path
    version: str
    is_champion: bool

    @property
    def name(self) -> str:
        """Of the registered model."""
        return self.study.name


class Clock:
    """The time that all calls of a task have taken, written down with its state as it goes by."""

    def __init__(self, task: Task, state: State, began: float) -> None:
        self.task, self.state, self.started = task, state, began - state.spent
        self.written = 0.0

    def note(self, **changes: Any) -> None:
        """Write down what was decided, and the time until now."""
        self.written = time.monotonic()
        self.state = replace(self.state, spent=self.written - self.started, **changes)
        write_state(self.task.path, self.state)

    def stopped(self) -> bool:
        """Whether the task is to stop; asked all the time by whatever takes long."""
        if time.monotonic() - self.written > EVERY:
            self.note()
        return self.task.stopped()

    def share(self, part: float) -> float:
        """The moment at which a share of the time is over that there was since the last certificate."""
        origin = self.state.origin
        return self.started + origin + part * (self.task.seconds - origin)

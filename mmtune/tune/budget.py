"""What ends a study before all of its trials are made: its time is over, it is good enough, or it gets no better."""

from __future__ import annotations

import bisect
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mmtune.base.errors import InputError
from mmtune.study.options import Options, parse_until
from mmtune.train.objective import Metric, Objective

CLOSING_SECONDS = 10.0
"""Kept of a budget of time, a tenth of it at most, for what comes after the last training."""


MOST_FAILED = 10
"""Where no number of trials ends a study, it ends after so many in a row that failed for good."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A metric, the place that it has in the objective, and what it is to be."""

    metric: Metric
    place: int
    value: float

    def reached(self, scores: Sequence[float]) -> bool:
        """Whether a complete trial with these scores, one for each metric of the objective, is good enough."""
        return self.metric.rank(scores[self.place]) >= self.metric.rank(self.value)


def goal_of(text: str, objective: Objective) -> Goal:
    """What `--until` asks for; InputError where it names no metric that the study searches for."""
    name, value = parse_until(text)
    for place, (metric, own) in enumerate(zip(objective.metrics, objective.names, strict=True)):
        if name in (metric.name, metric.curve, own):
            if metric.is_share and not 0 <= value <= 1:
                raise InputError(f"--until {name} must be a share from 0 to 1 such as .99, got {value:g}")
            return Goal(metric=metric, place=place, value=value)
    known = ", ".join(metric.curve for metric in objective.metrics)
    raise InputError(f"--until must name what the study searches for, {known}, got {name!r}")


class Budget:
    """What a study may take yet. began: when its command did, in seconds of `time.monotonic`."""

    def __init__(self, options: Options, objective: Objective, began: float) -> None:
        self.objective = objective
        self.hours, self.until, self.patience = options.hours, options.until, options.patience
        self.goal = None if options.until is None else goal_of(options.until, objective)
        self.deadline = math.inf
        if options.hours is not None:
            seconds = 3600 * options.hours
            self.deadline = began + seconds - min(CLOSING_SECONDS, seconds / 10)
        self.best: tuple[float, int] | None = None
        self.made: list[int] = []
        self.failed = 0
        self.is_open = options.is_open
        self.reached = ""
        self.late = False

    @property
    def told(self) -> tuple[str, ...]:
        """What ends the study, in words."""
        asked = {"hours": self.hours, "until": self.until, "patience": self.patience}
        return tuple(f"--{name} {value}" for name, value in asked.items() if value is not None)

    def note(self, index: int, scores: Sequence[float], failed: bool = False) -> None:
        """A trial has ended for good, without scores if it was stopped early or failed."""
        self.failed = self.failed + 1 if failed else 0
        if not failed:
            bisect.insort(self.made, index)
        if not scores:
            return
        own = self.objective.first.rank(scores[0]), -index
        self.best = own if self.best is None else max(self.best, own)
        if self.goal is not None and not self.reached and self.goal.reached(scores):
            metric, value = self.goal.metric, scores[self.goal.place]
            self.reached = f"trial {index:02d} has {metric.label} {metric.show(value)}, --until {self.until} was asked"

    def admits(self, seconds: float) -> bool:
        """Whether there is time for something that takes so many seconds; where there is none, nothing else begins."""
        self.late |= time.monotonic() + seconds > self.deadline
        return not self.late

    @property
    def flat(self) -> int:
        """How many trials with a higher number than the best one's have ended well, in whatever order they did."""
        best = -1 if self.best is None else -self.best[1]
        return len(self.made) - bisect.bisect_right(self.made, best)

    def over(self) -> str:
        """Why nothing more is to be done, "" while there is."""
        if self.reached:
            return self.reached
        if self.patience is not None and self.flat >= self.patience:
            return f"{self.flat} trial{'s' * (self.flat > 1)} after the best were no better"
        if self.is_open and self.failed >= MOST_FAILED:
            return f"{self.failed} trials in a row failed"
        return self._time_over() if time.monotonic() >= self.deadline else ""

    def ended(self) -> str:
        """Why a study has ended that lacks trials, "" where nothing of this is the reason."""
        return self.over() or (f"--hours {self.hours:g} leave no time for another trial" if self.late else "")

    def _time_over(self) -> str:
        return f"--hours {self.hours:g} are over"

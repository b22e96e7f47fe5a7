"""The tasks of a call on so many slots, one after the other; what came of each, live on a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mmtune.base.errors import InputError
from mmtune.base.progress import Watched, say
from mmtune.best.pace import epoch_seconds
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import Split
from mmtune.study import Study, with_fixed
from mmtune.tracking import MlflowTracker
from mmtune.train.step import DivergenceError
from reproduction.children import Child, end, start
from reproduction.measured import Result, epochs_trained, result_of, run_of
from reproduction.tasks import Order, Task, epochs_in_all, needs, obstacle

LOCKED, AGAIN = "already runs, and one coordinator", 15.0
WITHOUT = "not possible: a model that it starts from is missing"
# How often the store is asked for the epochs of what runs.
EVERY = 3.0
MOST_TIMED = 4_096
"""Rows that an epoch is timed on."""


class Work(Watched):
    """Tasks: what came of them, those that wait in the order in which they should start, and those that run.

    needed: by task, those that must have ended before it. later: when to try one again that was found running.
    before: by task that is left, how many of its epochs earlier calls made.
    costs: by task that is left, the seconds that its other epochs take one worker, as they were timed on a few rows.
    made: of these, what ended in this call.
    """

    def __init__(
        self,
        order: Order,
        tracker: MlflowTracker,
        studies: Mapping[str, Study],
        dataset: Dataset,
        tasks: Sequence[Task],
        console: Console,
    ) -> None:
        self.order, self.tracker, self.studies, self.dataset, self.tasks = order, tracker, studies, dataset, tasks
        self.needed = {task: needs(task, tasks, studies[task.study]) for task in tasks}
        self.epochs = {task: epochs_in_all(task, studies[task.study]) for task in tasks}
        self.before: dict[Task, int] = {}
        self.costs: dict[Task, float] = {}
        self.results: dict[Task, Result] = {}
        self.waiting: list[Task] = []
        self.running: dict[Task, Child] = {}
        self.later: dict[Task, float] = {}
        self.made, self.begun, self.asked = 0.0, time.monotonic(), 0.0
        self.console, self.live = console, None

    def run(self, stopped: Callable[[], bool]) -> None:
        """Run what an earlier call left; once `stopped()`, the children end what they do as interrupted."""
        for task in self.tasks:
            if not stopped():
                self._recall(task)
        left = [task for task in self.tasks if task not in self.results]
        self._time(left, stopped)
        # Long tasks first, cross-validations last, as they can use idle workers.
        self.waiting = sorted(left, key=lambda task: (bool(task.folds), -self.costs[task]))
        took = timedelta(seconds=round(sum(self.costs.values()) / self.order.slots))
        about = f": about {took}" if left else ""
        say(self.console, f"{len(self.tasks)} tasks, {len(left)} to run, {self.order.slots} at once{about}")
        self.begun = time.monotonic()
        with self:
            try:
                while (self.waiting or self.running) and not stopped():
                    self._collect()
                    self._fill()
                    if self.live is not None and time.monotonic() - self.asked > EVERY:
                        self._look()
                    time.sleep(0.1)
            finally:
                end(self.running.values())

    def _time(self, left: Sequence[Task], stopped: Callable[[], bool]) -> None:
        """Time an epoch of each study that is left, on a few rows: what all will take is said before it is begun."""
        if not left:
            return
        say(self.console, "timing an epoch of each study")
        rows = len(self.dataset.train)
        few = np.sort(np.random.default_rng(0).permutation(rows)[:MOST_TIMED])
        some = replace(self.dataset, train=self.dataset.train.take(few).compact())
        sides = Split(train=np.arange(len(few) * 4 // 5), validation=np.arange(len(few) * 4 // 5, len(few)))
        paces: dict[str, float] = {}
        for task in left:
            if task.study in paces or stopped():
                continue
            study = self.studies[task.study]
            base = with_fixed(study, task.options(study).fixed, task.epochs)
            try:
                took = epoch_seconds(base, some, sides, self.order.device, self.order.threads)
                paces[task.study] = rows / len(few) * took
            except (DivergenceError, InputError, RuntimeError) as error:
                paces[task.study] = 0.0
                say(self.console, f"{task.study}: not timed, {str(error).partition(chr(10))[0]}")
        self.before = {task: self._trained(task) for task in left}
        self.costs = {task: (self.epochs[task] - self.before[task]) * paces.get(task.study, 0.0) for task in left}

    def _recall(self, task: Task) -> None:
        """Keep what came of a task before this call, or why it cannot run."""
        reason = obstacle(task, self.studies[task.study], self.dataset)
        before = [self.results.get(own) for own in self.needed[task]]
        if reason:
            self._give_up(task, f"not possible: {reason}")
        elif any(own is not None and own.problem for own in before):
            self._give_up(task, WITHOUT)
        elif None not in before:
            found = self._result(task)
            if found is not None:
                self.results[task] = found

    def _result(self, task: Task) -> Result | None:
        return result_of(self.tracker, task, self.studies[task.study], self.dataset)

    def _give_up(self, task: Task, problem: str) -> None:
        self.results[task] = Result(task=task, study=self.studies[task.study], problem=problem)
        say(self.console, f"{task.title}: {problem}")

    def _collect(self) -> None:
        for task, child in list(self.running.items()):
            if child.process.poll() is None:
                continue
            del self.running[task]
            said = child.last_line() if child.process.returncode else ""
            if LOCKED in said:
                # Left behind by a killed call, or started by hand: its trials count, so it is waited for.
                self.later[task] = time.monotonic() + AGAIN
                self.waiting.append(task)
            else:
                self._ended(task, said)

    def _ended(self, task: Task, said: str) -> None:
        problem = f"failed: {said or 'its study did not end'}"
        found = self._result(task) or Result(task=task, study=self.studies[task.study], problem=problem)
        self.results[task] = found
        self.made += self.costs[task]
        self._look()
        left = self.time_left()
        tail = "" if left is None or self.live is not None else f", about {left} left"
        say(self.console, f"[{len(self.results)}/{len(self.tasks)}] {task.title}: {found.told()}{tail}")
        if found.problem:
            for other in [other for other in self.waiting if task in self.needed[other]]:
                self.waiting.remove(other)
                self._give_up(other, WITHOUT)

    def _fill(self) -> None:
        for task in list(self.waiting):
            free = self.order.slots - sum(child.workers for child in self.running.values())
            if free < 1:
                return
            if time.monotonic() >= self.later.get(task, 0.0) and all(own in self.results for own in self.needed[task]):
                self.waiting.remove(task)
                if self.live is None and task not in self.later:
                    say(self.console, f"{task.title}: started")
                # Folds and repeats can use more than one worker where few tasks are left.
                workers = max(1, min(task.parts, free // (len(self.waiting) + 1)))
                self.running[task] = start(task, self.order, workers)

    def _look(self) -> None:
        """Look how far what runs is."""
        for task, child in self.running.items():
            child.trained = self._trained(task)
        self.asked = time.monotonic()

    def _trained(self, task: Task) -> int:
        run = run_of(self.tracker, task, self.studies[task.study], self.dataset)
        return 0 if run is None else epochs_trained(self.tracker, run)

    def time_left(self) -> timedelta | None:
        """An estimate from what was done in this call; None before anything was."""
        under_way = [self.costs[task] * self._share(task, own.trained) for task, own in list(self.running.items())]
        made = self.made + sum(under_way)
        if made <= 0:
            return None
        missing = sum(cost for task, cost in self.costs.items() if task not in self.results) - sum(under_way)
        return timedelta(seconds=round((time.monotonic() - self.begun) / made * max(missing, 0.0)))

    def _share(self, task: Task, trained: int) -> float:
        """Of a task's epochs that are this call's, how much is done."""
        return max(0, trained - self.before[task]) / max(1, self.epochs[task] - self.before[task])

    def render(self) -> RenderableType:
        """The live display."""
        table = Table.grid(padding=(0, 2))
        for task, child in list(self.running.items()):
            whole = self.epochs[task]
            bar = ProgressBar(whole, child.trained, width=20)
            table.add_row(task.title, bar, f"epoch {child.trained}/{whole}")
        failed, left = sum(bool(own.problem) for own in list(self.results.values())), self.time_left()
        done = f"{len(self.results) - failed}/{len(self.tasks)} tasks{f', {failed} failed' if failed else ''}"
        return Group(Text(done + ("" if left is None else f" · about {left} left"), style="bold"), table)

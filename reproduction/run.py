"""Reports made again: tasks in child processes, then reported against measured in a file and on a page."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from mmtune.base.clock import now
from mmtune.base.files import locked
from mmtune.base.progress import say
from mmtune.base.rules import require_count
from mmtune.data.dataset import Dataset
from mmtune.report.tables import percent
from mmtune.study import Study, studies_folder, study_names
from mmtune.tracking import MlflowTracker
from mmtune.tune.machine import default_workers
from reproduction.children import Crew, Where
from reproduction.display import Display
from reproduction.measured import Result, epochs_trained, result_of, run_of
from reproduction.page import write_page
from reproduction.results_file import block, read_results, safe_name, write_results
from reproduction.statements import statements
from reproduction.stored import with_stored
from reproduction.table import caption, lines_of, notes
from reproduction.tasks import Task, cost, needs, obstacle, tasks_of, with_needed

REFUSAL = "this store's reports are being made again already, by one process at a time"
GPU_TASKS = 2


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to make again, and where. epochs: None for the usual budget; device: as torch has it.

    data: the data set's folder as the user gave it, None for the bundled sample.
    """

    seeds: tuple[int, ...] = (0,)
    epochs: int | None = None
    workers: int | None = None
    device: str
    data: Path | None = None
    store: Path
    results: Path

    def __post_init__(self) -> None:
        for name in ("epochs", "workers"):
            if getattr(self, name) is not None:
                require_count(f"--{name}", getattr(self, name), 1, 100_000)


def reproduce(
    order: Order,
    studies: Mapping[str, Study],
    dataset: Dataset,
    console: Console,
    stopped: Callable[[], bool],
) -> list[Result] | None:
    """Make every task that is missing and write the table; None where it was stopped before that.

    Raises InputError where an option or the file of results rules it out, before anything is run.
    """
    read_results(order.results, dataset.name)
    reduced = order.device == "cpu" and order.epochs is None
    tasks = tasks_of(studies, dataset, order.seeds, order.epochs, reduced)
    tracker = MlflowTracker(order.store)
    with locked(
        order.store / "locks" / "reproduce", REFUSAL, f"pid {os.getpid()} on {os.uname().nodename} since {now()}"
    ):
        work = Work(tracker, studies, dataset, tasks, console)
        slots = order.workers or (default_workers(order.device) if order.device == "cpu" else GPU_TASKS)
        work.run(Where(data=order.data, store=order.store, device=order.device), slots, stopped)
        if stopped():
            return None
        results = [work.results[task] for task in tasks]
        publish(order, dataset, tracker, with_stored(tracker, dataset, results), console)
    return results


class Work:
    """The tasks of a call and what came of each."""

    def __init__(
        self,
        tracker: MlflowTracker,
        studies: Mapping[str, Study],
        dataset: Dataset,
        tasks: Sequence[Task],
        console: Console,
    ) -> None:
        self.tracker, self.studies, self.dataset, self.tasks = tracker, studies, dataset, tasks
        self.needed = {task: needs(task, tasks, studies[task.study]) for task in tasks}
        self.costs = {task: cost(task, studies[task.study]) for task in tasks}
        self.results: dict[Task, Result] = {}
        epochs = {t: (t.epochs or studies[t.study].base.train.epochs) * max(t.folds, 1) * t.repeats for t in tasks}
        self.display = Display(console=console, epochs=epochs, costs=self.costs, trained=self.trained)

    def run(self, where: Where, slots: int, stopped: Callable[[], bool]) -> None:
        """Run what an earlier call left: long tasks first, cross-validations last, as they can use idle workers."""
        for task in self.tasks:
            if not stopped():
                self._recall(task)
        open_tasks = [task for task in self.tasks if task not in self.results]
        say(self.display.console, f"{len(self.tasks)} tasks, {len(open_tasks)} to run, {slots} at once")
        crew = Crew(
            where=where,
            slots=slots,
            waiting=sorted(open_tasks, key=lambda task: (bool(task.folds), -self.costs[task])),
            needed=self.needed,
            started=self.display.begin,
            ended=lambda task, said: self._ended(crew, task, said),
        )
        with self.display:
            crew.run(stopped, self.display.tick)

    def trained(self, task: Task) -> int:
        """How many epochs of a task are done."""
        run = run_of(self.tracker, task, self.studies[task.study], self.dataset)
        return 0 if run is None else epochs_trained(self.tracker, run)

    def _recall(self, task: Task) -> None:
        """Keep what came of a task before this call, or why it cannot run."""
        study = self.studies[task.study]
        reason = obstacle(task, study, self.dataset)
        if reason:
            self._give_up(task, f"not possible: {reason}")
        elif any(self.results[own].problem for own in self.needed[task] if own in self.results):
            self._give_up(task, "not possible: a model that it starts from is missing")
        elif all(own in self.results for own in self.needed[task]):
            found = result_of(self.tracker, task, study, self.dataset)
            if found is not None:
                self.results[task] = found
                self.display.skip(task, failed=bool(found.problem))

    def _give_up(self, task: Task, problem: str) -> None:
        self.results[task] = Result(task=task, study=self.studies[task.study], problem=problem)
        self.display.skip(task, failed=True)
        say(self.display.console, f"{task.title}: {problem}")

    def _ended(self, crew: Crew, task: Task, said: str) -> None:
        study = self.studies[task.study]
        found = result_of(self.tracker, task, study, self.dataset)
        result = found or Result(task=task, study=study, problem=f"failed: {said or 'its study did not end'}")
        self.results[task] = result
        self.display.finish(task, told(result), failed=bool(result.problem))
        if result.problem:
            for other in [other for other in crew.waiting if task in self.needed[other]]:
                crew.waiting.remove(other)
                self._give_up(other, "not possible: a model that it starts from is missing")


def told(result: Result) -> str:
    """What came of a task in a few words."""
    if result.trial is None:
        return result.problem
    names = {"best_val_accuracy": "val", "test_accuracy": "test", "held_accuracy": "held-out"}
    found = result.trial.metrics
    return "accuracy " + ", ".join(f"{word} {percent(found[name])} %" for name, word in names.items() if name in found)


def publish(
    order: Order, dataset: Dataset, tracker: MlflowTracker, results: Sequence[Result], console: Console
) -> None:
    """Write the table into the file of results and onto a page."""
    lines = lines_of(results, dataset, order.data)
    say(console, "holding studies against each other")
    made = caption(results, dataset), statements(tracker, dataset, results), lines, notes(lines, dataset)
    page = order.store / "reports" / f"reproduction-{safe_name(dataset.name)}.html"
    write_page(page, dataset.name, *made)
    write_results(order.results, dataset.name, block(dataset.name, *made))
    say(console, f"table: {order.results}")
    say(console, f"page: {page.resolve()}")


def studies_of(names: Sequence[str]) -> dict[str, Study]:
    """The studies of these names, all where there are none, with those whose models they start from."""
    return with_needed(names or study_names(studies_folder()))

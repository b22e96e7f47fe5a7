"""Reports made again: tasks in child processes, then reported against measured in a file and on a page."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from mmtune.base.clock import now
from mmtune.base.files import locked
from mmtune.base.progress import say
from mmtune.data.dataset import Dataset
from mmtune.study import Study
from mmtune.tracking import MlflowTracker
from reproduction.measured import Result, at_stored_length, with_stored
from reproduction.page import write_page
from reproduction.results_file import block, read_results, safe_name, write_results
from reproduction.statements import statements
from reproduction.table import caption, lines_of, notes
from reproduction.tasks import Order, tasks_of
from reproduction.work import Work

REFUSAL = "this store's reports are being made again already, by one process at a time"


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
    tasks = tasks_of(studies, dataset, order.seeds, order.epochs, order.reduced)
    tracker = MlflowTracker(order.store)
    holder = f"pid {os.getpid()} on {os.uname().nodename} since {now()}"
    with locked(order.store / "locks" / "reproduce", REFUSAL, holder):
        if order.reduced:
            shorter, tasks = tasks, at_stored_length(tracker, dataset, tasks, studies)
            for task in [task for task in tasks if task not in shorter]:
                say(console, f"{task.title}: the store has it at a greater length, which stands")
        work = Work(order, tracker, studies, dataset, tasks, console)
        work.run(stopped)
        if stopped():
            return None
        results = [work.results[task] for task in tasks]
        publish(order, dataset, tracker, with_stored(tracker, dataset, results), console)
    return results


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

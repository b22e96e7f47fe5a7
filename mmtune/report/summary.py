"""What the command line says of tracked studies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from mmtune.base.progress import say
from mmtune.tracking import MlflowTracker, StudyRun, TrialRun
from mmtune.train.objective import Objective

if TYPE_CHECKING:
    from mmtune.serve.versions import VersionRecord

# Wider than any row: a console of this width breaks none.
WHOLE = 100_000


def last_measured(tracker: MlflowTracker, runs: Sequence[StudyRun]) -> str:
    """The best trial of the last of a study's runs that has one, in a few words, "-" where there is none."""
    for run in runs:
        best = tracker.best(run.run_id, run.key.objective)
        if best is not None:
            return f"{measured(best, run.key.objective)} ({run.key.data}, {run.key.protocol}, seed {run.key.seed})"
    return "-"


def measured(trial: TrialRun, objective: Objective) -> str:
    """Accuracy of a trial on validation, and on test if it was scored; of another objective than the usual that too."""
    test, accuracy = trial.metrics.get("test_accuracy"), trial.metrics.get(objective.at_best("val_accuracy"))
    told = [] if objective.is_usual else [objective.show(objective.values(trial.metrics))]
    told += [] if accuracy is None or objective.first.name == "accuracy" else [f"val accuracy {accuracy:.2%}"]
    return ", ".join([*told, *([] if test is None else [f"test {test:.2%}"])])


def show(console: Console, table: Table) -> None:
    """Print a table with nothing cut off: in a pipe every row is a line; a terminal too narrow for it has it as lists.

    On a terminal columns without `no_wrap` are folded.
    """
    if not console.is_terminal:
        console = Console(file=console.file, width=WHOLE)
    for column in table.columns:
        column.overflow = "fold"
    if width_of(table) <= console.width:
        console.print(table, markup=False)
        return
    headings = [str(column.header) for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        first, *rest = (f"{heading}: {cell}" for heading, cell in zip(headings, row, strict=True))
        say(console, "\n  ".join([first, *rest]))


def width_of(table: Table) -> int:
    """The least width at which no word is cut, with the lines and blanks between columns."""
    width = 1
    for column in table.columns:
        cells = [str(column.header), *map(str, column.cells)]
        words = cells if column.no_wrap else [word for cell in cells for word in cell.split()]
        width += 3 + max(map(cell_len, words), default=0)
    return width


def unbroken(*headings: str) -> Table:
    """A table whose rows are lines."""
    table = Table()
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


def history_table(records: Sequence[VersionRecord]) -> Table:
    """The versions of a registered model: scores, study, when each was champion."""
    table = unbroken("version", "trial", "validation", "test F1", "test acc.", "champion", "of study")
    for record in records:
        reigns = [f"{start[:10]} to {end[:10] if end else 'now'}" for start, end in record.reigns]
        name = f"{record.version}{' (forced)' if record.forced else ''}"
        scores = [record.objective, *(f"{value:.4f}" for value in (record.test_macro_f1, record.test_accuracy))]
        table.add_row(name, record.trial.partition(" ")[0], *scores, ", ".join(reigns) or "never", record.study_key)
    return table

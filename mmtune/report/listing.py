"""The list of all studies that are found, the broken ones beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Column, Table

from mmtune.base.errors import InputError
from mmtune.report.summary import last_measured
from mmtune.study import Study, load_file
from mmtune.study.definition import schedule
from mmtune.tracking import MlflowTracker


def study_table(files: Mapping[str, Sequence[Path]], tracker: MlflowTracker | None) -> tuple[Table, list[str]]:
    """A row for each file of a study, by name, and for each that is broken the place and what is wrong.

    A name that several files have stands with each of them.
    """
    runs = tracker.studies() if tracker else []
    table, broken = Table(Column("study", no_wrap=True), "paper", "what", "trials", "reported", "last measured"), []
    for name, path in ((name, path) for name, places in files.items() for path in places):
        try:
            found = load_file(path)
            told = [found.paper or "-", found.title or "-", usual_trials(found), reported(found) or "-"]
        except InputError as error:
            broken.append(str(error))
            continue
        measured = last_measured(tracker, [run for run in runs if run.key.study == name]) if tracker else "-"
        table.add_row(name if len(files[name]) == 1 else f"{name} ({path})", *told, measured)
    return table, broken


def usual_trials(study: Study) -> str:
    """How many trials a study makes without options, how, and of how many epochs."""
    usual = schedule(study, study.sampler, study.base, {})
    epochs = "-".join(str(number) for number in dict.fromkeys(study.epochs))
    return f"{usual.trials} {study.sampler} x {epochs} epochs"


def reported(study: Study) -> str:
    """What the paper reports, "" where there is none."""
    return ", ".join(f"{metric} {value:.2%}" for metric, value in study.reported.items())

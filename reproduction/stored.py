"""What else the store holds of reports that were made again, so that a table says all of it."""

from __future__ import annotations

from collections.abc import Sequence

from mmtune.data.dataset import Dataset
from mmtune.data.protocols import PROTOCOLS
from mmtune.study import Study, StudyKey, load_study, studies_folder, study_names
from mmtune.tracking import MlflowTracker
from reproduction.measured import Result, result_of, run_of
from reproduction.tasks import Task, adapted


def with_stored(tracker: MlflowTracker, dataset: Dataset, asked: Sequence[Result]) -> list[Result]:
    """The results of a call beside whatever else the store holds on this data, each study and protocol at its longest.

    A short call does not take the place of a long one, and one of few studies leaves the others in the table. Seeds
    that stand together have the same budget.
    """
    found = {result.task: result for result in asked}
    for task in stored_tasks(tracker, dataset):
        own = None if task in found else result_of(tracker, task, load_study(task.study), dataset)
        found |= {} if own is None else {task: own}
    longest: dict[tuple[str, str, int], tuple[bool, int, int]] = {}
    for result in found.values():
        longest[line_of(result)] = max(longest.get(line_of(result), (False, 0, 0)), length_of(result))
    kept = [result for result in found.values() if length_of(result) == longest[line_of(result)]]
    names = study_names(studies_folder())
    return sorted(kept, key=lambda r: (names.index(r.task.study), PROTOCOLS.index(r.task.protocol), r.task.seed))


def line_of(result: Result) -> tuple[str, str, int]:
    """Which line of the table a result belongs to."""
    return result.task.study, result.task.protocol, result.task.folds


def length_of(result: Result) -> tuple[bool, int, int]:
    """Whether there is a result at all, for how many epochs it was trained, and how often each fold."""
    return result.trial is not None, result.task.epochs or result.study.base.train.epochs, result.task.repeats


def stored_tasks(tracker: MlflowTracker, dataset: Dataset) -> list[Task]:
    """Every finished task on this data in the store, of studies that are still there."""
    names = study_names(studies_folder())
    found = [
        (run, task_of(run.key, load_study(run.key.study), dataset))
        for run in tracker.studies()
        if run.key.study in names and run.key.digest == dataset.digest and run.key.sampler == "reported"
    ]
    runs = [(run, run_of(tracker, task, load_study(task.study), dataset), task) for run, task in found]
    return [task for run, same, task in runs if same is not None and same.run_id == run.run_id]


def task_of(key: StudyKey, study: Study, dataset: Dataset) -> Task:
    """The task that a key with the usual settings comes from."""
    own = study.base.train.epochs
    return Task(
        study=key.study,
        protocol=key.protocol,
        seed=key.seed,
        epochs=None if key.epochs == own else key.epochs,
        folds=key.folds,
        repeats=key.repeats,
        fixed=adapted(study, dataset),
    )

"""What the store knows of tasks: which are done, how far the others are, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.report.tables import last_line
from mmtune.serve.scoring import score_test
from mmtune.study import Study, StudyKey, settled
from mmtune.tracking import COMPLETE, RUNNING, MlflowTracker, StudyRun, TrialRun, best_trial
from mmtune.tune.encoders import best_encoder, needed_encoders
from mmtune.tune.plan import make_key
from reproduction.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Result:
    """A task and what came of it: its trial, or why there is none.

    encoders: by modality, for how many epochs the model that it starts from was trained.
    """

    task: Task
    study: Study
    run: StudyRun | None = None
    trial: TrialRun | None = None
    problem: str = ""
    encoders: Mapping[str, int] = field(default_factory=dict)


def key_of(tracker: MlflowTracker, task: Task, study: Study, dataset: Dataset) -> StudyKey | None:
    """The key under which the task's command tracks its study; None while an encoder that it needs is missing."""
    options = task.options(study)
    base = settled(study, options.fixed, options.epochs)
    needed = needed_encoders(study, base, options)
    trials = {modality: best_encoder(tracker, name, dataset.digest, options) for modality, name in needed.items()}
    runs = {modality: trial.run_id for modality, trial in trials.items() if trial is not None}
    if len(runs) < len(needed):
        return None
    return make_key(study, dataset, options, base.train.epochs, runs)


def run_of(tracker: MlflowTracker, task: Task, study: Study, dataset: Dataset) -> StudyRun | None:
    """The tracked study of a task, in whatever state."""
    key = key_of(tracker, task, study, dataset)
    if key is None:
        return None
    return next((run for run in tracker.studies(task.study) if run.key.slug == key.slug), None)


def result_of(tracker: MlflowTracker, task: Task, study: Study, dataset: Dataset) -> Result | None:
    """What came of a task that has ended, its test rows scored; None where it has not ended."""
    run = run_of(tracker, task, study, dataset)
    if run is None or run.status != "FINISHED":
        return None
    trials = tracker.trials(run.run_id)
    best = best_trial(trials)
    if best is None:
        reasons = [last_line(trial.tags.get("mmtune.reason", "")) for trial in trials]
        return Result(task=task, study=study, run=run, problem=f"failed: {next(filter(None, reasons), 'no reason')}")
    try:
        if dataset.test is not None and not task.folds:
            score_test(tracker, best, dataset)
    except InputError as error:
        return Result(task=task, study=study, run=run, problem=f"failed: {error}")
    scored = next(trial for trial in tracker.trials(run.run_id) if trial.run_id == best.run_id)
    return Result(task=task, study=study, run=run, trial=scored, encoders=encoder_epochs(tracker, run.key))


def encoder_epochs(tracker: MlflowTracker, key: StudyKey) -> dict[str, int]:
    """By modality, for how many epochs the encoder that a study starts from was trained."""
    params = {modality: tracker.client.get_run(run_id).data.params for modality, run_id in key.encoders}
    return {modality: int(own["train.epochs"]) for modality, own in params.items()}


def epochs_trained(tracker: MlflowTracker, run: StudyRun) -> int:
    """How many epochs of a study under way are done, those of all folds and repeats together."""
    trainings = tracker.parts(run.run_id) if run.key.division else tracker.trials(run.run_id)
    ended = sum(own.state == COMPLETE for own in trainings) * run.key.epochs
    live = [tracker.curves(own.run_id, ("val_loss",))["val_loss"] for own in trainings if own.state == RUNNING]
    return ended + sum(len(points) for points in live)

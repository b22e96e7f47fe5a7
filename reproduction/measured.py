"""What the store knows of tasks: which are done, how far the others are, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import PROTOCOLS
from mmtune.report.intervals import scored
from mmtune.report.tables import last_line, percent
from mmtune.serve.scoring import TEST, score_test
from mmtune.study import Study, StudyKey, load_study, with_fixed
from mmtune.tracking import COMPLETE, INTERRUPTED, RUNNING, MlflowTracker, StudyRun, TrialRun
from mmtune.train.answers import read_answers
from mmtune.tune.encoders import best_encoder, needed_encoders
from mmtune.tune.plan import make_key
from reproduction.tasks import Task, adapted, paper_names


@dataclass(frozen=True, kw_only=True)
class Result:
    """A task and what came of it: its trial, or why there is none.

    encoders: by bank, for how many epochs the model that it starts from was trained. intervals: by metric, the 95 % one
    of its score on test rows, over what is independent among them.
    """

    task: Task
    study: Study
    run: StudyRun | None = None
    trial: TrialRun | None = None
    problem: str = ""
    encoders: Mapping[str, int] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def line(self) -> tuple[str, str, int]:
        """Which lines of the table it belongs to."""
        return self.task.line

    @property
    def length(self) -> tuple[int, int]:
        """For how many epochs it was trained, and how often each fold."""
        return length_of(self.task, self.study)

    def told(self) -> str:
        """What came of the task in a few words."""
        if self.trial is None:
            return self.problem
        names = {"val_accuracy_at_best": "val", "test_accuracy": "test", "held_accuracy": "held-out"}
        found = [(word, self.trial.metrics.get(name)) for name, word in names.items()]
        return "accuracy " + ", ".join(f"{word} {percent(value)} %" for word, value in found if value is not None)


def length_of(task: Task, study: Study) -> tuple[int, int]:
    """For how many epochs a task is trained, and how often each fold."""
    return task.epochs or study.base.train.epochs, task.repeats


def run_of(tracker: MlflowTracker, task: Task, study: Study, dataset: Dataset) -> StudyRun | None:
    """What the task's command tracks, in whatever state; None also while an encoder that it needs is missing."""
    options = task.options(study)
    base = with_fixed(study, options.fixed, options.epochs)
    needed = needed_encoders(study, base, options)
    trials = {
        bank: best_encoder(tracker, name, dataset.digest, task.protocol, options) for bank, name in needed.items()
    }
    runs = {bank: trial.run_id for bank, trial in trials.items() if trial is not None}
    if len(runs) < len(needed):
        return None
    key = make_key(study, dataset, options, base.train.epochs, runs)
    return tracker.study(key)


def result_of(tracker: MlflowTracker, task: Task, study: Study, dataset: Dataset) -> Result | None:
    """What came of a task that has ended, its test rows scored; None where it has not ended."""
    run = run_of(tracker, task, study, dataset)
    if run is None or run.status != "FINISHED":
        return None
    best = tracker.best(run.run_id, run.key.objective)
    if best is None:
        reasons = [last_line(trial.tags.get("mmtune.reason", "")) for trial in tracker.trials(run.run_id)]
        return Result(task=task, study=study, run=run, problem=f"failed: {next(filter(None, reasons), 'no reason')}")
    intervals: Mapping[str, tuple[float, float]] = {}
    try:
        if dataset.test is not None and not task.folds:
            score_test(tracker, run.key, best, dataset)
            stored = read_answers(tracker.artifact(best.run_id, TEST), ("label", "prediction"), ("unit",))
            intervals = scored("test", stored, task.seed).intervals
    except InputError as error:
        return Result(task=task, study=study, run=run, problem=f"failed: {error}")
    params = {bank: tracker.client.get_run(run_id).data.params for bank, run_id in run.key.encoders}
    encoders = {bank: int(own["train.epochs"]) for bank, own in params.items()}
    trial = tracker.trial(run.run_id, best.run_id)
    return Result(task=task, study=study, run=run, trial=trial, encoders=encoders, intervals=intervals)


def epochs_trained(tracker: MlflowTracker, run: StudyRun) -> int:
    """How many epochs of a study that has not ended are done, those of all folds and repeats together."""
    trainings = tracker.parts(run.run_id) if run.key.division else tracker.trials(run.run_id)
    ended = sum(own.state == COMPLETE for own in trainings) * run.key.epochs
    begun = [own.run_id for own in trainings if own.state in (RUNNING, INTERRUPTED)]
    live = [tracker.curves(run_id, ("val_loss",))["val_loss"] for run_id in begun]
    return ended + sum(len(points) for points in live)


def with_stored(tracker: MlflowTracker, dataset: Dataset, asked: Sequence[Result]) -> list[Result]:
    """The results of a call beside whatever else the store holds on this data, each study and protocol at its longest.

    A short call does not take the place of a long one, and one of few studies leaves the others in the table. Seeds
    that stand together have the same budget.
    """
    known = {result.task for result in asked}
    others = [task for task in stored_tasks(tracker, dataset) if task not in known]
    results = [result_of(tracker, task, load_study(task.study), dataset) for task in others]
    found = [*asked, *(result for result in results if result is not None)]
    # What failed does not take the place of a shorter one that has a result; beside one as long it is named.
    ranked = sorted(found, key=lambda result: (result.trial is not None, result.length))
    longest = {result.line: result.length for result in ranked}
    kept = [result for result in found if result.length == longest[result.line]]
    names = list(dict.fromkeys([*paper_names(), *(result.task.study for result in asked)]))

    def place(task: Task) -> tuple[int, int, int, int]:
        return names.index(task.study), PROTOCOLS.index(task.protocol), task.folds, task.seed

    return sorted(kept, key=lambda result: place(result.task))


def stored_tasks(tracker: MlflowTracker, dataset: Dataset) -> list[Task]:
    """The tasks that the store has on this data, each once, whether they have ended or not."""
    studies = {name: load_study(name) for name in paper_names()}
    found: dict[Task, None] = {}
    for key in (run.key for run in tracker.studies()):
        if key.study not in studies or (key.digest, key.sampler) != (dataset.digest, "reported"):
            continue
        task = task_of(key, studies[key.study], dataset)
        # Of others, with a choice of the user's own or of a protocol that no table has, nothing was reported.
        if key.protocol in PROTOCOLS and dict(key.fixed) == dict(task.options(studies[key.study]).fixed):
            found[task] = None
    return list(found)


def at_stored_length(
    tracker: MlflowTracker, dataset: Dataset, tasks: Sequence[Task], studies: Mapping[str, Study]
) -> list[Task]:
    """The tasks, those of which the store has a longer one as that one: no table would show what was trained anew."""
    stored = stored_tasks(tracker, dataset)

    def standing(task: Task) -> Task:
        study = studies[task.study]
        same = [own for own in stored if (own.line, own.seed) == (task.line, task.seed)]
        longer = [own for own in same if length_of(own, study) > length_of(task, study)]
        for own in sorted(longer, key=lambda own: length_of(own, study), reverse=True):
            found = result_of(tracker, own, study, dataset)
            if found is not None and found.trial is not None:
                return own
        return task

    return [standing(task) for task in tasks]


def task_of(key: StudyKey, study: Study, dataset: Dataset) -> Task:
    """The task that a key with the usual settings comes from."""
    return Task(
        study=key.study,
        protocol=key.protocol,
        seed=key.seed,
        epochs=None if key.epochs == study.base.train.epochs else key.epochs,
        folds=key.folds,
        repeats=key.repeats,
        fixed=adapted(study, dataset),
    )

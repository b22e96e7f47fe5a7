"""From a study and a data set to finished trials: encoders, plan, workers, search, tracker."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from mmtune.base.clock import now
from mmtune.base.errors import AwayError, GoneError, InputError
from mmtune.base.fields import flatten
from mmtune.base.files import locked, make_folder, storage_problem
from mmtune.base.progress import Progress, say
from mmtune.data.dataset import Dataset
from mmtune.networks.card import MODEL
from mmtune.networks.kinds import remember
from mmtune.pool.local import LocalPool
from mmtune.pool.worker import WorkerSpec
from mmtune.study import Study, StudyKey, load_study, with_fixed
from mmtune.study.definition import schedule
from mmtune.study.finding import send_by_name
from mmtune.study.options import MOST_TRIALS, Options
from mmtune.study.schedule import Sampled, Schedule
from mmtune.study.space import distinct, pin
from mmtune.tracking import (
    NOTE,
    MlflowTracker,
    TakenOverError,
    TrialRun,
    study_note,
)
from mmtune.tracking.address import tracking_uri
from mmtune.tracking.system import require_monitor, system_metrics
from mmtune.train.objective import objective_of
from mmtune.train.recipe import TrialConfig
from mmtune.tune.budget import Budget
from mmtune.tune.coordinator import Coordinator, Pool, leave
from mmtune.tune.encoders import best_encoder, needed_encoders, with_encoders
from mmtune.tune.forecast import Forecast
from mmtune.tune.machine import PoolMaker, made_by, most_workers, training_device
from mmtune.tune.made import own_tags
from mmtune.tune.opening import OpenStudy, note_mixture, opened, say_there, say_where, study_tags
from mmtune.tune.plan import make_key, make_plan, make_splits, protocol_of, require_searchable, sampler_of
from mmtune.tune.trials import Trials
from mmtune.tune.trying import require_network, require_objective
from mmtune.tune.warm import warm_points

Stopped = Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a study stands after a call: `finished` says that no trial is left to do, `failed` how many never will be.

    trials: how many it has, or has made where it goes on until something else than their number ends it. ended: what
    that was, "" where nothing but their number ends it.

    front: of an objective of several metrics the trials that no other one dominates, the best by the first one first.

    tracking_seconds, tuning_seconds: what the coordinator spent on MLflow and on Optuna in this call, from the first
    trial's start.
    """

    key: StudyKey
    trials: int
    finished: bool
    failed: int
    best: TrialRun | None
    ended: str = ""
    front: tuple[TrialRun, ...] = ()
    tracking_seconds: float = 0.0
    tuning_seconds: float = 0.0


def run_study(
    study: Study,
    dataset: Dataset,
    options: Options,
    root: Path,
    console: Console,
    stopped: Stopped = lambda: False,
    make_pool: PoolMaker = LocalPool,
) -> Outcome | None:
    """Run whatever trials of a study are missing; what this machine keeps lies under `root`.

    None where it was stopped before it began. Raises InputError where the options, the data or an earlier run of the
    study rule this one out, and AwayError where the store does not answer when it begins.
    """
    began = time.monotonic()
    require_monitor()
    # An address that is none is refused before there is a folder for locks.
    tracking_uri(root)
    remember(study.base.model, study.name)
    send_by_name()
    options = options.with_seconds()
    base = with_fixed(study, options.fixed, options.epochs)
    sampler = sampler_of(study, options)
    require_network(base.model, dataset, study.missing)
    needed = needed_encoders(study, base, options)
    objective, splits = objective_of(study.objective), make_splits(dataset, options)
    require_searchable(study.name, objective, sampler, options.prune)
    require_objective(objective, dataset, splits)
    budget = Budget(options, objective, began)
    spec = WorkerSpec(
        study=study.name,
        data=dataset.folder,
        digest=dataset.digest,
        splits=splits,
        device=training_device(options),
        base=base,
        classes=len(dataset.classes),
        missing=study.missing,
        objective=objective,
        protocol=protocol_of(options, dataset),
        hung_after=options.hung_after,
        threads=options.threads,
    )
    folders: dict[str, Path] = {}
    encoders: Mapping[str, TrialRun] = {}
    if needed:
        tracker = MlflowTracker(root)
        encoders = find_encoders(study, needed, dataset, options, tracker, console, stopped, make_pool, budget)
        if stopped():
            return None
        folders = {bank: tracker.artifact(trial.run_id, MODEL) for bank, trial in encoders.items()}
    base = with_encoders(base, folders)
    space = pin(study.space, options.fixed)
    most = int(min(MOST_TRIALS, distinct(space, flatten(base)))) if options.is_open and space else options.trials
    trials = schedule(study, sampler, base, options.fixed, most, options.epochs)
    runs = {bank: trial.run_id for bank, trial in encoders.items()}
    if options.warm_start:
        trials = warmed(trials, make_key(study, dataset, options, base.train.epochs, runs), base, root, console)
    made = {**made_by(options, spec.device), **own_tags(base, objective)}
    plan = make_plan(study, base, trials, dataset, options, runs, folders, made)
    tags = {**study_tags(study, plan, dataset), **plan.tags}
    note = f"pid {os.getpid()} on {os.uname().nodename} since {now()}"
    refusal = f"study {plan.key.slug} already runs, and one coordinator at a time may write it"
    workers = options.workers or most_workers(options, spec.device)
    with locked(root / "locks" / plan.key.slug, refusal, note):
        # Where a trial writes must be writable before it begins.
        make_folder(root / "staging")
        with opened(plan, tags, root, note, options.store_patience, console) as (found, beat):
            say_where(found, budget)
            try:
                drive(found, lambda count: make_pool(spec, min(workers, count)), budget, lambda: beat() or stopped())
            except BaseException as error:
                if storage_problem(error) is None and not isinstance(error, AwayError | TakenOverError):
                    with suppress(AwayError, GoneError):
                        close(found, "")
                raise
            try:
                return close(found, "" if stopped() else budget.ended())
            except (AwayError, InputError):
                if not stopped():
                    raise
                return None


def warmed(trials: Schedule, key: StudyKey, base: TrialConfig, root: Path, console: Console) -> Schedule:
    """The same trials, the first of them from earlier studies; InputError where none is drawn."""
    if not isinstance(trials, Sampled) or not trials.space:
        raise InputError(f"--warm-start needs a sampler that draws, such as tpe, {key.study} has {key.sampler}")
    first = warm_points(MlflowTracker(root), key, trials.space, flatten(base), trials.trials)
    say(console, f"warm start: the first {len(first)} trials are the best of earlier ones")
    return replace(trials, first=first)


def find_encoders(
    study: Study,
    needed: Mapping[str, str],
    dataset: Dataset,
    options: Options,
    tracker: MlflowTracker,
    console: Console,
    stopped: Stopped,
    make_pool: PoolMaker,
    budget: Budget,
) -> dict[str, TrialRun]:
    """By bank, the best tracked trial of the study it needs, which runs first where there is none."""
    found: dict[str, TrialRun] = {}
    protocol = protocol_of(options, dataset)

    def late() -> bool:
        return stopped() or bool(budget.over())

    for bank, name in needed.items():
        trial = best_encoder(tracker, name, dataset.digest, protocol, options)
        if trial is None and not stopped():
            say(console, f"{study.name} needs {name} on this data and split; none is tracked, so it runs first")
            own = "reported" if options.sampler == "reported" else None
            plain = replace(options, trials=None, epochs=None, sampler=own, prune=None, fixed={}, folds=0, repeats=1)
            # They are made whole, or go on with the next call.
            first = replace(plain, hours=None, until=None, patience=None, warm_start=None)
            run_study(load_study(name), dataset, first, tracker.root, console, late, make_pool)
            trial = best_encoder(tracker, name, dataset.digest, protocol, options)
        if trial is None and budget.over():
            rule = f"{study.name} starts from {name}, which is not finished: the same command goes on"
            raise InputError(f"{budget.over()}; {rule}")
        if trial is None and not stopped():
            raise InputError(f"{study.name} needs a complete trial of {name}; all of its trials failed")
        if trial is not None:
            found[bank] = trial
            objective, epochs = objective_of(load_study(name).objective), trial.params["train.epochs"]
            told = objective.show(objective.values(trial.metrics))
            say(console, f"{bank} encoder: {name} trial {trial.name}, {told} ({epochs} epochs)")
    return found


def drive(
    found: OpenStudy, start: Callable[[int], AbstractContextManager[Pool]], budget: Budget, stopped: Stopped
) -> None:
    """Run on workers the trials that no run has finished, for as long as there is a budget.

    start: a pool for so many trainings.
    """
    plan, search = found.plan, found.search
    parts, metric = len(plan.parts), plan.key.objective.first
    ended = [a for a in search.attempts() if a.ended_well and a.index < plan.trials]
    for own in ended:
        budget.note(own.index, own.scores)
    scored = ((a.score, f"{a.index:02d}") for a in ended if a.score is not None)
    arrived = {rung: len(scores) for rung, scores in search.halving.scores.items()}
    progress = Progress(
        console=found.console,
        scale=metric,
        forecast=Forecast(plan.key.epochs, search.rungs, arrived),
        trials=None if plan.is_open else plan.trials * parts,
        done=len(ended) * parts,
        best=max(scored, key=lambda own: metric.rank(own[0]), default=None),
        deadline=budget.deadline,
    )
    missing = len(search.open_indices(plan.trials)) + len(found.standing.under_way(plan.trials))
    if not missing:
        say_there(found)
    if not missing or budget.over():
        leave(found.recorder, stopping=False)
        return
    note_mixture(found)
    with start(missing * parts) as pool, progress, system_metrics(found.tracker, found.parent):
        trials = Trials(plan, search, found.tracker, found.recorder, progress, budget, found.staging, found.standing)
        Coordinator(trials, found.recorder, pool, progress).run(stopped, lambda: bool(budget.over()))


def close(found: OpenStudy, ended: str) -> Outcome:
    """Close the study's run by how the study stands: finished, or interrupted, so that the same command goes on.

    ended: what has ended it though trials are missing, which for one without a number of trials is its end.
    """
    missing, failed = found.search.left(found.plan.trials)
    ended = ended if missing else ""
    trials = found.search.begun() if found.plan.is_open else found.plan.trials
    spent = {"tracking_seconds": found.tracker.watch.seconds, "tuning_seconds": found.search.watch.seconds}
    # A call that trained nothing says nothing of what training took.
    told = spent if found.search.watch.seconds else {}

    objective = found.plan.key.objective

    def end() -> tuple[TrialRun | None, list[TrialRun]]:
        best = found.tracker.best(found.parent, objective)
        state = ended or ("not finished: the same command goes on" if missing else "finished")
        note = study_note(found.plan.key, trials, found.plan.doc, best, state, failed)
        found.tracker.end_study(
            found.parent, not missing or (bool(ended) and found.plan.is_open), best, objective, told, {NOTE: note}
        )
        return best, found.tracker.front(found.parent, objective)

    try:
        best, front = found.recorder.patience.insist(end)
    except GoneError as error:
        rule = "the study's own run must be there, it was deleted while its trials ran"
        raise InputError(f"{rule}: restore {found.parent} in the UI, and the same command goes on") from error
    with suppress(OSError):
        found.staging.rmdir()
    return Outcome(
        key=found.plan.key,
        trials=trials,
        finished=not missing,
        failed=failed,
        best=best,
        ended=ended,
        front=tuple(front),
        **spent,
    )

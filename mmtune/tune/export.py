"""A study for Optuna's own tools: made from the tracked runs, in a database that Optuna keeps."""

from __future__ import annotations

import warnings
from datetime import datetime, timedelta

import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from mmtune.base.errors import InputError
from mmtune.study import Study, load_study
from mmtune.study.definition import schedule
from mmtune.study.space import Space, distribution
from mmtune.tracking import COMPLETE, REASON, MlflowTracker, StudyRun, TrialRun
from mmtune.tracking.address import checked, shown, without_login
from mmtune.tracking.runs import drawn_values
from mmtune.train.objective import Objective
from mmtune.tune.search import directions

OUT = "--out"


def export(tracker: MlflowTracker, run: StudyRun, out: str, told: Study | None = None) -> optuna.Study:
    """Write a study, under its key's slug, into the database at `out`, where there must be none of that name.

    Each attempt at a trial is one of Optuna's, in order of time; its epochs are what it reported.
    told: the study as its file has it, where that is not to be found by its name.
    """
    url = require_place(out)
    trials = frozen_trials(tracker, run, told or load_study(run.key.study))
    try:
        storage = optuna.storages.RDBStorage(url)
        told_directions = directions(run.key.objective)
        made = optuna.create_study(study_name=run.key.slug, storage=storage, directions=told_directions)
    except optuna.exceptions.DuplicatedStudyError as error:
        raise InputError(
            f"{OUT} must be a database without a study {run.key.slug}, {shown(url)} has one: use another one"
        ) from error
    made.set_user_attr("run_id", run.run_id)
    made.set_user_attr("title", run.key.title)
    with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
        made.set_metric_names(list(run.key.objective.names))
    made.add_trials(trials)
    return made


def require_place(out: str) -> str:
    """The address of a database for Optuna, empty or its own; InputError where it is none, or somebody else's."""
    url = checked(OUT, out)
    if not url.startswith(("sqlite:", "postgresql", "mysql")):
        raise InputError(f"{OUT} must be the address of a database such as sqlite:///study.db, got {shown(url)}")
    try:
        engine = sqlalchemy.create_engine(url)
        try:
            tables = set(sqlalchemy.inspect(engine).get_table_names())
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError) as error:
        reason = without_login(url, str(getattr(error, "orig", None) or error))
        raise InputError(f"{OUT} must be a database that can be written, {shown(url)} is not: {reason}") from error
    if tables and not {"studies", "trials", "version_info"} <= tables:
        raise InputError(f"{OUT} must be empty or a database of Optuna's, {shown(url)} has other tables")
    return url


def frozen_trials(tracker: MlflowTracker, run: StudyRun, study: Study) -> list[FrozenTrial]:
    """Optuna's trials, from the attempts at a study's trials in order of time."""
    key = run.key
    space = schedule(study, key.sampler, study.base, dict(key.fixed), epochs=key.epochs).space
    attempts = sorted(tracker.trials(run.run_id), key=lambda trial: (trial.started, trial.number))
    curve = key.objective.first.curve
    # Of several metrics Optuna takes no reports.
    curves = {} if key.objective.several else tracker.curves_of([trial.run_id for trial in attempts], [curve])
    reports = {run_id: dict(own[curve]) for run_id, own in curves.items()}
    return [frozen(trial, space, reports.get(trial.run_id, {}), key.objective) for trial in attempts]


def frozen(trial: TrialRun, space: Space, reports: dict[int, float], objective: Objective) -> FrozenTrial:
    """Optuna's trial; InputError where the study's space no longer admits what was drawn."""
    by_path = {choice.path: choice for choice in space}
    values = drawn_values(trial)
    for path, value in values.items():
        if path not in by_path or not by_path[path].admits(value):
            raise InputError(f"{path} must be in {by_path.get(path, 'the space')}, trial {trial.name} has {value!r}")
    state = TrialState[trial.state] if trial.state in TrialState.__members__ else TrialState.RUNNING
    attributes = {"run_id": trial.run_id, "index": trial.number, "name": trial.name}
    reason = trial.tags.get(REASON)
    made = create_trial(
        state=state,
        values=list(objective.values(trial.metrics)) if trial.state == COMPLETE else None,
        params=values,
        distributions={path: distribution(by_path[path]) for path in values},
        intermediate_values=reports,
        user_attrs={**attributes, **({"reason": reason} if reason else {})},
    )
    made.datetime_start = datetime.fromtimestamp(trial.started / 1000)
    if state.is_finished():
        made.datetime_complete = made.datetime_start + timedelta(seconds=trial.metrics.get("fit_seconds", 0.0))
    return made

"""Tracked runs by SQL that only reads: what MLflow's `search_runs` gives, without an object for every value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Integer, Select, cast, func, select

from mmtune.tracking.runs import COMPLETE, OBJECTIVE, StudyRun, TrialRun, in_order, key_from_json, made_trial
from mmtune.tracking.tables import EXPERIMENTS, LATEST_METRICS, METRICS, RUNS, TAGS

PARENT = "mlflow.parentRunId"
# Of values bound to one statement; SQLite's own limit is 32,766.
MOST_BOUND = 500


def tagged(name: str, value: str) -> Select[Any]:
    """The ids of the active runs with a tag, as a query."""
    joined = select(RUNS.c.run_uuid).join(TAGS, TAGS.c.run_uuid == RUNS.c.run_uuid)
    return joined.where(TAGS.c.key == name, TAGS.c.value == value, RUNS.c.lifecycle_stage == "active")


def read_tags(store: Any, chosen: Any) -> dict[str, dict[str, str]]:
    """By run, its tags by name."""
    found: dict[str, dict[str, str]] = {}
    for run, name, value in store.execute(select(TAGS.c.run_uuid, TAGS.c.key, TAGS.c.value).where(chosen)):
        found.setdefault(run, {})[name] = value
    return found


def read_trials(engine: Any, chosen: Select[Any] | Sequence[str]) -> list[TrialRun]:
    """The runs of trials or parts whose ids are given, or selected by a query, by trial number, then time."""
    with engine.connect() as store:
        runs = store.execute(
            select(RUNS.c.run_uuid, RUNS.c.name, RUNS.c.status).where(RUNS.c.run_uuid.in_(chosen))
        ).all()
        tags = read_tags(store, TAGS.c.run_uuid.in_(chosen))
        metrics: dict[str, dict[str, float]] = {run: {} for run, _, _ in runs}
        latest = LATEST_METRICS.c
        values = select(latest.run_uuid, latest.key, latest.value, latest.is_nan).where(latest.run_uuid.in_(chosen))
        for run, name, value, is_nan in store.execute(values):
            metrics[run][name] = math.nan if is_nan else value
    return in_order(made_trial(run, name, status, metrics[run], tags[run]) for run, name, status in runs)


def read_studies(engine: Any, name: str | None) -> list[StudyRun]:
    """The runs of studies, all or those of one name, the last opened first."""
    studies = select(RUNS.c.run_uuid, RUNS.c.status, RUNS.c.start_time)
    studies = studies.join(EXPERIMENTS, EXPERIMENTS.c.experiment_id == RUNS.c.experiment_id)
    chosen = tagged("mmtune.kind", "study")
    wanted = [RUNS.c.run_uuid.in_(chosen), EXPERIMENTS.c.lifecycle_stage == "active"]
    wanted += [] if name is None else [EXPERIMENTS.c.name == name]
    with engine.connect() as store:
        runs = store.execute(studies.where(*wanted)).all()
        tags = read_tags(store, TAGS.c.run_uuid.in_(chosen))
    found = [
        StudyRun(
            run_id=run,
            key=key_from_json(tags[run]["mmtune.key_json"]),
            started=datetime.fromtimestamp(start / 1000, UTC),
            status=status,
            tags=tags[run],
        )
        for run, status, start in runs
    ]
    return sorted(found, key=lambda study: study.tags["mmtune.opened"], reverse=True)


def read_latest(engine: Any, experiment: str) -> datetime:
    """The last time on record in an experiment: when a run ended, or a study or a trial began; 1970 where none did."""
    runs = select(RUNS.c.run_uuid).where(RUNS.c.experiment_id == int(experiment))
    began = TAGS.c.key.in_(("mmtune.opened", "mmtune.started")) & TAGS.c.value.like("____-__-__T%+00:00")
    with engine.connect() as store:
        ended = store.execute(select(func.max(RUNS.c.end_time)).where(RUNS.c.run_uuid.in_(runs))).scalar() or 0
        tag = store.execute(select(func.max(TAGS.c.value)).where(began, TAGS.c.run_uuid.in_(runs))).scalar()
    times = [datetime.fromtimestamp(ended / 1000, UTC), *([datetime.fromisoformat(tag)] if tag else [])]
    return max(times)


def read_best(engine: Any, parent: str) -> TrialRun | None:
    """The complete trial with the highest objective; of equals, the one with the lowest number."""
    latest, state, number = LATEST_METRICS.c, TAGS.alias(), TAGS.alias()
    found = (
        select(latest.run_uuid)
        .join(state, state.c.run_uuid == latest.run_uuid)
        .join(number, number.c.run_uuid == latest.run_uuid)
        .where(latest.key == OBJECTIVE, latest.run_uuid.in_(tagged(PARENT, parent)))
        .where(state.c.key == "mmtune.state", state.c.value == COMPLETE, number.c.key == "mmtune.number")
        .order_by(latest.value.desc(), cast(number.c.value, Integer))
        .limit(1)
    )
    with engine.connect() as store:
        run_id = store.execute(found).scalar()
    return read_trials(engine, [run_id])[0] if run_id else None


def read_count(engine: Any, parent: str) -> int:
    """How many numbers the trials of a study have between them."""
    of_study = TAGS.c.run_uuid.in_(tagged(PARENT, parent))
    found = select(func.count(TAGS.c.value.distinct())).where(TAGS.c.key == "mmtune.number", of_study)
    with engine.connect() as store:
        return int(store.execute(found).scalar() or 0)


def read_tally(engine: Any, parent: str) -> dict[str, int]:
    """How many of a study's trials are in each state."""
    of_study = TAGS.c.run_uuid.in_(tagged(PARENT, parent))
    found = (
        select(TAGS.c.value, func.count().label("attempts"))
        .where(TAGS.c.key == "mmtune.state", of_study)
        .group_by(TAGS.c.value)
    )
    with engine.connect() as store:
        return {row.value: row.attempts for row in store.execute(found)}


def read_curves(
    engine: Any, runs: Sequence[str], names: Iterable[str]
) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """By run and metric, the (epoch, value) pairs in order of epochs."""
    found: dict[str, dict[str, list[tuple[int, float]]]] = {run: {name: [] for name in names} for run in runs}
    points = select(METRICS.c.run_uuid, METRICS.c.key, METRICS.c.step, METRICS.c.value, METRICS.c.is_nan)
    with engine.connect() as store:
        for first in range(0, len(runs), MOST_BOUND):
            some = METRICS.c.run_uuid.in_(runs[first : first + MOST_BOUND])
            for run, name, step, value, is_nan in store.execute(points.where(some, METRICS.c.key.in_(list(names)))):
                found[run][name].append((step, math.nan if is_nan else value))
    return {run: {name: sorted(own) for name, own in curves.items()} for run, curves in found.items()}


def read_run(engine: Any, run_id: str) -> Any:
    """The row of a run in the table of runs, None where there is none."""
    with engine.connect() as store:
        return store.execute(select(RUNS).where(RUNS.c.run_uuid == run_id)).first()

"""What is tracked, read: by SQL that only reads where the schema is one that this file knows, else through MLflow.

Both ways give the same answers (tests hold them against each other). SQL reads 100,000 runs in seconds, and without
MLflow, whose import takes one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import Engine, Select, column, func, select, table

from mmtune.tracking.runs import (
    COMPLETE,
    FAIL,
    NUMBER,
    OBJECTIVE,
    PARENT,
    STATES,
    STATUS,
    StudyRun,
    TrialRun,
    best_trial,
    in_order,
    last_first,
    made_trial,
    study_run,
    trial_run,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

REVISIONS = {"dc11669786a5"}
"""Of MLflow's schema: the one of MLflow 3.17."""
PAGE = 1_000
# Of values bound to one statement; SQLite's own limit is 32,766.
MOST_BOUND = 500
Curves = dict[str, list[tuple[int, float]]]


class Reading(Protocol):
    """The questions that are asked of a store."""

    def studies(self, name: str | None) -> list[StudyRun]:
        """The tracked studies, all or those of one name, the last opened first."""

    def runs(self, tag: str, value: str) -> list[TrialRun]:
        """The runs of trials, or of parts, with a tag, by trial number, then time."""

    def best(self, parent: str) -> TrialRun | None:
        """The `best_trial` of a study."""

    def count(self, parent: str) -> int:
        """How many of a study's trials were ever attempted."""

    def tally(self, parent: str) -> dict[str, int]:
        """How many attempts at trials of a study are in each state that occurs."""

    def curves(self, runs: Sequence[str], names: Iterable[str]) -> dict[str, Curves]:
        """By run and metric, the (step, value) pairs in order of steps."""

    def artifact_uri(self, run_id: str) -> str | None:
        """Where the files of a run are, None where there is no such run."""

    def locations(self) -> list[str]:
        """Where experiments keep their files, each place once."""


# ---- through MLflow


class ClientReading:
    """Every question through MLflow's client."""

    def __init__(self, client: Callable[[], MlflowClient]) -> None:
        self.client = client

    def studies(self, name: str | None) -> list[StudyRun]:
        client = self.client()
        found = [e for e in pages(client.search_experiments) if name is None or e.name == name]
        runs = self._search([e.experiment_id for e in found], "tags.`mmtune.kind` = 'study'")
        return last_first(study_run(r.info.run_id, r.info.status, r.info.start_time, dict(r.data.tags)) for r in runs)

    def runs(self, tag: str, value: str) -> list[TrialRun]:
        return in_order(map(trial_run, self._tagged(tag, value)))

    def best(self, parent: str) -> TrialRun | None:
        complete = (run for run in self._tagged(PARENT, parent) if run.info.status == STATUS[COMPLETE])
        scores = [(run, run.data.metrics.get(OBJECTIVE, math.nan)) for run in complete]
        highest = max((score for _, score in scores if not math.isnan(score)), default=math.nan)
        return best_trial(trial_run(run) for run, score in scores if score == highest)

    def count(self, parent: str) -> int:
        numbers = {run.data.tags.get(NUMBER) for run in self._tagged(PARENT, parent)}
        return len(numbers - {None})

    def tally(self, parent: str) -> dict[str, int]:
        return tallied((run.info.status, 1) for run in self._tagged(PARENT, parent))

    def curves(self, runs: Sequence[str], names: Iterable[str]) -> dict[str, Curves]:
        client, wanted = self.client(), list(names)

        def points(run: str, name: str) -> list[tuple[int, float]]:
            found = client.get_metric_history(run, name)
            return sorted(((metric.step, metric.value) for metric in found), key=by_step)

        return {run: {name: points(run, name) for name in wanted} for run in runs}

    def artifact_uri(self, run_id: str) -> str | None:
        from mlflow.exceptions import MlflowException

        try:
            return str(self.client().get_run(run_id).info.artifact_uri)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None

    def locations(self) -> list[str]:
        return sorted({str(e.artifact_location) for e in pages(self.client().search_experiments)})

    def _tagged(self, tag: str, value: str) -> list[Any]:
        experiments = [e.experiment_id for e in pages(self.client().search_experiments)]
        return list(self._search(experiments, f"tags.`{tag}` = '{value}'"))

    def _search(self, experiments: list[str], condition: str) -> Iterator[Any]:
        client = self.client()
        if experiments:
            yield from pages(lambda **page: client.search_runs(experiments, condition, **page))


def by_step(point: tuple[int, float]) -> tuple[int, bool, float]:
    """In what order the points of a curve are, also where one is no number."""
    step, value = point
    return step, math.isnan(value), value


def tallied(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    """By state, in order, how many runs are in it; counts: by MLflow's status."""
    found: Counter[str] = Counter()
    for status, count in counts:
        found[STATES.get(status, FAIL)] += count
    return dict(sorted(found.items()))


def pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Everything that one of MLflow's searches finds."""
    token: str | None = None
    while True:
        page = search(max_results=PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


# ---- by SQL

EXPERIMENTS = table("experiments", *map(column, ("experiment_id", "name", "lifecycle_stage", "artifact_location")))
RUNS = table(
    "runs",
    *map(column, ("run_uuid", "name", "status", "lifecycle_stage", "artifact_uri", "experiment_id", "start_time")),
)
TAGS = table("tags", *map(column, ("run_uuid", "key", "value")))
METRICS, LATEST = (
    table(name, *map(column, ("run_uuid", "key", "value", "step", "is_nan"))) for name in ("metrics", "latest_metrics")
)


class SqlReading:
    """Every question by SQL, on connections that only read."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def studies(self, name: str | None) -> list[StudyRun]:
        chosen = tagged("mmtune.kind", "study")
        found = select(RUNS.c.run_uuid, RUNS.c.status, RUNS.c.start_time)
        found = found.join(EXPERIMENTS, EXPERIMENTS.c.experiment_id == RUNS.c.experiment_id)
        found = found.where(RUNS.c.run_uuid.in_(chosen))
        with self.engine.connect() as store:
            runs = store.execute(found if name is None else found.where(EXPERIMENTS.c.name == name)).all()
            tags = read_tags(store, TAGS.c.run_uuid.in_(chosen))
        return last_first(study_run(run, status, started, tags.get(run, {})) for run, status, started in runs)

    def runs(self, tag: str, value: str) -> list[TrialRun]:
        return self._trials(tagged(tag, value))

    def best(self, parent: str) -> TrialRun | None:
        latest = LATEST.c
        complete = tagged(PARENT, parent).where(RUNS.c.status == STATUS[COMPLETE])
        rated = (latest.key == OBJECTIVE, latest.is_nan.is_(False), latest.run_uuid.in_(complete))
        highest = select(func.max(latest.value)).where(*rated).scalar_subquery()
        return best_trial(self._trials(select(latest.run_uuid).where(*rated, latest.value == highest)))

    def count(self, parent: str) -> int:
        of_study = TAGS.c.run_uuid.in_(tagged(PARENT, parent))
        found = select(func.count(TAGS.c.value.distinct())).where(TAGS.c.key == NUMBER, of_study)
        with self.engine.connect() as store:
            return int(store.execute(found).scalar() or 0)

    def tally(self, parent: str) -> dict[str, int]:
        of_study = RUNS.c.run_uuid.in_(tagged(PARENT, parent))
        found = select(RUNS.c.status, func.count()).where(of_study).group_by(RUNS.c.status)
        with self.engine.connect() as store:
            return tallied((status, int(count)) for status, count in store.execute(found))

    def curves(self, runs: Sequence[str], names: Iterable[str]) -> dict[str, Curves]:
        wanted = list(names)
        found: dict[str, Curves] = {run: {name: [] for name in wanted} for run in runs}
        points = select(METRICS.c.run_uuid, METRICS.c.key, METRICS.c.step, METRICS.c.value, METRICS.c.is_nan)
        with self.engine.connect() as store:
            for first in range(0, len(runs), MOST_BOUND):
                some = METRICS.c.run_uuid.in_(runs[first : first + MOST_BOUND])
                for run, name, step, value, is_nan in store.execute(points.where(some, METRICS.c.key.in_(wanted))):
                    found[run][name].append((step, math.nan if is_nan else value))
        return {run: {name: sorted(own, key=by_step) for name, own in own.items()} for run, own in found.items()}

    def artifact_uri(self, run_id: str) -> str | None:
        with self.engine.connect() as store:
            return store.execute(select(RUNS.c.artifact_uri).where(RUNS.c.run_uuid == run_id)).scalar()

    def locations(self) -> list[str]:
        active = EXPERIMENTS.c.lifecycle_stage == "active"
        with self.engine.connect() as store:
            found = store.execute(select(EXPERIMENTS.c.artifact_location).where(active).distinct())
            return sorted(str(location) for location in found.scalars())

    def _trials(self, chosen: Select[Any]) -> list[TrialRun]:
        with self.engine.connect() as store:
            found = select(RUNS.c.run_uuid, RUNS.c.name, RUNS.c.status, RUNS.c.start_time)
            runs = store.execute(found.where(RUNS.c.run_uuid.in_(chosen))).all()
            tags = read_tags(store, TAGS.c.run_uuid.in_(chosen))
            metrics: dict[str, dict[str, float]] = {run[0]: {} for run in runs}
            values = select(LATEST.c.run_uuid, LATEST.c.key, LATEST.c.value, LATEST.c.is_nan)
            for run, name, value, is_nan in store.execute(values.where(LATEST.c.run_uuid.in_(chosen))):
                metrics[run][name] = math.nan if is_nan else value
        return in_order(
            made_trial(run, name or "", status, started, metrics[run], tags.get(run, {}))
            for run, name, status, started in runs
        )


def tagged(name: str, value: str) -> Select[Any]:
    """The ids of the active runs with a tag, as a query; a run of an experiment that is deleted is not active."""
    joined = select(RUNS.c.run_uuid).join(TAGS, TAGS.c.run_uuid == RUNS.c.run_uuid)
    active = select(EXPERIMENTS.c.experiment_id).where(EXPERIMENTS.c.lifecycle_stage == "active")
    there = RUNS.c.lifecycle_stage == "active", RUNS.c.experiment_id.in_(active)
    return joined.where(TAGS.c.key == name, TAGS.c.value == value, *there)


def read_tags(store: Any, chosen: Any) -> Mapping[str, dict[str, str]]:
    """By run, its tags by name."""
    found: dict[str, dict[str, str]] = {}
    for run, name, value in store.execute(select(TAGS.c.run_uuid, TAGS.c.key, TAGS.c.value).where(chosen)):
        found.setdefault(run, {})[name] = value
    return found

"""What is tracked, read: by SQL that only reads where the schema is one that this file knows, else through MLflow.

Both ways give the same answers (tests hold them against each other). SQL reads 100,000 runs in seconds, and without
MLflow, whose import takes one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import ColumnElement, Connection, Engine, Select, TableClause, column, select, table

from mmtune.tracking.runs import Row
from mmtune.tracking.store import SCHEMAS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

REVISIONS = frozenset(SCHEMAS.values())
PAGE = 1_000
# Of values bound to one statement; SQLite's own limit is 32,766.
MOST_BOUND = 500
# Of the number of a version; the columns hold 32 bits.
MOST_DIGITS = 9
Curves = dict[str, list[tuple[int, float]]]
Names = Collection[str] | None


class Reading(Protocol):
    """The questions that are asked of a store."""

    def rows(self, tag: str, value: str, tags: Names = None, metrics: Names = None, only: str = "") -> list[Row]:
        """The active runs with a tag, or the one of them with the id `only`.

        tags, metrics: the names of those that are asked for, None for all; there may be others among what comes.
        """

    def first(self, tag: str, value: str, status: str, metric: str, highest: bool = True) -> list[Row]:
        """Of the active runs with a tag and a status those with the highest value of a metric, or the lowest."""

    def curves(self, runs: Sequence[str], names: Sequence[str]) -> dict[str, Curves]:
        """By run and metric, the (step, value) pairs in order of steps."""

    def artifact_uri(self, run_id: str) -> str | None:
        """Where the files of a run are, None where there is no such run."""

    def locations(self) -> list[str]:
        """Where experiments keep their files, each place once."""

    def version_uri(self, model: str, version: str) -> str | None:
        """Where the files of a registered model's version are, by its number or an alias; None where there is none."""


class ClientReading:
    """Every question through MLflow's client."""

    def __init__(self, client: Callable[[], MlflowClient]) -> None:
        self.client = client

    def rows(self, tag: str, value: str, tags: Names = None, metrics: Names = None, only: str = "") -> list[Row]:
        client = self.client()
        names = {str(e.experiment_id): str(e.name) for e in pages(client.search_experiments)}
        asked = f"tags.`{tag}` = '{value}'"
        runs = pages(lambda **page: client.search_runs(list(names), asked, **page)) if names else ()
        return [row_of(run, names[run.info.experiment_id]) for run in runs if only in ("", run.info.run_id)]

    def first(self, tag: str, value: str, status: str, metric: str, highest: bool = True) -> list[Row]:
        rows = [row for row in self.rows(tag, value) if row.status == status]
        scores = [(row.metrics.get(metric, math.nan), row) for row in rows]
        known = (score for score, _ in scores if not math.isnan(score))
        top = (max if highest else min)(known, default=math.nan)
        return [row for score, row in scores if score == top]

    def curves(self, runs: Sequence[str], names: Sequence[str]) -> dict[str, Curves]:
        client = self.client()

        def points(run: str, name: str) -> list[tuple[int, float]]:
            return sorted(((m.step, m.value) for m in client.get_metric_history(run, name)), key=by_step)

        return {run: {name: points(run, name) for name in names} for run in runs}

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

    def version_uri(self, model: str, version: str) -> str | None:
        from mlflow.exceptions import MlflowException

        client = self.client()
        try:
            number = version if is_number(version) else client.get_model_version_by_alias(model, version).version
            return str(client.get_model_version_download_uri(model, str(number)))
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None


def is_number(version: str) -> bool:
    """Whether a version is told by its number, not by an alias."""
    return version.isascii() and version.isdigit()


def row_of(run: Run, experiment: str) -> Row:
    """MLflow's run, of the experiment of that name."""
    info, data = run.info, run.data
    return Row(
        run_id=info.run_id,
        experiment=experiment,
        experiment_id=info.experiment_id,
        name=info.run_name or "",
        status=info.status,
        started=info.start_time,
        metrics=dict(data.metrics),
        tags=dict(data.tags),
    )


def by_step(point: tuple[int, float]) -> tuple[int, bool, float]:
    """In what order the points of a curve are, also where one is no number."""
    step, value = point
    return step, math.isnan(value), value


def pages(search: Callable[..., Any]) -> Iterator[Any]:
    """Everything that one of MLflow's searches finds."""
    token: str | None = ""
    while token is not None:
        page = search(max_results=PAGE, page_token=token or None)
        yield from page
        token = page.token or None


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
ALIASES = table("registered_model_aliases", *map(column, ("name", "alias", "version", "workspace")))
VERSIONS = table(
    "model_versions",
    *map(column, ("name", "version", "source", "storage_location", "current_stage", "workspace")),
)
DELETED, WORKSPACE = "Deleted_Internal", "default"
OF_EXPERIMENT = EXPERIMENTS.c.experiment_id == RUNS.c.experiment_id
ACTIVE = EXPERIMENTS.c.lifecycle_stage == "active"


class SqlReading:
    """Every question by SQL, on connections that only read."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def rows(self, tag: str, value: str, tags: Names = None, metrics: Names = None, only: str = "") -> list[Row]:
        chosen = [RUNS.c.run_uuid == only] if only else []
        return self._read([*tagged(tag, value), *chosen], tags, metrics)

    def first(self, tag: str, value: str, status: str, metric: str, highest: bool = True) -> list[Row]:
        latest, asked = LATEST.c, [*tagged(tag, value), RUNS.c.status == status]
        rated = select(latest.run_uuid, latest.value).where(latest.key == metric, latest.is_nan.is_(False))
        order = latest.value.desc() if highest else latest.value.asc()
        ids_of_top: list[str] = []
        top: float | None = None
        with self.engine.connect() as store:
            # From the top on: which runs are asked for is dear to find out for all of a large store.
            for some in store.execute(rated.order_by(order)).partitions(MOST_BOUND):
                score = {own.run_uuid: own.value for own in some}
                among = select(RUNS.c.run_uuid).where(*asked, RUNS.c.run_uuid.in_(list(score)))
                found = list(store.execute(among).scalars())
                best = (max if highest else min)((score[own] for own in found), default=None)
                top = best if top is None else top
                ids_of_top += [own for own in found if score[own] == top]
                if top is not None and some[-1].value != top:
                    break
        chosen = ([OF_EXPERIMENT, RUNS.c.run_uuid.in_(ids)] for ids in batches(ids_of_top))
        return [row for asked in chosen for row in self._read(asked, None, None)]

    def _read(self, asked: Sequence[ColumnElement[bool]], tags: Names, metrics: Names) -> list[Row]:
        run = RUNS.c
        of_experiment = EXPERIMENTS.c.name, run.experiment_id
        found = select(run.run_uuid, *of_experiment, run.name, run.status, run.start_time).where(*asked)
        chosen = select(run.run_uuid).where(*asked)
        with self.engine.connect() as store:
            rows = {
                own[0]: Row(
                    run_id=own[0],
                    experiment=own[1],
                    experiment_id=str(own[2]),
                    name=own[3] or "",
                    status=own[4],
                    started=own[5],
                )
                for own in store.execute(found)
            }
            if len(rows) <= MOST_BOUND:
                chosen = select(run.run_uuid).where(run.run_uuid.in_(list(rows)))
            # What began after the first question is not asked for.
            for run_id, name, text in values(store, TAGS, chosen, tags):
                if run_id in rows:
                    rows[run_id].tags[name] = text
            for run_id, name, score, is_nan in values(store, LATEST, chosen, metrics):
                if run_id in rows:
                    rows[run_id].metrics[name] = math.nan if is_nan else score
        return list(rows.values())

    def curves(self, runs: Sequence[str], names: Sequence[str]) -> dict[str, Curves]:
        found: dict[str, Curves] = {run: {name: [] for name in names} for run in runs}
        points = select(METRICS.c.run_uuid, METRICS.c.key, METRICS.c.step, METRICS.c.value, METRICS.c.is_nan)
        with self.engine.connect() as store:
            for ids in batches(runs):
                some = METRICS.c.run_uuid.in_(ids)
                for run, name, step, value, is_nan in store.execute(points.where(some, METRICS.c.key.in_(names))):
                    found[run][name].append((step, math.nan if is_nan else value))
        return {run: {name: sorted(own, key=by_step) for name, own in own.items()} for run, own in found.items()}

    def artifact_uri(self, run_id: str) -> str | None:
        with self.engine.connect() as store:
            return store.execute(select(RUNS.c.artifact_uri).where(RUNS.c.run_uuid == run_id)).scalar()

    def locations(self) -> list[str]:
        with self.engine.connect() as store:
            found = store.execute(select(EXPERIMENTS.c.artifact_location).where(ACTIVE).distinct())
            return sorted(str(location) for location in found.scalars())

    def version_uri(self, model: str, version: str) -> str | None:
        kept, alias = VERSIONS.c, ALIASES.c
        asked = [kept.name == model, kept.workspace == WORKSPACE, kept.current_stage != DELETED]
        if is_number(version):
            asked.append(kept.version == int(version))
        else:
            asked += [alias.name == model, alias.workspace == WORKSPACE, alias.alias == version]
            asked.append(kept.version == alias.version)
        with self.engine.connect() as store:
            found = store.execute(select(kept.storage_location, kept.source).where(*asked)).first()
        return None if found is None else str(found.storage_location or found.source)


def batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many at once as are bound to one statement."""
    return (ids[first : first + MOST_BOUND] for first in range(0, len(ids), MOST_BOUND))


def tagged(tag: str, value: str) -> list[ColumnElement[bool]]:
    """What is true of the active runs with a tag; a run of an experiment that is deleted is not active."""
    mark = TAGS.alias().c
    return [
        OF_EXPERIMENT,
        mark.run_uuid == RUNS.c.run_uuid,
        RUNS.c.lifecycle_stage == "active",
        ACTIVE,
        mark.key == tag,
        mark.value == value,
    ]


def values(store: Connection, kept: TableClause, chosen: Select[Any], names: Names) -> Any:
    """What a table keeps of runs: their id, a name, its value, and for a metric whether that is no number."""
    columns = [own for own in kept.c if own.name != "step"]
    asked = select(*columns).where(kept.c.run_uuid.in_(chosen))
    if names is None:
        return store.execute(asked)
    return store.execute(asked.where(kept.c.key.in_(names))) if names else ()

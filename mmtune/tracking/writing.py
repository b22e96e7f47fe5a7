"""A run's beginning, and its metrics, params, tags and end, in one transaction each, without an object for every value.

The rows are those that MLflow's `create_run`, `log_batch` and `set_terminated` would write, and tests hold the two
against each other. A trial's 20 epochs take a tenth of the time so, and its beginning and end a fifth.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import insert, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from mmtune.base.errors import InputError
from mmtune.tracking.reading import MOST_BOUND
from mmtune.tracking.spool import Entry
from mmtune.tracking.tables import EXPERIMENTS, LATEST_METRICS, METRICS, PARAMS, RUNS, TAGS

DIALECTS: dict[str, Any] = {"sqlite": sqlite, "postgresql": postgresql}
# MLflow's columns, which SQLite does not enforce.
LONGEST_NAME, LONGEST_TAG = 250, 8_000
READ_AGAIN = {"mmtune.params", "mmtune.drawn", "mmtune.key_json", "mmtune.versions"}
NEW_RUN = {
    "status": "RUNNING",
    "lifecycle_stage": "active",
    "source_type": "UNKNOWN",
    "user_id": "unknown",
    **dict.fromkeys(("source_name", "entry_point_name", "source_version"), ""),
}


@dataclass(frozen=True, kw_only=True)
class End:
    """How a run ended, in MLflow's terms. time: in milliseconds since 1970."""

    status: str
    time: int


def begin_run(
    engine: Any, experiment: int, name: str, time: int, params: Mapping[str, Any], tags: Mapping[str, str]
) -> tuple[str, str]:
    """A new run, all of it or nothing: its id, and the address of its files. time: in milliseconds since 1970.

    A name is cut off after LONGEST_NAME letters.

    Raises InputError where the experiment is not there, or was deleted by a hand in the UI.
    """
    run_id = uuid.uuid4().hex
    with engine.begin() as store:
        found = store.execute(select(EXPERIMENTS).where(EXPERIMENTS.c.experiment_id == experiment)).first()
        if found is None or found.lifecycle_stage != "active":
            raise InputError(f"experiment {experiment} must be there as long as it is written, it is not")
        folder = f"{found.artifact_location.rstrip('/')}/{run_id}/artifacts"
        own = {"run_uuid": run_id, "experiment_id": experiment, "name": name[:LONGEST_NAME], "start_time": time}
        store.execute(insert(RUNS).values(**NEW_RUN, **own, artifact_uri=folder))
        # The tag that has all params is refused before one of them is too long for PostgreSQL.
        set_tags(store, run_id, {**tags, "mlflow.runName": name[:LONGEST_NAME]})
        add_params(store, run_id, params)
    return run_id, folder


def write_batch(
    engine: Any,
    run_id: str,
    entries: Sequence[Entry] = (),
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    end: End | None = None,
) -> None:
    """Add to a run, all of it or nothing; what is there already, down to the time of a metric, stays there once.

    Raises InputError where the run is not there, or was deleted by a hand in the UI.
    """
    with engine.begin() as store:
        require_active(store, [run_id])
        add_metrics(store, [replace(entry, run_id=run_id) for entry in entries])
        add_params(store, run_id, params or {})
        set_tags(store, run_id, tags or {})
        if end is not None:
            ended = update(RUNS).where(RUNS.c.run_uuid == run_id)
            store.execute(ended.values(status=end.status, end_time=end.time))


def write_epochs(engine: Any, entries: Sequence[Entry]) -> None:
    """Add to as many runs as there are in `entries`, all of it or nothing, as `write_batch` does to one."""
    with engine.begin() as store:
        require_active(store, sorted({entry.run_id for entry in entries}))
        add_metrics(store, entries)


def is_active(engine: Any, run_id: str) -> bool:
    """Whether a run is there and was not deleted."""
    with engine.connect() as store:
        return stages(store, [run_id]).get(run_id) == "active"


def require_active(store: Any, runs: Sequence[str]) -> None:
    """InputError for a run that is not there to be written."""
    known = stages(store, runs)
    for run_id in runs:
        found = known.get(run_id, "unknown")
        if found != "active":
            raise InputError(f"run {run_id} must be there as long as it is written, it is {found}")


def stages(store: Any, runs: Sequence[str]) -> dict[str, str]:
    """MLflow's lifecycle stages of those runs that there are."""
    found: dict[str, str] = {}
    for first in range(0, len(runs), MOST_BOUND):
        some = RUNS.c.run_uuid.in_(runs[first : first + MOST_BOUND])
        found |= dict(iter(store.execute(select(RUNS.c.run_uuid, RUNS.c.lifecycle_stage).where(some))))
    return found


def add_metrics(store: Any, entries: Sequence[Entry]) -> None:
    """The history of metrics, and of each the last value: by step, then time, then size, as MLflow has it."""
    rows = [
        {"run_uuid": e.run_id, "key": name, "value": value, "timestamp": e.time, "step": e.step, "is_nan": False}
        for e in entries
        for name, value in e.metrics.items()
    ]
    if not rows:
        return
    store.execute(insert_into(store, METRICS).on_conflict_do_nothing(), rows)
    latest = insert_into(store, LATEST_METRICS)
    order = ("step", "timestamp", "value")
    newer = tuple_(*(latest.excluded[n] for n in order)) > tuple_(*(LATEST_METRICS.c[n] for n in order))
    changed = {name: latest.excluded[name] for name in (*order, "is_nan")}
    kept = latest.on_conflict_do_update(index_elements=["key", "run_uuid"], set_=changed, where=newer)
    store.execute(kept, list(last_rows(rows)))


def last_rows(rows: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Of rows of metrics, the last one of each run's each metric."""
    ordered = sorted(rows, key=lambda row: (row["step"], row["timestamp"], row["value"]))
    return {(row["run_uuid"], row["key"]): row for row in ordered}.values()


def add_params(store: Any, run_id: str, params: Mapping[str, Any]) -> None:
    """Params, which never change."""
    rows = [{"run_uuid": run_id, "key": name, "value": str(value)} for name, value in params.items()]
    if rows:
        store.execute(insert_into(store, PARAMS).on_conflict_do_nothing(), rows)


def set_tags(store: Any, run_id: str, tags: Mapping[str, str]) -> None:
    """Tags, the new value in the place of an old one."""
    rows = [{"run_uuid": run_id, "key": name, "value": fitting(name, value)} for name, value in tags.items()]
    if rows:
        new = insert_into(store, TAGS)
        store.execute(
            new.on_conflict_do_update(index_elements=["key", "run_uuid"], set_={"value": new.excluded.value}), rows
        )


def fitting(name: str, value: str) -> str:
    """A tag's value as far as MLflow's column takes it; InputError where it would be read again and is too long."""
    if len(value) > LONGEST_TAG and name in READ_AGAIN:
        raise InputError(f"{name} must have at most {LONGEST_TAG} letters, it has {len(value)}")
    return value[:LONGEST_TAG]


def insert_into(store: Any, table: Any) -> Any:
    """An INSERT that knows conflicts, in the database's own dialect."""
    return DIALECTS[store.dialect.name].insert(table)

"""Runs of a study as they are in the local store at one moment, to be sent elsewhere; by SQL that only reads."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, or_, select

from mmtune.base.files import path_of
from mmtune.tracking.reading import MOST_BOUND, PARENT, tagged
from mmtune.tracking.runs import RUNNING
from mmtune.tracking.tables import LATEST_METRICS, METRICS, PARAMS, RUNS, TAGS

STUDY = "mmtune.study_run"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One value of a metric; time in milliseconds since 1970."""

    name: str
    value: float
    time: int
    step: int


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A run with everything but the history of its metrics, which has so many `rows`.

    start, end: milliseconds since 1970, 0 for none.
    """

    run_id: str
    name: str
    status: str
    start: int
    end: int
    folder: Path
    params: Mapping[str, str]
    tags: Mapping[str, str]
    latest: Sequence[Row]
    rows: int

    @property
    def ended(self) -> bool:
        """Whether it is over; one that was resumed is not."""
        return self.status != RUNNING


def read_members(engine: Any, parent: str) -> list[tuple[str, str]]:
    """(id, status) of the runs of a study: its own, its trials' by their start, its parts' by theirs."""
    part = RUNS.c.run_uuid.in_(tagged(STUDY, parent))
    wanted = or_(RUNS.c.run_uuid == parent, RUNS.c.run_uuid.in_(tagged(PARENT, parent)), part)
    order = (RUNS.c.run_uuid != parent, part, RUNS.c.start_time, RUNS.c.run_uuid)
    found = select(RUNS.c.run_uuid, RUNS.c.status).where(wanted).order_by(*order)
    with engine.connect() as store:
        return [(run, status) for run, status in store.execute(found)]


def read_snapshots(engine: Any, ids: Sequence[str]) -> list[Snapshot]:
    """The runs of these ids, in their order; those that are not there are left out."""
    found: dict[str, Snapshot] = {}
    for first in range(0, len(ids), MOST_BOUND):
        found |= read_some(engine, ids[first : first + MOST_BOUND])
    return [found[run_id] for run_id in ids if run_id in found]


def read_some(engine: Any, ids: Sequence[str]) -> dict[str, Snapshot]:
    """Snapshots of a few runs by id, all from one moment."""
    with engine.connect() as store:
        runs = store.execute(select(RUNS).where(RUNS.c.run_uuid.in_(ids))).all()
        params, tags = read_pairs(store, PARAMS, ids), read_pairs(store, TAGS, ids)
        latest: dict[str, list[Row]] = {}
        of_runs = select(LATEST_METRICS).where(LATEST_METRICS.c.run_uuid.in_(ids)).order_by(LATEST_METRICS.c.key)
        for row in store.execute(of_runs):
            latest.setdefault(row.run_uuid, []).append(row_of(row))
        owner = METRICS.c.run_uuid
        counted = select(owner, func.count()).where(owner.in_(ids)).group_by(owner)
        rows = dict(iter(store.execute(counted)))
    return {
        run.run_uuid: Snapshot(
            run_id=run.run_uuid,
            name=run.name,
            status=run.status,
            start=run.start_time or 0,
            end=run.end_time or 0,
            folder=path_of(run.artifact_uri),
            params=params.get(run.run_uuid, {}),
            tags=tags.get(run.run_uuid, {}),
            latest=latest.get(run.run_uuid, []),
            rows=rows.get(run.run_uuid, 0),
        )
        for run in runs
    }


def read_pairs(store: Any, table: Any, ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """By run, the values by name of a table of params or tags."""
    found: dict[str, dict[str, str]] = {}
    for row in store.execute(select(table).where(table.c.run_uuid.in_(ids))):
        found.setdefault(row.run_uuid, {})[row.key] = row.value
    return found


def read_rows(engine: Any, run_id: str, until: int, known: int) -> tuple[list[Row], int]:
    """The values of a run's metrics that are later than `until`, and how many there are in all.

    They are all of them where those up to `until` are not the `known` ones: a clock was set back, or two reports
    came in one millisecond.
    """
    own = METRICS.c.run_uuid == run_id
    order = (METRICS.c.timestamp, METRICS.c.step, METRICS.c.key)
    with engine.connect() as store:
        total = store.execute(select(func.count()).select_from(METRICS).where(own)).scalar()
        found = store.execute(select(METRICS).where(own, METRICS.c.timestamp > until).order_by(*order)).all()
        if known + len(found) != total:
            found = store.execute(select(METRICS).where(own).order_by(*order)).all()
    return [row_of(row) for row in found], total


def row_of(row: Any) -> Row:
    """A Row from one of MLflow's."""
    return Row(name=row.key, value=math.nan if row.is_nan else row.value, time=row.timestamp, step=row.step)


def state_of_files(folder: Path) -> str:
    """A fingerprint of the files in a folder, by name, size and time; "" where there are none."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    found = [(str(path.relative_to(folder)), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return digest(found) if found else ""


def digest(content: Any) -> str:
    """A fingerprint of what JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]

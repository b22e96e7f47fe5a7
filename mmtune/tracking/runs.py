"""Tracked runs as mmtune sees them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mmtune.study import StudyKey

COMPLETE, PRUNED, FAIL, RUNNING = "COMPLETE", "PRUNED", "FAIL", "RUNNING"
RUN_STATUS = {COMPLETE: "FINISHED", PRUNED: "KILLED", FAIL: "FAILED"}
OBJECTIVE = "best_val_macro_f1"
UNIT = "unit_"
INTERRUPTED = "interrupted: the study stopped before this trial was done"


@dataclass(frozen=True, kw_only=True)
class TrialRun:
    """One attempt at a trial, as tracked.

    state: ours; status: MLflow's, written last. params: typed, by dotted path; metrics: the last value of each.
    """

    run_id: str
    number: int
    name: str
    state: str
    status: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """A study as tracked; `started` is when it was first opened."""

    run_id: str
    key: StudyKey
    started: datetime
    status: str
    tags: Mapping[str, str]


def best_trial(trials: Iterable[TrialRun]) -> TrialRun | None:
    """The complete trial with the highest validation macro-F1; of equals, the one with the lowest number."""
    complete = [t for t in trials if t.state == COMPLETE and OBJECTIVE in t.metrics]
    return max(complete, key=lambda t: (t.metrics[OBJECTIVE], -t.number), default=None)


def trial_run(run: Any) -> TrialRun:
    """A TrialRun from MLflow's run."""
    return made_trial(run.info.run_id, run.info.run_name, run.info.status, dict(run.data.metrics), dict(run.data.tags))


def made_trial(run_id: str, name: str, status: str, metrics: Mapping[str, float], tags: Mapping[str, str]) -> TrialRun:
    """A TrialRun, most of which its tags say."""
    return TrialRun(
        run_id=run_id,
        number=int(tags["mmtune.number"]),
        name=name,
        state=tags["mmtune.state"],
        status=status,
        params=json.loads(tags["mmtune.params"]),
        metrics=metrics,
        tags=tags,
    )


def in_order(trials: Iterable[TrialRun]) -> list[TrialRun]:
    """By trial number, then time."""
    return sorted(trials, key=lambda t: (t.number, t.tags["mmtune.started"]))


def key_to_json(key: StudyKey) -> str:
    """A StudyKey as JSON text."""
    return json.dumps(key.__dict__)


def key_from_json(text: str) -> StudyKey:
    """The inverse of `key_to_json`."""
    data = json.loads(text)
    pairs = {name: tuple((first, second) for first, second in data.get(name, ())) for name in ("fixed", "encoders")}
    return StudyKey(**{**data, **pairs})

"""Runs as a coordinator and its recorder leave them in the store, made through the tracker and without training."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmtune.study import StudyKey
from mmtune.tracking import COMPLETE, FAIL, OWNER, PARENT, RUNNING, MlflowTracker, StudyRun
from mmtune.train.staging import Point

OBJECTIVE = "best_val_macro_f1"
"""What a run of a study that says nothing of its objective is ranked by."""
FIRST = 1_767_225_600_000
"""When the first run begins, in milliseconds since 1970; each trial begins a second after the one before it."""


def track_study(tracker: MlflowTracker, key: StudyKey, **tags: str) -> StudyRun:
    """A study that is opened. tags: by name, without the prefix."""
    run_id = tracker.open_study(key, {f"mmtune.{name}": value for name, value in tags.items()})
    return next(study for study in tracker.studies(key.study) if study.run_id == run_id)


def track_trial(
    tracker: MlflowTracker,
    study: StudyRun,
    number: int,
    params: Mapping[str, Any] = {},
    metrics: Mapping[str, float] = {},
    *,
    state: str = COMPLETE,
    name: str = "",
    epochs: Sequence[Mapping[str, float]] = (),
    files: Path | None = None,
    reason: str = "",
    retry: bool = False,
    drawn: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] = {},
    trial: str = "",
) -> str:
    """A trial, or a part of the run `trial`, that has ended as told, or is under way; its run's id.

    epochs: the metrics of each epoch, the first one first. files: the folder of what it keeps. drawn: what was drawn,
    the params if not given. tags: by name, without the prefix.
    """
    own = {
        "mmtune.kind": "part" if trial else "trial",
        "mmtune.id": uuid.uuid4().hex,
        "mmtune.number": str(number),
        "mmtune.params": json.dumps(dict(params)),
        **({OWNER: study.run_id, PARENT: trial} if trial else {PARENT: study.run_id}),
        **({} if trial else {"mmtune.drawn": json.dumps(dict(params if drawn is None else drawn))}),
        **{f"mmtune.{fact}": value for fact, value in tags.items()},
    }
    started = FIRST + 1_000 * number
    run_id = tracker.begin(tracker.experiment(study.key.study), name or f"{number:02d}", started, own)
    points = [Point(epoch=e, time=started + e, metrics=found) for e, found in enumerate(epochs, start=1)]
    tracker.log(run_id, points, params)
    if state == RUNNING:
        return run_id
    if files is not None:
        tracker.add_files(run_id, files)
    ended = started + 1 + len(points)
    last = Point(epoch=int(metrics.get("epoch_at_best", 0)), time=ended, metrics=metrics)
    why = {"mmtune.reason": reason, "mmtune.retry": str(retry)} if reason or state == FAIL else {}
    tracker.log(run_id, [last], tags=why)
    tracker.end(run_id, state, ended)
    return run_id

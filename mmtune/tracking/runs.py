"""Tracked runs as mmtune sees them: made from what MLflow says, which a hand in its UI may have changed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from mmtune.base.errors import InputError
from mmtune.study.key import StudyKey
from mmtune.train.objective import Objective, front

COMPLETE, PRUNED, FAIL, RUNNING, INTERRUPTED = "COMPLETE", "PRUNED", "FAIL", "RUNNING", "INTERRUPTED"
STATUS = {COMPLETE: "FINISHED", PRUNED: "KILLED", FAIL: "FAILED", RUNNING: "RUNNING", INTERRUPTED: "SCHEDULED"}
"""MLflow's statuses. One that is scheduled is not under way and goes on with the same command."""
STATES = {status: state for state, status in STATUS.items()}
UNIT = "unit_"
LOST = "interrupted: the files that it had left are gone"
PARENT, OWNER, NUMBER = "mlflow.parentRunId", "mmtune.study_run", "mmtune.number"
PARAMS = "mmtune.params"
CLASSES = "mmtune.classes"
"""The tag of a study's run with the names of its classes, as far as they fit."""
MISSING = "mmtune.missing"
"""The tag of a study's run with the banks in which a row may have no value."""
REASON = "mmtune.reason"
"""The tag of a run that says why it failed."""
REMOVED = "mmtune.files_removed"
"""The tag of a run whose models and embeddings are not kept."""
LONGEST_TAG = 8_000
"""Of MLflow's."""
READ_AGAIN = {PARAMS, "mmtune.drawn", "mmtune.key_json"}
"""Tags that are read again, so that half of one is worse than none: a long one goes on in others, as in its name.1."""
MOST_PIECES = 16
FORMAT = "3"
"""Of what mmtune tracks. In format 1 a run's state was a tag of its own, in format 2 metrics had other names."""
Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A run as MLflow keeps it; started: milliseconds since 1970, metrics: the last value of each."""

    run_id: str
    experiment: str
    experiment_id: str
    name: str
    status: str
    started: int
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> str:
        return STATES.get(self.status, FAIL)


@dataclass(frozen=True, kw_only=True)
class TrialRun:
    """One attempt at a trial, or at a part of one, as tracked.

    started: milliseconds since 1970. params: typed, by dotted path; metrics: the last value of each.
    """

    run_id: str
    number: int
    name: str
    state: str
    started: int
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """A study as tracked; `started` is when it was first opened, `opened` (ISO 8601) when it was last."""

    run_id: str
    experiment_id: str
    key: StudyKey
    started: datetime
    opened: str
    status: str
    tags: Mapping[str, str]


def of_key(studies: Iterable[StudyRun], key: StudyKey) -> StudyRun | None:
    """The one of some studies that has a key, None where none has."""
    return next((study for study in studies if study.key.slug == key.slug), None)


def best_trial(trials: Iterable[TrialRun], objective: Objective) -> TrialRun | None:
    """The complete trial with the best value of the first metric; of equals, the one with the lowest number."""
    complete = [t for t in trials if t.state == COMPLETE and not math.isnan(t.metrics.get(objective.name, math.nan))]
    return max(complete, key=lambda t: (objective.rank(t.metrics), -t.number), default=None)


def front_trials(trials: Iterable[TrialRun], objective: Objective) -> list[TrialRun]:
    """The complete trials that no other one dominates, the best by the first metric first; none for a single metric."""
    if not objective.several:
        return []
    complete = [(t, objective.values(t.metrics)) for t in trials if t.state == COMPLETE]
    by_id = {trial.run_id: (trial, objective.ranks(values)) for trial, values in complete if values}
    order = sorted(by_id, key=lambda run_id: by_id[run_id][0].number)
    return [by_id[run_id][0] for run_id in front({run_id: by_id[run_id][1] for run_id in order})]


def trial_run(row: Row) -> TrialRun:
    """A trial, much of which its tags say; InputError where they were changed by hand."""
    return TrialRun(
        run_id=row.run_id,
        number=number_of(row),
        name=row.name,
        state=row.state,
        started=row.started,
        params=read_tag(row, PARAMS, json_object, "a JSON object"),
        metrics=row.metrics,
        tags=row.tags,
    )


def study_run(row: Row) -> StudyRun:
    """A study; InputError where its tags were changed by hand, or an older mmtune wrote it."""
    if row.tags.get("mmtune.format") != FORMAT:
        raise InputError(f"run {row.run_id} was tracked by another version of mmtune: use another --store")
    begun = datetime.fromtimestamp(row.started / 1000, UTC)
    return StudyRun(
        run_id=row.run_id,
        experiment_id=row.experiment_id,
        key=read_tag(row, "mmtune.key_json", key_from_json, "a study's key in JSON"),
        started=begun,
        opened=row.tags.get("mmtune.opened", begun.isoformat(timespec="microseconds")),
        status=row.status,
        tags=row.tags,
    )


def number_of(row: Row) -> int:
    """The number of a trial; InputError where its tag was changed by hand."""
    return read_tag(row, NUMBER, int, "a whole number")


def drawn_values(run: TrialRun) -> dict[str, Any]:
    """What was drawn for a trial; InputError where its tag was changed by hand."""
    return read_tag(run, "mmtune.drawn", json_object, "a JSON object")


def read_tag(run: Row | TrialRun | StudyRun, name: str, read: Callable[[str], Made], what: str) -> Made:
    """A tag's value; InputError where it is gone or does not say what it must."""
    try:
        return read(joined(run.tags, name))
    except KeyError as error:
        raise InputError(f"run {run.run_id} must have the tag {name}, it was deleted: delete the run too") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"run {run.run_id}: its tag {name} must be {what}, got {run.tags[name][:200]!r}: mend it, or delete the run"
        ) from error


def pieces(name: str) -> list[str]:
    """The names of all tags that the value of one may be divided over."""
    return [name, *(f"{name}.{number}" for number in range(1, MOST_PIECES))] if name in READ_AGAIN else [name]


def divided(name: str, value: str) -> dict[str, str]:
    """A tag as MLflow takes it: cut off, or, where it is read again, over several; InputError where it is too long."""
    if name not in READ_AGAIN:
        return {name: plain(value, LONGEST_TAG)}
    parts = [value[start : start + LONGEST_TAG] for start in range(0, len(value), LONGEST_TAG)] or [""]
    if len(parts) > MOST_PIECES:
        raise InputError(f"{name} must have at most {MOST_PIECES * LONGEST_TAG:,} letters, it has {len(value):,}")
    # JSON, in which a NUL is written out.
    return dict(zip(pieces(name), parts, strict=False))


def plain(text: str, longest: int) -> str:
    """The beginning of a text, without NUL, which PostgreSQL has not."""
    return text.replace("\0", "")[:longest]


def joined(tags: Mapping[str, str], name: str) -> str:
    """The inverse of `divided`; KeyError where there is no such tag."""
    parts = [tags[name]]
    for further in pieces(name)[1:]:
        # What an earlier, longer value has left stands after one that is not full.
        if len(parts[-1]) < LONGEST_TAG or further not in tags:
            break
        parts.append(tags[further])
    return "".join(parts)


def json_object(text: str) -> dict[str, Any]:
    """The JSON object in a text; ValueError where it is none."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(text)
    return found


def key_to_json(key: StudyKey) -> str:
    """A StudyKey as JSON text."""
    return json.dumps({**key.__dict__, "objective": key.objective.told()})


def key_from_json(text: str) -> StudyKey:
    """The inverse of `key_to_json`; ValueError or TypeError where the text says no key."""
    data = json_object(text)
    if not all(isinstance(data.get(name), str) for name in ("study", "data", "digest")):
        raise ValueError(text)
    pairs = {name: tuple((str(one), other) for one, other in data.get(name, ())) for name in ("fixed", "encoders")}
    told = {"objective": Objective.read(data["objective"])} if "objective" in data else {}
    return StudyKey(**{**data, **pairs, **told})

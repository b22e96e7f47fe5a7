"""What a coordinator that is gone has left, and what a hand in the UI has torn: settled before a study goes on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmtune.base.errors import InputError
from mmtune.study.space import Value
from mmtune.tracking import COMPLETE, FAIL, INTERRUPTED, OBJECTIVE, PRUNED, RUNNING, MlflowTracker, TrialRun
from mmtune.tune.parts import Part, part_of
from mmtune.tune.plan import Plan
from mmtune.tune.search import REPORTED, Attempt, Search


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is tracked of a study: the runs of its trials, and those of their parts, as they were found."""

    trials: list[TrialRun]
    parts: list[TrialRun]

    def ended_parts(self) -> dict[tuple[int, Part], TrialRun]:
        """The complete parts of all trials, by trial and part."""
        return {(run.number, part_of(run)): run for run in self.parts if run.state == COMPLETE}


def reconcile(plan: Plan, search: Search, tracker: MlflowTracker, parent: str) -> Found:
    """Settle what a dead coordinator left: no attempt and no run stays RUNNING; returns the runs as it found them.

    An attempt whose run had ended counts as it ended, and is not repeated; so does a run that the search has lost.
    """
    found = Found(trials=tracker.trials(parent), parts=tracker.parts(parent))
    runs = {run.run_id: run for run in found.trials}
    known = {attempt.run_id for attempt in search.attempts()}
    take_in(plan, search, tracker, [run for run in found.trials if run.run_id not in known])
    for attempt in list(search.attempts()):
        if attempt.state == RUNNING:
            settle(search, attempt, runs.get(attempt.run_id))
    for run in (*found.trials, *found.parts):
        if run.state == RUNNING:
            tracker.end_trial(run.run_id, FAIL, {}, reason=INTERRUPTED)
    return found


def take_in(plan: Plan, search: Search, tracker: MlflowTracker, lost: Sequence[TrialRun]) -> None:
    """Tell the search of runs that ended and that it has lost with its journal, or the end of it.

    Raises InputError where a run is not one that the study would make today.
    """
    ended = [run for run in lost if run.state != RUNNING and run.tags.get("mmtune.reason") != INTERRUPTED]
    for run in sorted(ended, key=lambda run: run.tags["mmtune.started"]):
        values = json.loads(run.tags.get("mmtune.drawn", "{}"))
        if not would_make(plan, values, run.params):
            if run.state == FAIL:
                continue
            raise InputError(
                f"{plan.key.slug} must be made as trial {run.name} of it was, to go on without its journal: it is made "
                "otherwise now; restore the study, or start one of its own with another --seed"
            )
        curve = tracker.curves(run.run_id, [REPORTED])[REPORTED]
        reports = {epoch: score for epoch, score in curve if epoch in search.rungs}
        retry = run.tags.get("mmtune.retry") == "True"
        search.take_in(run.number, values, run.run_id, run.state, run.metrics.get(OBJECTIVE), reports, retry=retry)


def would_make(plan: Plan, values: Mapping[str, Value], params: Mapping[str, Any]) -> bool:
    """Whether a plan makes of these values a trial with these params."""
    fitting = {choice.path: choice for choice in plan.schedule.space}
    if not all(path in fitting and fitting[path].admits(value) for path, value in values.items()):
        return False
    made = plan.params(plan.schedule.configure(plan.base, values))
    return json.loads(json.dumps(made)) == dict(params)


def retire_torn(tracker: MlflowTracker, found: Found, parts: int) -> list[TrialRun]:
    """The runs that count: a complete trial of several parts that has lost one, by a hand in the UI, is made again."""
    if parts == 1:
        return found.trials
    owners = Counter(run.tags["mlflow.parentRunId"] for run in found.parts if run.state == COMPLETE)
    torn = [run for run in found.trials if run.state == COMPLETE and owners[run.run_id] != parts]
    for run in torn:
        tracker.end_trial(run.run_id, FAIL, {}, reason="a part of this trial was deleted")
    return [run for run in found.trials if run not in torn]


def settle(search: Search, attempt: Attempt, run: TrialRun | None) -> None:
    """End one stale attempt by what its run says."""
    if run is not None and run.state in (COMPLETE, PRUNED):
        search.settle(attempt.id, run.state, run.metrics.get(OBJECTIVE))
    elif run is not None and run.state == FAIL and run.tags.get("mmtune.reason") != INTERRUPTED:
        search.settle(attempt.id, FAIL, None, retry=run.tags.get("mmtune.retry") == "True")
    else:
        search.settle(attempt.id, FAIL, None, interrupted=True)

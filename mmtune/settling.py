"""What a coordinator that is gone has left, and what a hand in the UI has torn: settled before a study goes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mmtune.parts import Part, part_of
from mmtune.search import Attempt, Search
from mmtune.tracking import COMPLETE, FAIL, INTERRUPTED, OBJECTIVE, PRUNED, RUNNING, MlflowTracker, TrialRun


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is tracked of a study: the runs of its trials, and those of their parts, as they were found."""

    trials: list[TrialRun]
    parts: list[TrialRun]

    def ended_parts(self) -> dict[tuple[int, Part], TrialRun]:
        """The complete parts of all trials, by trial and part."""
        return {(run.number, part_of(run)): run for run in self.parts if run.state == COMPLETE}


def reconcile(search: Search, tracker: MlflowTracker, parent: str) -> Found:
    """Settle what a dead coordinator left: no attempt and no run stays RUNNING; returns the runs as it found them.

    An attempt whose run had ended counts as it ended, and is not repeated.
    """
    found = Found(trials=tracker.trials(parent), parts=tracker.parts(parent))
    runs = {run.run_id: run for run in found.trials}
    for attempt in list(search.attempts()):
        if attempt.state == RUNNING:
            settle(search, attempt, runs.get(attempt.run_id))
    for run in (*found.trials, *found.parts):
        if run.state == RUNNING:
            tracker.end_trial(run.run_id, FAIL, {}, reason=INTERRUPTED)
        elif run.status == RUNNING:
            tracker.close_run(run)
    return found


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

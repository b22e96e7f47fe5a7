"""How a study stands when a command begins: what the store says of it, and what waits or goes on in staging."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmtune.base.clock import CLOCK
from mmtune.networks.card import CARD, MODEL
from mmtune.tracking import COMPLETE, FAIL, INTERRUPTED, LOST, PARENT, REASON, RUNNING, MlflowTracker, TrialRun
from mmtune.tracking.runs import drawn_values
from mmtune.train.objective import Objective
from mmtune.train.staging import PARTS, Result, StagedRun, now_ms, read_epochs, read_runs
from mmtune.tune.parts import Part, part_of
from mmtune.tune.search import Attempt, Search

ENDED_BY_HAND = "a part of this trial was deleted"


@dataclass(frozen=True, kw_only=True)
class StagedTrial:
    """A trial in staging, and every attempt at its parts there, where it has several."""

    run: StagedRun
    parts: list[StagedRun] = field(default_factory=list)

    @property
    def runs(self) -> list[StagedRun]:
        """The trial's own run, and then those of its parts."""
        return [self.run, *self.parts]


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A study when a command begins.

    ended: the runs of its trials that have ended and count; parts: those of their parts. staged: the trials that are in
    staging, ended or not, the first begun first. states: by run, what the store says of those that it has.
    """

    ended: list[TrialRun]
    parts: list[TrialRun]
    staged: list[StagedTrial]
    states: Mapping[str, str]

    @property
    def unfinished(self) -> list[StagedRun]:
        """The runs in staging that the store has not, or not wholly; a trial's before those of its parts."""
        runs = [run for trial in self.staged for run in trial.runs]
        return [run for run in runs if self.states.get(run.run_id, RUNNING) in (RUNNING, INTERRUPTED)]

    def under_way(self, trials: int) -> list[StagedTrial]:
        """Of the first `trials` trials those that have not ended; the others wait for a call that asks for them."""
        return [trial for trial in self.staged if trial.run.result is None and trial.run.number < trials]


def look(tracker: MlflowTracker, parent: str, staging: Path, parts: tuple[Part, ...], objective: Objective) -> Standing:
    """How a study stands; whatever nothing can go on from is ended, in the store or in staging."""
    tracked = tracker.trials(parent)
    tracked_parts = tracker.parts(parent) if len(parts) > 1 else []
    for run in (*tracked, *tracked_parts):
        CLOCK.show_milliseconds(run.started)
    by_id = {run.tags.get("mmtune.id", ""): run for run in (*tracked, *tracked_parts)}
    staged = [trial for trial in read_staged(staging, parts, objective) if not forget_if_ended(trial, by_id)]
    for own in (own for trial in staged for own in trial.runs):
        own.run_id = by_id[own.id].run_id if own.id in by_id else ""
        for time in (own.started, *(point.time for point in read_epochs(own.folder))):
            CLOCK.show_milliseconds(time)
    stray = strays(tracked, tracked_parts, staged)
    for run_id in sorted(stray):
        end_lost(tracker, run_id, LOST)
    ended = [as_lost(run) if run.run_id in stray else run for run in tracked if run.run_id in stray or not is_open(run)]
    return Standing(
        ended=without_halved(tracker, ended, tracked_parts, len(parts)),
        parts=[run for run in tracked_parts if not is_open(run) and run.run_id not in stray],
        staged=staged,
        states={run.run_id: run.state for run in (*tracked, *tracked_parts)},
    )


def strays(trials: Iterable[TrialRun], parts: Iterable[TrialRun], staged: Iterable[StagedTrial]) -> set[str]:
    """The runs that count no more, as staging has lost them: whatever is under way, and parts of what is."""
    known = {own.run_id for trial in staged for own in trial.runs}
    under_way = {trial.run.run_id for trial in staged} - {""}
    lost = {run.run_id for run in (*trials, *parts) if is_open(run)}
    lost |= {run.run_id for run in parts if run.state == COMPLETE and run.tags.get(PARENT) in under_way}
    return lost - known


def is_open(run: TrialRun) -> bool:
    """Whether a run has not ended."""
    return run.state in (RUNNING, INTERRUPTED)


def read_staged(staging: Path, parts: tuple[Part, ...], objective: Objective) -> list[StagedTrial]:
    """The trials in staging; whatever is none of ours there, or is but half of one that ended, is removed."""
    runs = distinct(read_runs(staging), lambda run: run.number, objective)
    clear(staging, runs)
    return [StagedTrial(run=run, parts=read_parts(run, parts, objective)) for run in runs]


def read_parts(trial: StagedRun, parts: tuple[Part, ...], objective: Objective) -> list[StagedRun]:
    """The attempts at parts of a trial that are in staging."""
    if len(parts) == 1:
        return []
    runs = [run for run in read_runs(trial.folder / PARTS) if run.parent == trial.id and part_of(run.tags) in parts]
    runs = distinct(runs, lambda run: part_of(run.tags), objective)
    clear(trial.folder / PARTS, runs)
    return runs


def distinct(runs: Iterable[StagedRun], place: Callable[[StagedRun], Any], objective: Objective) -> list[StagedRun]:
    """Each run once, and one of those that are under way at a place: somebody may have copied a folder."""
    found: dict[Any, StagedRun] = {}
    for run in runs:
        if run.number >= 0 and is_whole(run, objective):
            found.setdefault(run.id if run.result else place(run), run)
    kept: dict[str, StagedRun] = {}
    for run in found.values():
        kept.setdefault(run.id, run)
    return list(kept.values())


def is_whole(run: StagedRun, objective: Objective) -> bool:
    """Whether a run, if it ended well, has left its score and its model."""
    result = run.result
    if result is None or result.state == FAIL:
        return True
    return bool(objective.values(result.metrics)) and (run.folder / result.files / MODEL / CARD).exists()


def clear(folder: Path, runs: Iterable[StagedRun]) -> None:
    """Remove whatever else is in a folder of runs."""
    for path in set(folder.glob("*")) - {run.folder for run in runs}:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def forget_if_ended(trial: StagedTrial, by_id: Mapping[str, TrialRun]) -> bool:
    """Remove a trial from staging if the store has all of it."""
    found = by_id.get(trial.run.id)
    if found is None or is_open(found):
        return False
    shutil.rmtree(trial.run.folder, ignore_errors=True)
    return True


def end_lost(tracker: MlflowTracker, run_id: str, reason: str) -> None:
    """End a run from which nothing can go on."""
    tracker.log(run_id, tags={REASON: reason})
    tracker.end(run_id, FAIL, now_ms())


def without_halved(
    tracker: MlflowTracker, trials: list[TrialRun], parts: Iterable[TrialRun], wanted: int
) -> list[TrialRun]:
    """The trials that count: a complete one of several parts that has lost one, by a hand in the UI, is made again."""
    if wanted == 1:
        return trials
    owners = Counter(run.tags.get(PARENT) for run in parts if run.state == COMPLETE)
    halved = {run.run_id for run in trials if run.state == COMPLETE and owners[run.run_id] != wanted}
    for run in trials:
        if run.run_id in halved:
            end_lost(tracker, run.run_id, ENDED_BY_HAND)
    return [run for run in trials if run.run_id not in halved]


def as_lost(run: TrialRun) -> TrialRun:
    """A run that `end_lost` has ended."""
    return replace(run, state=FAIL, tags={**run.tags, REASON: LOST})


# ---- the search, made anew


def rebuild(search: Search, standing: Standing, tracker: MlflowTracker, parts: tuple[Part, ...]) -> None:
    """Tell a new search of everything that happened."""
    objective = search.objective
    if search.compares_parts:
        reports = scores_of_parts(standing, parts, objective)
    else:
        reports = scores_at_rungs(standing, tracker, search.rungs, objective)
    search.rebuild(
        [
            *(tracked_attempt(run, reports.get(run.run_id, {}), objective) for run in standing.ended),
            *(staged_attempt(trial.run, reports.get(trial.run.id, {}), objective) for trial in standing.staged),
        ]
    )


def scores_of_parts(standing: Standing, parts: tuple[Part, ...], objective: Objective) -> dict[str, dict[int, float]]:
    """By trial, the scores of its parts by their place; a trial in staging is known by its own id."""
    ended = [(run.tags.get(PARENT, ""), run.tags, run.metrics) for run in standing.parts if run.state == COMPLETE]
    staged = [(own, own.result) for trial in standing.staged for own in trial.parts]
    found: dict[str, dict[int, float]] = {}
    for trial, tags, metrics in (*ended, *((own.parent, own.tags, result.metrics) for own, result in staged if result)):
        if objective.name in metrics:
            found.setdefault(trial, {})[parts.index(part_of(tags))] = metrics[objective.name]
    return found


def scores_at_rungs(
    standing: Standing, tracker: MlflowTracker, rungs: Collection[int], objective: Objective
) -> dict[str, dict[int, float]]:
    """By trial, its scores at the epochs of rungs; a trial in staging is known by its own id."""
    if not rungs:
        return {}
    curve = objective.first.curve
    tracked = tracker.curves_of([run.run_id for run in standing.ended], [curve])
    found = {run: {epoch: score for epoch, score in own[curve] if epoch in rungs} for run, own in tracked.items()}
    for trial in standing.staged:
        points = [point for point in read_epochs(trial.run.folder) if point.epoch in rungs]
        found[trial.run.id] = {point.epoch: point.metrics[curve] for point in points}
    return found


def tracked_attempt(run: TrialRun, reports: dict[int, float], objective: Objective) -> Attempt:
    """An attempt that the store knows."""
    return Attempt(
        index=run.number,
        started=run.started,
        values=drawn_values(run),
        state=run.state,
        scores=objective.values(run.metrics) if run.state == COMPLETE else (),
        reports=reports,
        retry=run.tags.get("mmtune.retry") == "True",
        lost=run.tags.get(REASON) in (LOST, ENDED_BY_HAND),
    )


def staged_attempt(run: StagedRun, reports: dict[int, float], objective: Objective) -> Attempt:
    """An attempt in staging, under way or waiting to be brought to the store."""
    result = run.result or Result(state=RUNNING, time=0)
    return Attempt(
        index=run.number,
        started=run.started,
        values=run.values,
        state=result.state,
        scores=objective.values(result.metrics) if result.state == COMPLETE else (),
        reports=reports,
        retry=result.retry,
    )

"""Brings what lies in staging into the store: in batches, in order, and with patience when the store is away.

What is brought twice is there once: a run is looked up by its own id wherever it may have been made before, and metrics
are told apart by name, time, step and value.
"""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from mmtune.base import sqlite
from mmtune.base.bounds import inside
from mmtune.base.errors import GoneError, InputError
from mmtune.tracking.address import sqlite_path
from mmtune.tracking.entities import DataInput
from mmtune.tracking.notes import NOTE, trial_note
from mmtune.tracking.patience import Patience
from mmtune.tracking.runs import FAIL, INTERRUPTED, LOST, OWNER, PARENT, REASON, RUNNING
from mmtune.tracking.tracker import MlflowTracker
from mmtune.train.objective import MACRO_F1, Objective
from mmtune.train.staging import PARTS, Point, Result, StagedRun, now_ms, read_epochs, read_runs

# How long an epoch may wait for others before they go to the store together.
BATCH_SECONDS = 5.0
MANY = 32
REMOVED_AT_ONCE = 32
# The store is analysed when so many runs have ended, and whenever that number has doubled.
FIRST_ANALYSIS = 128
LONGEST_REASON = 5_000


class Tracked(Protocol):
    """A run that the store knows, or will have known when it is asked for."""

    @property
    def run_id(self) -> str: ...


@dataclass(kw_only=True)
class Waiting:
    """What the store has yet to hear of a run. asked: how often it was asked to make it, without an answer."""

    run: StagedRun
    points: list[Point] = field(default_factory=list)
    result: Result | None = None
    params_due: bool = True
    inputs_due: bool = True
    asked: int = 0
    sent: float = 0.0


class Recorder:
    """The runs of one study on their way to the store; `parent` is the study's own run.

    inputs: the data sets that every run is made on. objective: the study's own.
    """

    def __init__(
        self,
        tracker: MlflowTracker,
        experiment: str,
        parent: str,
        patience: Patience,
        inputs: Sequence[DataInput] = (),
        objective: Objective = MACRO_F1,
    ) -> None:
        self.tracker, self.experiment, self.parent, self.inputs = tracker, experiment, parent, inputs
        self.objective = objective
        self.patience = patience
        self.waiting: dict[str, Waiting] = {}
        self.dropped: deque[tuple[Tracked, Sequence[str]]] = deque()
        self.ended = 0

    # ---- what is heard of runs

    def add(self, run: StagedRun) -> None:
        """A run that is to be in the store; a part's trial is added before the part."""
        points, now = read_epochs(run.folder), time.monotonic()
        self.waiting[run.id] = Waiting(run=run, points=points, result=run.result, sent=now)

    def epoch(self, run: StagedRun, point: Point) -> None:
        """A run has an epoch more."""
        self.waiting[run.id].points.append(point)

    def end(self, run: StagedRun, result: Result) -> None:
        """A run has ended."""
        self.waiting[run.id].result = result

    def drop(self, runs: Iterable[Tracked], names: Sequence[str]) -> None:
        """The files of runs are not kept any longer, except where a model of theirs is in use."""
        self.dropped.extend((run, names) for run in runs)

    # ---- bringing it

    def work(self) -> bool:
        """Bring what is due of one run; whether there was any."""
        if not self.patience.due:
            return False
        due = next((own for own in self.waiting.values() if self._is_due(own)), None)
        if due is not None:
            return self.patience.attempt(lambda: self._bring(due))
        return bool(self.dropped) and self.patience.attempt(self._remove)

    def _remove(self) -> None:
        """Remove the files of some runs, except where another study starts from one, which is asked once for all."""
        kept = self.tracker.started_from()
        for _ in range(min(len(self.dropped), REMOVED_AT_ONCE)):
            run, names = self.dropped[0]
            with suppress(GoneError):
                if run.run_id and run.run_id not in kept:
                    self.tracker.remove_files(run.run_id, names)
            self.dropped.popleft()

    def finish(self) -> None:
        """Bring everything; InputError where the store stays away."""
        while any(own.points or own.result or not own.run.run_id for own in self.waiting.values()):
            self.patience.wait()
            for own in list(self.waiting.values()):
                if own.run.id in self.waiting and not self.patience.attempt(partial(self._bring, own, whole=True)):
                    break
        while self.dropped:
            self.patience.insist(self._remove)

    def pause_all(self, runs: Iterable[StagedRun]) -> None:
        """Say in the store that runs are not under way and go on later."""
        for run in runs:
            self._set_state(run, INTERRUPTED)

    def resume(self, run: StagedRun, state: str) -> None:
        """Say in the store that a run is under way again."""
        if state == INTERRUPTED:
            self._set_state(run, RUNNING)

    def _set_state(self, run: StagedRun, state: str) -> None:
        # One that was deleted meanwhile is tracked again when there is more to say of it.
        with suppress(GoneError):
            if run.run_id:
                self.patience.insist(lambda: self.tracker.set_state(run.run_id, state))

    def _is_due(self, own: Waiting) -> bool:
        if own.result is not None or not own.run.run_id:
            return True
        # Longer where many runs would keep the store busy.
        pause = BATCH_SECONDS * max(1.0, len(self.waiting) / MANY)
        return bool(own.points) and time.monotonic() - own.sent >= pause

    def _bring(self, own: Waiting, whole: bool = False) -> None:
        """What is due of a run, or the whole of what is known."""
        self._begin(own)
        try:
            if own.inputs_due and self.inputs:
                self.tracker.add_inputs(own.run.run_id, self.inputs)
            own.inputs_due = False
            if own.result is not None:
                self._end(own, own.result)
            elif whole or self._is_due(own):
                self._send(own)
        except GoneError:
            gone = f"the run of {own.run.name} was deleted while it was under way"
            self.patience.say(f"{gone}: it is tracked again as a new one")
            own.run.run_id, own.points, own.params_due = "", read_epochs(own.run.folder), True

    def _begin(self, own: Waiting) -> None:
        """Make a run, after the trial that it is a part of. InputError where there is no experiment any more."""
        run = own.run
        if run.parent:
            self._begin(self.waiting[run.parent])
        if run.run_id:
            return
        found = self.tracker.find(run.id) if own.asked else []
        if found:
            run.run_id = found[0].run_id
        else:
            own.asked += 1
            run.run_id = self._make(run)
        own.inputs_due = True
        run.write()

    def _make(self, run: StagedRun) -> str:
        """A new run, of which the parts of an earlier one that was deleted are parts from now on."""
        try:
            made = self.tracker.begin(self.experiment, run.name, run.started, self._tags(run))
        except GoneError as error:
            raise InputError(f"the experiment of {run.name} must be there, it is not: {error}") from error
        for part in read_runs(run.folder / PARTS):
            if part.run_id:
                with suppress(GoneError):
                    self.tracker.log(part.run_id, tags={PARENT: made})
        return made

    def _tags(self, run: StagedRun) -> dict[str, str]:
        own = {**run.tags, NOTE: trial_note(run, self.objective), "mmtune.id": run.id}
        if not run.parent:
            return {**own, "mmtune.kind": "trial", PARENT: self.parent}
        trial = self.waiting[run.parent].run
        return {**own, "mmtune.kind": "part", PARENT: trial.run_id, OWNER: self.parent}

    def _send(self, own: Waiting) -> None:
        points = list(own.points)
        self.tracker.log(own.run.run_id, points, own.run.params if own.params_due else {})
        del own.points[: len(points)]
        own.params_due, own.sent = False, time.monotonic()

    def _end(self, own: Waiting, result: Result) -> None:
        """Everything, and then that it has ended: a run that has ended has everything."""
        run = own.run
        for part in [other for other in self.waiting.values() if other.run.parent == run.id]:
            self._bring(part, whole=True)
        if any(other.run.parent == run.id for other in self.waiting.values()):
            # One was deleted and is tracked again, which is yet to be brought.
            return
        files = inside(run.folder, result.files) if result.files else None
        if files is not None and files.is_dir():
            self.tracker.add_files(run.run_id, files)
        last = Point(epoch=int(result.metrics.get("epoch_at_best", 0)), time=result.time, metrics=result.metrics)
        why = {REASON: result.reason[:LONGEST_REASON], "mmtune.retry": str(result.retry)}
        points, params = [*own.points, last], run.params if own.params_due else {}
        tags = {**result.tags, NOTE: trial_note(run, self.objective, result)}
        self.tracker.log(run.run_id, points, params, {**tags, **(why if result.reason else {})})
        if own.asked > 1:
            self._remove_doubles(run)
        self.tracker.end(run.run_id, result.state, result.time)
        sqlite.secure(sqlite_path(self.tracker.uri))
        del self.waiting[run.id]
        if not run.parent:
            # Its parts lie in it, and have been brought before.
            shutil.rmtree(run.folder, ignore_errors=True)
        self.ended += 1
        if self.ended >= FIRST_ANALYSIS and self.ended.bit_count() == 1:
            sqlite.analyse(sqlite_path(self.tracker.uri))

    def _remove_doubles(self, run: StagedRun) -> None:
        """Delete what a request that came late has made of a run; where that is not allowed, it has at least ended."""
        for double in self.tracker.find(run.id):
            if double.run_id != run.run_id:
                self.tracker.log(double.run_id, tags={REASON: LOST})
                self.tracker.end(double.run_id, FAIL, now_ms())
                with suppress(InputError, GoneError):
                    self.tracker.discard(double.run_id)

"""The one process that asks and tells, writes the tracked runs, and drives the workers.

Every write about a trial goes to the tracker first and to the search last: whatever ended in the search is
in the tracker whole, and whatever did not is settled when the study is resumed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mmtune.config import StudyKey, TrialConfig, flatten, replace_paths
from mmtune.pool import Died, Done, Epoch, Event, Failed, Job, Ready
from mmtune.progress import Progress
from mmtune.provenance import now
from mmtune.search import Attempt, Given, Search, closed, derive_seed, drawn_values, make_sampler
from mmtune.space import Value
from mmtune.tracking import COMPLETE, FAIL, INTERRUPTED, OBJECTIVE, PRUNED, RUNNING, MlflowTracker, TrialRun


class Pool(Protocol):
    """What trains: processes on this machine, or anything else that keeps to this."""

    @property
    def idle(self) -> int: ...
    def submit(self, job: Job) -> None: ...
    def answer(self, number: int, go_on: bool) -> None: ...
    def events(self, timeout: float) -> Iterable[Event]: ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study that is ready to run.

    base: the configuration that draws are put into. grid: every combination in order, () for other samplers.
    trials: the size of the study. encoders: by modality, the folder of a trained model, and its run.
    tags: what every run of the study says of its making.
    """

    key: StudyKey
    base: TrialConfig
    grid: tuple[Mapping[str, Value], ...]
    trials: int
    encoders: Mapping[str, Path]
    encoder_runs: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(kw_only=True)
class Live:
    """A trial under way: its run and its folder."""

    run_id: str
    folder: Path


def reconcile(search: Search, tracker: MlflowTracker, parent: str) -> list[TrialRun]:
    """Settle what a dead coordinator left: no attempt and no run stays RUNNING; returns the runs as it found them.

    An attempt whose run had ended counts as it ended, and is not repeated.
    """
    runs = {run.run_id: run for run in tracker.trials(parent)}
    for attempt in search.attempts():
        if attempt.state == RUNNING:
            settle(search, attempt, runs.get(attempt.run_id))
    for run in runs.values():
        if run.state == RUNNING:
            tracker.end_trial(run.run_id, FAIL, {}, reason=INTERRUPTED)
        elif run.status == RUNNING:
            tracker.close_run(run)
    return list(runs.values())


def settle(search: Search, attempt: Attempt, run: TrialRun | None) -> None:
    """End one stale attempt by what its run says."""
    if run is not None and run.state in (COMPLETE, PRUNED):
        search.settle(attempt.id, run.state, run.metrics.get(OBJECTIVE))
    elif run is not None and run.state == FAIL and run.tags.get("mmtune.reason") != INTERRUPTED:
        search.settle(attempt.id, FAIL, None, retry=run.tags.get("mmtune.retry") == "True")
    else:
        search.settle(attempt.id, FAIL, None, interrupted=True)


class Coordinator:
    """Runs the missing trials of a plan on a pool until none is left or `stop()` says so."""

    def __init__(
        self,
        plan: Plan,
        search: Search,
        tracker: MlflowTracker,
        parent: str,
        pool: Pool,
        progress: Progress,
        staging: Path,
        missing: Mapping[int, Mapping[str, Value]],
    ) -> None:
        self.plan, self.search, self.tracker, self.parent = plan, search, tracker, parent
        self.pool, self.progress, self.staging = pool, progress, staging
        self.live: dict[int, Live] = {}
        self.open = dict(missing)

    def run(self, stop: Callable[[], bool]) -> None:
        """Until every index is closed, or `stop()`; then whatever is under way is ended as interrupted."""
        try:
            while (self.open or self.live) and not stop():
                self._fill()
                for event in self.pool.events(timeout=0.5):
                    self._handle(event)
        finally:
            for number in list(self.live):
                self._end_failed(number, INTERRUPTED, interrupted=True)

    def _fill(self) -> None:
        while self.open and self.pool.idle:
            index = next(iter(self.open))
            self._launch(index, self.open.pop(index))

    def _launch(self, index: int, earlier: Mapping[str, Value]) -> None:
        seed = derive_seed(self.plan.key.seed, index)
        given = earlier or (self.plan.grid[index] if self.plan.grid else {})
        sampler_seed = derive_seed(self.plan.key.seed, index, 1)
        settled = bool(given or self.plan.grid)
        sampler = Given(given) if settled else make_sampler(self.plan.key.sampler, sampler_seed)
        values = self.search.ask(index, sampler)
        name = trial_name(index, values)
        config = replace_paths(self.plan.base, values)
        tags = {**self.plan.tags, "mmtune.seed": str(seed), "mmtune.started": now()}
        params = flatten(config) | {f"encoder.{m}": run for m, run in self.plan.encoder_runs.items()}
        run_id = self.tracker.start_trial(self.parent, index, name, params, tags)
        self.search.attach(index, run_id)
        folder = self.staging / f"{index}"
        shutil.rmtree(folder, ignore_errors=True)
        self.live[index] = Live(run_id=run_id, folder=folder)
        self.progress.begin(index, name)
        rungs = self.search.rungs
        job = Job(number=index, config=config, seed=seed, folder=folder, rungs=rungs, encoders=self.plan.encoders)
        self.pool.submit(job)

    def _handle(self, event: Event) -> None:
        match event:
            case Epoch():
                self._epoch(event)
            case Done():
                self._done(event)
            case Failed():
                self._fail(event.number, event.reason, retry=event.retry)
            case Died():
                self._fail(event.number, event.reason, retry=True)
            case Ready():
                pass

    def _epoch(self, event: Epoch) -> None:
        self.tracker.log_epoch(self.live[event.number].run_id, event.epoch, event.metrics)
        self.progress.advance(event.number, event.epoch, event.metrics)
        if event.epoch in self.search.rungs:
            go_on = self.search.report(event.number, event.epoch, event.metrics["val_macro_f1"])
            self.pool.answer(event.number, go_on)

    def _done(self, event: Done) -> None:
        live = self.live.pop(event.number)
        state, score = PRUNED if event.pruned else COMPLETE, event.metrics[OBJECTIVE]
        self.tracker.end_trial(live.run_id, state, event.metrics, live.folder)
        self.search.tell(event.number, state, score)
        shutil.rmtree(live.folder, ignore_errors=True)
        self.progress.finish(event.number, state, score)

    def _fail(self, number: int, reason: str, retry: bool) -> None:
        self._end_failed(number, reason, retry=retry)
        self.progress.finish(number, FAIL, None, reason)
        attempts = [attempt for attempt in self.search.attempts() if attempt.index == number]
        if not closed(attempts):
            self.open = dict(sorted([*self.open.items(), (number, drawn_values(attempts))]))

    def _end_failed(self, number: int, reason: str, retry: bool = False, interrupted: bool = False) -> None:
        live = self.live.pop(number)
        folder = live.folder if (live.folder / "error.txt").exists() else None
        self.tracker.end_trial(live.run_id, FAIL, {}, folder, reason, retry=retry)
        self.search.tell(number, FAIL, None, interrupted=interrupted, retry=retry)
        shutil.rmtree(live.folder, ignore_errors=True)


def trial_name(index: int, values: Mapping[str, Value]) -> str:
    """A trial in a few words: its number and what was drawn for it."""
    drawn = [f"{path.rpartition('.')[2]}={show(value)}" for path, value in values.items()]
    return " ".join([f"{index:02d}", *drawn])


def show(value: Value) -> str:
    """A value with four significant digits at most."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)

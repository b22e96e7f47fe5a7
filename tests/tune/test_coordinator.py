"""In what order the coordinator does what many workers ask of it at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest
from rich.console import Console
from tracked import OBJECTIVE

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.pool.worker import Died, Done, Epoch, Event, Failed, Job, WorkerSpec
from mmtune.study import load_study
from mmtune.study.options import Options
from mmtune.tracking import COMPLETE, INTERRUPTED, MlflowTracker
from mmtune.train.staging import Point, Result, append_epoch, now_ms, read_epochs, write_result
from mmtune.tune.run import run_study

CROWD, EPOCHS = 80, 9


@dataclass(kw_only=True)
class Crowd:
    """All workers but one end together, whatever their job; that one then asks whether to go on.

    given: jobs by number. asked, answered: how many jobs had been given out when that one asked, and was answered.
    """

    spec: WorkerSpec
    count: int
    given: dict[int, Job] = field(default_factory=dict)
    busy: dict[int, Job] = field(default_factory=dict)
    asked: int = 0
    answered: int = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    @property
    def idle(self) -> int:
        return self.count - len(self.busy)

    def narrow(self) -> int:
        return self.count

    def submit(self, job: Job) -> None:
        self.given[job.number] = self.busy[job.number] = job

    def answer(self, number: int, go_on: bool) -> None:
        self.answered = len(self.given)

    def events(self, timeout: float) -> Iterator[Event]:
        if self.idle and not self.asked:
            return
        if self.asked and not self.answered:
            yield Epoch(
                number=0, point=Point(epoch=min(self.busy[0].rungs), time=now_ms(), metrics={"val_macro_f1": 0.5})
            )
            return
        ending = [number for number in self.busy if number or self.answered]
        self.asked = self.asked or len(self.given)
        for number in ending:
            yield done(self.busy.pop(number))


def done(job: Job) -> Done:
    """A job has left its result."""
    write_result(job.folder, Result(state=COMPLETE, time=now_ms(), metrics={OBJECTIVE: 0.5, "epoch_at_best": 1.0}))
    return Done(number=job.number)


@pytest.mark.slow
def test_a_worker_that_waits_for_an_answer_does_not_wait_for_all_that_have_ended(tiny: Dataset, store: Path) -> None:
    pools: list[Crowd] = []

    def make_pool(spec: WorkerSpec, count: int) -> Crowd:
        pools.append(Crowd(spec=spec, count=count))
        return pools[-1]

    options = Options(sampler="random", trials=3 * CROWD, epochs=EPOCHS, workers=CROWD, device="cpu")
    outcome = run_study(load_study("audio_rnn"), tiny, options, store, Console(quiet=True), make_pool=make_pool)
    assert outcome is not None
    assert outcome.finished
    (pool,) = pools
    assert pool.asked == CROWD
    assert pool.answered < CROWD + CROWD // 2
    assert len(pool.given) == 3 * CROWD
    tracker = MlflowTracker(store)
    assert tracker.tally(tracker.studies()[0].run_id) == {COMPLETE: 3 * CROWD}


@dataclass(kw_only=True)
class Unlucky(Crowd):
    """All end together, and first of all one whose disk is full."""

    def events(self, timeout: float) -> Iterator[Event]:
        if self.idle:
            return
        yield Failed(number=0, reason="OSError", retry=False, storage="No space left on device")
        for number in list(self.busy)[1:]:
            yield done(self.busy.pop(number))


def test_what_has_ended_beside_a_full_disk_has_ended(tiny: Dataset, store: Path) -> None:
    options = Options(sampler="random", trials=4, epochs=EPOCHS, workers=4, device="cpu")
    with pytest.raises(InputError, match="No space left on device"):
        run_study(
            load_study("audio_rnn"),
            tiny,
            options,
            store,
            Console(quiet=True),
            make_pool=lambda spec, count: Unlucky(spec=spec, count=count),
        )
    tracker = MlflowTracker(store)
    assert tracker.tally(tracker.studies()[0].run_id) == {COMPLETE: 3, INTERRUPTED: 1}


@dataclass(kw_only=True)
class Borrowed(Crowd):
    """Workers that are taken away under every job, after as many epochs as `made` says, until those are all made.

    Of the last one before each end nobody is told.
    folders: where jobs were sent, in order.
    """

    made: int
    folders: list[Path] = field(default_factory=list)

    def submit(self, job: Job) -> None:
        super().submit(job)
        self.folders.append(job.folder)

    def events(self, timeout: float) -> Iterator[Event]:
        for number, job in list(self.busy.items()):
            before = len(read_epochs(job.folder))
            ending = before + self.made >= EPOCHS
            for epoch in range(before + 1, before + 1 + self.made):
                point = Point(epoch=epoch, time=now_ms(), metrics={"val_macro_f1": 0.5})
                append_epoch(job.folder, point)
                if ending or epoch < before + self.made:
                    yield Epoch(number=number, point=point)
            del self.busy[number]
            if ending:
                yield done(job)
            else:
                yield Died(number=number, reason="job 7 reached its time limit", lost=True)


@pytest.mark.parametrize(("folds", "trainings"), [(0, 2), (3, 6)])
def test_a_worker_that_is_taken_away_costs_no_attempt(tiny: Dataset, store: Path, folds: int, trainings: int) -> None:
    pools: list[Borrowed] = []

    def make_pool(spec: WorkerSpec, count: int) -> Borrowed:
        pools.append(Borrowed(spec=spec, count=count, made=2))
        return pools[-1]

    options = Options(sampler="random", trials=2, epochs=EPOCHS, workers=2, device="cpu", folds=folds, prune=False)
    outcome = run_study(load_study("audio_rnn"), tiny, options, store, Console(quiet=True), make_pool=make_pool)
    assert outcome is not None
    assert (outcome.finished, outcome.failed) == (True, 0)
    (pool,) = pools
    # Five workers each, for nine epochs by twos, in the one folder of each training.
    assert len(pool.folders) == 5 * trainings
    assert len(set(pool.folders)) == trainings
    tracker = MlflowTracker(store)
    parent = tracker.studies()[0].run_id
    assert tracker.tally(parent) == {COMPLETE: 2}
    for one in tracker.parts(parent) if folds else tracker.trials(parent):
        assert [epoch for epoch, _ in tracker.curves(one.run_id, ("val_macro_f1",))["val_macro_f1"]] == list(
            range(1, 11)
        )


def test_one_that_no_worker_is_given_time_for_fails_in_the_end(tiny: Dataset, store: Path) -> None:
    options = Options(sampler="random", trials=1, epochs=EPOCHS, workers=1, device="cpu", prune=False)
    pool = Borrowed(spec=WorkerSpec(data=tiny.folder, splits=(), device="cpu", classes=10), count=1, made=0)
    outcome = run_study(
        load_study("audio_rnn"), tiny, options, store, Console(quiet=True), make_pool=lambda spec, count: pool
    )
    assert outcome is not None
    assert (outcome.finished, outcome.failed) == (True, 1)
    tracker = MlflowTracker(store)
    reason = "job 7 reached its time limit, as before, and no epoch was done between"
    assert [trial.tags["mmtune.reason"] for trial in tracker.trials(tracker.studies()[0].run_id)] == [reason] * 2
    assert len(pool.folders) == 4

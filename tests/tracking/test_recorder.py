"""What lies in staging arrives in the store once, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import ViewType
from tracked import OBJECTIVE

from mmtune.base.errors import AwayError, InputError
from mmtune.study import StudyKey
from mmtune.tracking import INTERRUPTED, OWNER, PARENT, DataInput, MlflowTracker, Recorder
from mmtune.tracking import patience as patience_module
from mmtune.tracking import recorder as module
from mmtune.tracking.patience import LONGEST_PAUSE, Patience
from mmtune.tracking.recorder import BATCH_SECONDS
from mmtune.train.staging import (
    FILES,
    PARTS,
    Point,
    Result,
    StagedRun,
    append_epoch,
    read_epochs,
    read_runs,
    write_result,
)

KEY = StudyKey(
    study="audio_rnn", data="tiny", digest="0" * 64, protocol="clip_disjoint", seed=0, epochs=3, sampler="grid"
)
SEEDS = count()
DATA = DataInput(name="tiny", digest="0" * 64, source="/data", rows=3, use="train", columns={"image": "binary"})
FIRST = 1_767_225_600_000
EVERY = pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
"""Of the requests that fail one after another, every one or every fourth."""


class Killed(BaseException):
    """The process ends here, whatever it was about to do."""


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now, self.pauses = 1_000.0, list[float]()

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for timed in (module, patience_module):
        monkeypatch.setattr(timed, "time", made)
    return made


class Client:
    """MLflow's client, which notes its calls; the one of a number fails, before or after it has been done."""

    def __init__(self, client: Any, at: int = 0, done: bool = False, error: BaseException | None = None) -> None:
        self.client, self.at, self.done, self.error = client, at, done, error
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            self.calls.append(name)
            fails = len(self.calls) == self.at and self.error is not None
            if fails and not self.done:
                raise self.error
            answer = getattr(self.client, name)(*given, **named)
            if fails:
                raise self.error
            return answer

        return call


@dataclass
class Study:
    """A study in a store of its own or in one that others share, and its staging folder."""

    tracker: MlflowTracker
    staging: Path
    parent: str
    said: list[str] = field(default_factory=list)

    def recorder(self, patience: float = 100.0) -> Recorder:
        experiment = self.tracker.experiment(KEY.study)
        waiting = Patience(self.tracker, patience, self.said.append)
        return Recorder(self.tracker, experiment, self.parent, waiting, [DATA])

    def stage(self, number: int, name: str = "", trial: StagedRun | None = None) -> StagedRun:
        folder = (self.staging if trial is None else trial.folder / PARTS) / f"{number:05d}"
        made = StagedRun(
            id=f"{self.parent}-{name or number}",
            number=number,
            name=name or f"{number:02d}",
            started=FIRST + number,
            folder=folder,
            params={"model.hidden": 320, "train.lr": 1e-4},
            tags={"mmtune.number": str(number), "mmtune.params": "{}", "mmtune.seed": "7"},
            values={"model.hidden": 320},
            parent="" if trial is None else trial.id,
        )
        made.write()
        return made

    def runs(self, deleted: bool = False) -> list[Any]:
        """The runs of the study in the store."""
        client, view = self.tracker.client, ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
        experiments = [self.tracker.experiment(KEY.study)]
        asked = (f"tags.`{tag}` = '{self.parent}'" for tag in (PARENT, OWNER))
        return [run for condition in asked for run in client.search_runs(experiments, condition, view)]

    def contents(self) -> list[Any]:
        """All that the store has of the study's runs, but for what every run has of its own."""
        runs = self.runs()
        names = {run.info.run_id: run.info.run_name for run in runs} | {self.parent: "study"}
        return sorted((self._content(run, names) for run in runs), key=lambda own: own[0])

    def _content(self, run: Any, names: dict[str, str]) -> list[Any]:
        client, info = self.tracker.client, run.info
        history = [metric for name in run.data.metrics for metric in client.get_metric_history(info.run_id, name)]
        tags = {name: names.get(value, value).replace(self.parent, "") for name, value in run.data.tags.items()}
        folder = self.tracker.artifact(info.run_id, "")
        return [
            info.run_name,
            (info.status, info.start_time, info.end_time),
            sorted((metric.key, metric.step, metric.timestamp, metric.value) for metric in history),
            (run.data.metrics, run.data.params, tags),
            [(own.dataset.name, own.dataset.digest, own.tags[0].value) for own in run.inputs.dataset_inputs],
            sorted((path.name, path.read_bytes()) for path in folder.rglob("*") if path.is_file()),
        ]


@pytest.fixture
def make_study(any_store: Path) -> Iterator[Callable[[], Study]]:
    tracker = MlflowTracker(any_store)

    def make() -> Study:
        key = replace(KEY, seed=next(SEEDS))
        return Study(tracker, any_store / "staging" / key.slug, tracker.open_study(key, {}))

    return make


@pytest.fixture
def study(make_study: Callable[[], Study]) -> Study:
    return make_study()


def points(epochs: int, first: int = 1) -> list[Point]:
    return [
        Point(epoch=n, time=FIRST + 10 * n, metrics={"val_loss": 1 / n, OBJECTIVE: n / 10, "odd": float("nan")})
        for n in range(first, first + epochs)
    ]


def train(run: StagedRun, epochs: int, recorder: Recorder | None = None) -> None:
    """Leave epochs as a worker does, and let a recorder hear of them."""
    for point in points(epochs, len(read_epochs(run.folder)) + 1):
        append_epoch(run.folder, point)
        if recorder is not None:
            recorder.epoch(run, point)


def end(run: StagedRun, recorder: Recorder | None = None, state: str = "COMPLETE", reason: str = "") -> None:
    """Leave files and a result as a worker does, and let a recorder hear of it."""
    (run.folder / FILES / "model").mkdir(parents=True, exist_ok=True)
    (run.folder / FILES / "model" / "weights").write_bytes(run.name.encode())
    metrics = {} if reason else {OBJECTIVE: 0.5, "epoch_at_best": 2.0}
    result = Result(state=state, time=FIRST + 1_000, metrics=metrics, reason=reason, tags={"late": "é"})
    write_result(run.folder, result)
    if recorder is not None:
        recorder.end(run, result)


# ---- batches


def test_a_short_run_is_three_requests(study: Study, clock: Clock) -> None:
    recorder, client = study.recorder(), Client(study.tracker.client)
    vars(study.tracker)["client"] = client
    run = study.stage(0)
    recorder.add(run)
    while recorder.work():
        pass
    train(run, 20, recorder)
    assert not recorder.work()
    end(run, recorder)
    while recorder.work():
        pass
    assert [name for name in client.calls if name not in ("log_inputs", "log_artifacts")] == [
        "create_run", "log_batch", "set_terminated",
    ]  # fmt: skip
    assert study.tracker.curves(run.run_id, ("val_loss",)) == {"val_loss": [(n, 1 / n) for n in range(1, 21)]}
    assert not run.folder.exists()


def test_epochs_wait_for_others_and_no_longer_than_said(study: Study, clock: Clock) -> None:
    recorder = study.recorder()
    run = study.stage(0)
    recorder.add(run)
    assert recorder.work()
    train(run, 2, recorder)
    clock.now += BATCH_SECONDS - 0.1
    assert not recorder.work()
    assert study.tracker.curves(run.run_id, ("val_loss",)) == {"val_loss": []}
    clock.now += 0.1
    assert recorder.work()
    assert study.tracker.curves(run.run_id, ("val_loss",)) == {"val_loss": [(1, 1.0), (2, 0.5)]}
    assert study.tracker.client.get_run(run.run_id).data.params == {"model.hidden": "320", "train.lr": "0.0001"}
    train(run, 1, recorder)
    assert not recorder.work()
    clock.now += BATCH_SECONDS
    assert recorder.work()
    assert not recorder.work()
    assert len(study.tracker.curves(run.run_id, ("val_loss",))["val_loss"]) == 3


def test_a_failed_run_says_why_and_a_paused_one_goes_on(study: Study) -> None:
    recorder = study.recorder()
    failed, paused = study.stage(0), study.stage(1)
    for run in (failed, paused):
        recorder.add(run)
    end(failed, recorder, state="FAIL", reason="it\nbroke" + "x" * 9_000)
    train(paused, 1, recorder)
    recorder.finish()
    recorder.pause_all([paused])
    found = {run.info.run_name: run for run in study.runs()}
    assert (found["00"].info.status, found["01"].info.status) == ("FAILED", "SCHEDULED")
    assert found["00"].data.tags["mmtune.reason"].startswith("it\nbroke")
    assert found["00"].data.tags["mmtune.retry"] == "False"
    again = study.recorder()
    (left,) = read_runs(study.staging)
    again.add(left)
    again.resume(left, INTERRUPTED)
    assert study.tracker.client.get_run(left.run_id).info.status == "RUNNING"


def test_a_store_that_grows_is_analysed(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_ANALYSIS", 2)
    asked: list[int] = []
    monkeypatch.setattr(module.sqlite, "analyse", lambda path: asked.append(recorder.ended))
    recorder = study.recorder()
    for number in range(5):
        run = study.stage(number)
        recorder.add(run)
        end(run, recorder)
        recorder.finish()
    assert asked == [2, 4]


# ---- once, whatever happens


def whole(study: Study, recorder: Recorder) -> None:
    """Two trials, one of them of two parts, from what is in staging to their end; may be called again."""
    trials = read_runs(study.staging)
    runs = [run for trial in trials for run in (trial, *read_runs(trial.folder / PARTS))]
    live = [run for run in reversed(runs) if run.result is None]
    for run in runs:
        run.run_id = next((found.run_id for found in study.tracker.find(run.id)), "")
        recorder.add(run)
    recorder.finish()
    for run in live:
        train(run, 4 - len(read_epochs(run.folder)), recorder)
    recorder.finish()
    for run in live:
        end(run, recorder)
    recorder.finish()


def staged(study: Study) -> Study:
    """The same two trials as they are in staging before the store has heard of them."""
    plain, divided = study.stage(0), study.stage(1)
    for run in (plain, *(study.stage(n, f"01 fold {n}", divided) for n in (0, 1))):
        train(run, 2)
    return study


def expected(make_study: Callable[[], Study]) -> tuple[list[Any], int]:
    study = staged(make_study())
    client = study.tracker.client
    vars(study.tracker)["client"] = noting = Client(client)
    whole(study, study.recorder())
    vars(study.tracker)["client"] = client
    assert not list(study.staging.glob("*"))
    assert [run[0] for run in study.contents()] == ["00", "01", "01 fold 0", "01 fold 1"]
    return study.contents(), len(noting.calls)


@EVERY
@pytest.mark.parametrize("done", [False, True])
def test_a_kill_between_any_two_requests_leaves_what_a_fresh_recorder_ends_as_if_nothing_had_been(
    make_study: Callable[[], Study], every: int, done: bool
) -> None:
    undisturbed, calls = expected(make_study)
    assert calls > 15
    for at in range(1 + int(done), calls + 1, every):
        study = staged(make_study())
        client = study.tracker.client
        vars(study.tracker)["client"] = Client(client, at, done, Killed())
        try:
            with pytest.raises(Killed):
                whole(study, study.recorder())
        finally:
            vars(study.tracker)["client"] = client
        whole(study, study.recorder())
        assert study.contents() == undisturbed, at
        assert not list(study.staging.glob("*"))


@EVERY
def test_an_answer_that_is_lost_on_its_way_is_asked_for_again(
    make_study: Callable[[], Study], every: int, clock: Clock
) -> None:
    undisturbed, calls = expected(make_study)
    for at in range(1, calls + 1, every):
        study = staged(make_study())
        client = study.tracker.client
        vars(study.tracker)["client"] = Client(client, at, True, AwayError("the store", "cut off"))
        try:
            whole(study, study.recorder())
        finally:
            vars(study.tracker)["client"] = client
        assert study.contents() == undisturbed, at
        assert len(study.said) == 2
        assert study.said[0].endswith(
            f"does not answer (cut off): what is trained waits in {study.tracker.root / 'staging'}"
        )
        assert study.said[1].endswith("is back")


# ---- patience


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def away(study: Study, monkeypatch: pytest.MonkeyPatch, until: Callable[[], bool]) -> None:
    real = study.tracker.begin

    def begin(*given: Any) -> str:
        if not until():
            raise AwayError("the store", "no route")
        return real(*given)

    monkeypatch.setattr(study.tracker, "begin", begin)


def test_a_store_that_is_away_for_less_than_the_patience_costs_a_line(
    study: Study, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = study.recorder(patience=100)
    back = clock.now + 95
    away(study, monkeypatch, lambda: clock.now >= back)
    run = study.stage(0)
    recorder.add(run)
    end(run, recorder)
    assert not recorder.work()
    # While it is away, nobody waits for it.
    assert not recorder.work()
    assert clock.pauses == []
    recorder.finish()
    assert study.said == [
        f"{study.tracker.name} does not answer (no route): what is trained waits in {study.tracker.root / 'staging'}",
        f"{study.tracker.name} is back",
    ]
    assert max(clock.pauses) <= LONGEST_PAUSE
    assert len(study.runs()) == 1


@pytest.mark.parametrize("patience", [100.0, 0.0])
def test_a_store_that_stays_away_ends_patience_and_leaves_staging_whole(
    study: Study, clock: Clock, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    recorder, began = study.recorder(patience), clock.now
    away(study, monkeypatch, lambda: False)
    run = study.stage(0)
    recorder.add(run)
    train(run, 2, recorder)
    end(run, recorder)
    before = snapshot(study.staging)
    with pytest.raises(InputError, match=rf"has not answered for {patience:g} s: no route; what is trained waits in"):
        recorder.finish()
    assert clock.now - began >= patience
    assert len(study.said) == 1
    assert snapshot(study.staging) == before
    monkeypatch.undo()
    whole(study, study.recorder())
    assert len(study.runs()) == 1


# ---- what a hand deletes


def histories(study: Study, runs: Sequence[StagedRun]) -> list[int]:
    return [len(study.tracker.curves(run.run_id, ("val_loss",))["val_loss"]) for run in runs]


def test_a_run_that_is_deleted_while_under_way_is_tracked_again_as_a_new_one(study: Study, clock: Clock) -> None:
    recorder = study.recorder()
    run = study.stage(0)
    recorder.add(run)
    train(run, 2, recorder)
    recorder.finish()
    before = run.run_id
    study.tracker.discard(before)
    train(run, 2, recorder)
    end(run, recorder)
    recorder.finish()
    assert len(study.said) == 1
    assert study.said[0].startswith("the run of 00 was deleted while it was under way")
    (found,) = study.runs()
    assert (found.info.run_id, found.info.status) == (run.run_id, "FINISHED")
    assert run.run_id != before
    assert histories(study, [run]) == [4]
    assert found.data.params == {"model.hidden": "320", "train.lr": "0.0001"}
    assert [deleted.info.run_id for deleted in study.runs(deleted=True)] == [before]


def test_parts_of_a_trial_that_is_deleted_are_those_of_the_new_one(study: Study) -> None:
    recorder = study.recorder()
    trial = study.stage(0)
    parts = [study.stage(n, f"00 fold {n}", trial) for n in (0, 1)]
    for run in (trial, *parts):
        recorder.add(run)
    end(parts[0], recorder)
    train(parts[1], 1, recorder)
    recorder.finish()
    study.tracker.discard(trial.run_id)
    late = study.stage(2, "00 fold 2", trial)
    recorder.add(late)
    train(trial, 1, recorder)
    for run in (parts[1], late, trial):
        end(run, recorder)
    recorder.finish()
    found = study.tracker.parts(study.parent)
    assert {part.tags[PARENT] for part in found} == {trial.run_id}
    assert [run.info.run_id for run in study.runs(deleted=True)] != [trial.run_id]
    assert len(found) == 3
    assert {run.info.status for run in study.runs()} == {"FINISHED"}


def test_a_part_that_is_deleted_is_tracked_again_before_its_trial_ends(study: Study) -> None:
    recorder = study.recorder()
    trial = study.stage(0)
    part = study.stage(0, "00 fold 0", trial)
    for run in (trial, part):
        recorder.add(run)
    train(part, 2, recorder)
    recorder.finish()
    study.tracker.discard(part.run_id)
    end(part, recorder)
    end(trial, recorder)
    while recorder.work():
        pass
    assert histories(study, [part]) == [2]
    assert {run.info.status for run in study.runs()} == {"FINISHED"}
    assert not recorder.waiting
    assert not trial.folder.exists()


def test_a_run_that_is_deleted_may_be_paused_and_resumed(study: Study) -> None:
    recorder = study.recorder()
    run = study.stage(0)
    recorder.add(run)
    train(run, 2, recorder)
    recorder.finish()
    study.tracker.discard(run.run_id)
    recorder.pause_all([run])
    recorder.resume(run, INTERRUPTED)
    assert study.said == []


def test_an_experiment_that_is_deleted_ends_the_study_in_words(study: Study) -> None:
    recorder = study.recorder()
    recorder.add(study.stage(0))
    study.tracker.client.delete_experiment(study.tracker.experiment(KEY.study))
    with pytest.raises(InputError, match="the experiment of 00 must be there, it is not"):
        recorder.finish()
    assert study.said == []

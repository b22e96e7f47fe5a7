"""Staging as kills, full disks and hands leave it: gone on with, made again, or refused in a line; never by halves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from checks import check_whole, done_in, states_of
from pretend import DIE, DIE_AFTER_ALL, KILL, KilledError, World

import mmtune.pool.worker
import mmtune.tune.coordinator
from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.study.options import Options
from mmtune.tracking import COMPLETE, FAIL, INTERRUPTED, LOST, MlflowTracker
from mmtune.train import staging
from mmtune.train.staging import CHECKPOINT, EPOCHS, RESULT, RUN, StagedRun, read_runs

TRIALS, LENGTH = 3, 4
KINDS = {"one training a trial": {}, "folds": {"folds": 3}, "pruned": {"sampler": "random", "prune": True}}
SLOW = pytest.mark.slow


@pytest.fixture(params=["one training a trial", pytest.param("folds", marks=SLOW)])
def world(request: pytest.FixtureRequest, tiny: Dataset, store: Path) -> World:
    return made(request.param, tiny, store)


def made(kind: str, tiny: Dataset, store: Path, trials: int = TRIALS, **how: Any) -> World:
    options = Options(trials=trials, epochs=LENGTH, workers=2, device="cpu", **{**KINDS[kind], **how})
    return World(dataset=tiny, store=store, study="audio_rnn", options=options)


def check(world: World, trials: int = TRIALS) -> None:
    """The study is whole, and nothing that had ended was trained again."""
    check_whole(world.store, world.study, trials, LENGTH, pruned=True)
    assert set(world.story.ended.values()) == {1}


def reasons(store: Path, study: str = "audio_rnn") -> set[str]:
    """Why attempts failed."""
    client = MlflowTracker(store).client
    failed = [run_id for run_id, state in states_of(store, study).items() if state == FAIL]
    return {client.get_run(run_id).data.tags["mmtune.reason"] for run_id in failed}


@pytest.mark.parametrize("kind", ["folds", *(pytest.param(k, marks=SLOW) for k in KINDS if k != "folds")])
def test_killed_again_and_again_it_trains_few_epochs_twice_and_ends_nothing_twice(
    kind: str, tiny: Dataset, store: Path
) -> None:
    world = made(kind, tiny, store)
    turns, kills = 0, 0

    def fault(job: object, epoch: int) -> str:
        nonlocal turns
        turns += 1
        return KILL if turns % 4 == 0 else ""

    world.story.fault = fault
    while True:
        try:
            world.call()
            break
        except KilledError:
            kills += 1
    assert kills > 2
    check(world)
    # Two side by side, each of which has a checkpoint of every epoch but those that are compared.
    assert world.story.trained_again() <= 2 * kills
    assert FAIL not in states_of(store).values()


# ---- a death between any two writes

TRACKER = ("begin", "log", "end", "add_files", "set_state", "add_inputs", "end_study")


class Deadly:
    """Counts writes, and dies before the one of a number."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left, self.seen = 0, 0
        for name in TRACKER:
            patch.setattr(MlflowTracker, name, self.around(getattr(MlflowTracker, name)))
        patch.setattr(StagedRun, "write", self.around(StagedRun.write))
        for name in ("write_result", "hand_on", "append_epoch"):
            deadly = self.around(getattr(staging, name))
            patch.setattr(mmtune.tune.trials, name, deadly)
        patch.setattr(shutil, "rmtree", self.around(shutil.rmtree))

    def around(self, write: Callable[..., Any]) -> Callable[..., Any]:
        def deadly(*args: Any, **kwargs: Any) -> Any:
            self.seen += 1
            if self.seen == self.left:
                raise KilledError
            return write(*args, **kwargs)

        return deadly


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> Iterator[Deadly]:
    return Deadly(monkeypatch)  # type: ignore[return-value]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=SLOW) for kind in KINDS])
def test_a_death_between_any_two_writes_loses_and_doubles_nothing(
    kind: str, tiny: Dataset, tmp_path: Path, store_template: Path, deadly: Deadly
) -> None:
    """Also of a second call, which goes on from there, and where a worker has died before."""
    for number in range(1, 1000, 3 if kind == "folds" else 1):
        store = Path(shutil.copytree(store_template, tmp_path / f"{number}"))
        world = made(kind, tiny, store, trials=2)
        world.story.fault = lambda job, epoch: DIE if (job.number, epoch) == (0, 3) else ""
        deaths = 0
        for left in (number, number // 2):
            deadly.seen, deadly.left = 0, left
            try:
                world.call()
                break
            except KilledError:
                deaths += 1
        deadly.left = 0
        world.call()
        check(world, 2)
        assert reasons(store) <= {"it died"}
        if not deaths:
            return
        shutil.rmtree(store)
    raise AssertionError("there is no end of writes")


# ---- what has ended


@pytest.mark.parametrize("what", ["run", "parts"])
def test_what_has_its_result_in_staging_and_no_run_is_delivered_and_not_trained_again(
    world: World, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object) -> None:
        raise KilledError

    monkeypatch.setattr(MlflowTracker, "add_files" if what == "run" else "end", away)
    with pytest.raises(KilledError):
        world.call()
    monkeypatch.undo()
    ended = [run for folder in world.folders for run in (*read_runs(folder.parent), *read_runs(folder / "parts"))]
    assert [run for run in ended if run.result]
    tracker = MlflowTracker(world.store)
    for run_id in states_of(world.store):
        tracker.discard(run_id)
    world.call()
    check(world)


def test_a_worker_that_dies_after_its_result_has_finished(world: World) -> None:
    world.killed_at(LENGTH + 1, 0, DIE_AFTER_ALL)
    check(world)
    assert FAIL not in states_of(world.store).values()


def test_a_retry_goes_on_from_the_checkpoint_also_if_the_coordinator_dies_before_a_worker_is_free(
    world: World,
) -> None:
    turns = 0

    def fault(job: Any, epoch: int) -> str:
        nonlocal turns
        turns += (0, 3) in world.story.asked and job.number != 0
        return DIE if (job.number, epoch) == (0, 3) else KILL if turns == 2 else ""

    world.story.fault = fault
    with pytest.raises(KilledError):
        world.call()
    world.story.fault = lambda job, epoch: ""
    world.call()
    check(world)
    assert reasons(world.store) == {"it died"}
    assert (0, 3) in world.story.epochs
    assert world.story.epochs.count((0, 1)) == world.story.epochs.count((0, 2)) == 1


def test_a_trial_that_is_given_up_leaves_nothing_in_staging(world: World) -> None:
    world.story.fault = lambda job, epoch: DIE if job.number == 0 and epoch in (2, 3) else ""
    outcome = world.call()
    assert outcome is not None
    assert (outcome.finished, outcome.failed) == (True, 1)
    assert not list((world.store / "staging").glob("*"))
    assert reasons(world.store) == {"it died"}
    assert [epoch for number, epoch in world.story.epochs if number == 0] == [1, 2]
    before = states_of(world.store)
    world.call()
    assert "started" not in world.said
    assert states_of(world.store) == before


def test_a_reader_that_goes_away_as_a_trial_ends_makes_no_waiting_run_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*args: object, **kwargs: object) -> None:
        raise BrokenPipeError

    with monkeypatch.context() as patch:
        patch.setattr(mmtune.tune.coordinator.Progress, "finish", gone)
        with pytest.raises(BrokenPipeError):
            world.call()
    states = states_of(world.store)
    assert set(states.values()) <= {COMPLETE, INTERRUPTED}
    assert COMPLETE in states.values()
    done = done_in(world.store)
    world.call()
    check(world)
    assert done <= done_in(world.store)


# ---- fewer trials asked for


def test_what_was_begun_beyond_the_trials_that_are_asked_for_waits(world: World) -> None:
    world.killed_at(2, (TRIALS - 1) * (3 if world.options.folds else 1))
    world.call(trials=1)
    states = states_of(world.store)
    assert "RUNNING" not in states.values()
    assert INTERRUPTED in states.values()
    world.call()
    check(world)
    assert set(states) <= set(states_of(world.store))


# ---- garbage


def first(world: World, name: str) -> Path:
    """A file of the first training in staging that has one: a part's where trials have several."""
    (found, *_) = sorted(path for folder in world.folders for path in folder.rglob(name) if path.parent != folder) or (
        sorted(path for folder in world.folders for path in folder.glob(name))
    )
    return found


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


MADE_AGAIN: dict[str, Callable[[World], object]] = {
    "run.json cut": lambda w: first(w, RUN).write_bytes(first(w, RUN).read_bytes()[:-20]),
    "run.json empty": lambda w: first(w, RUN).write_bytes(b""),
    "run.json of zeros": lambda w: first(w, RUN).write_bytes(bytes(500)),
    "run.json a list": lambda w: first(w, RUN).write_text("[]"),
    "run.json with a number that is none": lambda w: change(first(w, RUN), number="one"),
    "run.json of a trial below none": lambda w: change(first(w, RUN), number=-1),
    "run.json with more": lambda w: change(first(w, RUN), more=1),
    "run.json a folder": lambda w: (first(w, RUN).unlink(), first(w, RUN.replace("run", "epochs") + "l")),
    "run.json gone": lambda w: first(w, RUN).unlink(),
    "the folder gone": lambda w: shutil.rmtree(first(w, RUN).parent),
    "all folders gone": lambda w: shutil.rmtree(w.store / "staging"),
}
GONE_ON_WITH: dict[str, Callable[[World], object]] = {
    "an unknown folder": lambda w: (w.folders[0].parent / "unknown" / "deep").mkdir(parents=True),
    "a file that is no folder": lambda w: (w.folders[0].parent / "notes.txt").write_text("mine"),
    "a link to nowhere": lambda w: (w.folders[0].parent / "link").symlink_to("nowhere"),
    "an unknown folder of a part": lambda w: (first(w, RUN).parent.parent / "unknown").mkdir(),
    "half a line": lambda w: append(first(w, EPOCHS), b'{"epoch":9,"ti'),
    "zeros at the end": lambda w: append(first(w, EPOCHS), bytes(100)),
    "half of a checkpoint's write": lambda w: first(w, EPOCHS).with_name(".checkpoint.1").write_bytes(b"half"),
    "a copy of a folder": lambda w: shutil.copytree(w.folders[0], w.folders[0].with_name("copy")),
    "no epochs any more": lambda w: first(w, CHECKPOINT).unlink(),
}
REFUSED: dict[str, tuple[Callable[[World], object], str]] = {
    "a line that is none": (lambda w: append(first(w, EPOCHS), b"{}\n"), "must hold an epoch on each line"),
    "a line of another kind": (lambda w: append(first(w, EPOCHS), b'{"epoch":1,"time":2,"metrics":[]}\n'), "an epoch"),
    "a result of another shape": (lambda w: beside(w, {"ended": "well"}), "must say how a run ended"),
    "a result without a time": (lambda w: beside(w, {"state": "COMPLETE", "time": "now"}), "must say how a run ended"),
    "a result of no state": (lambda w: beside(w, {"state": "DONE", "time": 1}), "must say how a run ended"),
    "a list for a result": (lambda w: beside(w, []), "must hold a JSON object"),
    "a result whose scores are none": (
        lambda w: beside(w, {"state": "COMPLETE", "time": 1, "metrics": {"best_val_macro_f1": "x"}}),
        "must say how a run ended",
    ),
    "a result with files of others": (
        lambda w: beside(w, {"state": "COMPLETE", "time": 1, "files": "../../../.."}),
        "must lie in its own folder",
    ),
    "a value outside the space": (
        lambda w: change(w.folders[0] / RUN, values={"model.hidden": 7, "model.layers": 1}),
        "model.hidden must be in {320, 350, 400}, trial 00 was made with 7",
    ),
    "a value that is missing": (
        lambda w: change(w.folders[0] / RUN, values={"model.hidden": 320}),
        "model.layers must be among the values of a trial that goes on",
    ),
}


def mostly_slow(names: Iterable[str]) -> list[Any]:
    """All of them, the first and the last among the fast tests too."""
    every = list(names)
    return [every[0], *(pytest.param(name, marks=SLOW) for name in every[1:-1]), every[-1]]


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def beside(world: World, content: object) -> None:
    first(world, EPOCHS).with_name(RESULT).write_text(json.dumps(content))


@pytest.mark.parametrize("garbage", mostly_slow(MADE_AGAIN))
def test_what_staging_has_lost_is_made_again_and_its_run_fails_with_the_reason(world: World, garbage: str) -> None:
    world.killed_at(3)
    before = set(states_of(world.store))
    MADE_AGAIN[garbage](world)
    world.call()
    check(world)
    assert reasons(world.store) == {LOST}
    assert before <= set(states_of(world.store))


@pytest.mark.parametrize("garbage", mostly_slow(GONE_ON_WITH))
def test_what_is_none_of_ours_in_staging_is_no_hindrance(world: World, garbage: str) -> None:
    world.killed_at(3)
    GONE_ON_WITH[garbage](world)
    world.call()
    check(world)
    assert FAIL not in states_of(world.store).values()


@pytest.mark.parametrize("garbage", mostly_slow(REFUSED))
def test_what_cannot_be_understood_is_refused_in_a_line_and_made_again_once_it_is_removed(
    world: World, garbage: str
) -> None:
    world.killed_at(3)
    spoil, said = REFUSED[garbage]
    spoil(world)
    before = states_of(world.store)
    for _ in range(2):
        with pytest.raises(InputError) as refusal:
            world.call()
        assert said in str(refusal.value)
    assert set(states_of(world.store)) == set(before)
    shutil.rmtree(world.folders[0])
    world.call()
    check(world)
    assert reasons(world.store) == {LOST}


@pytest.mark.parametrize("lost", ["model/model.json", pytest.param("model", marks=SLOW), pytest.param(".", marks=SLOW)])
def test_a_result_without_its_model_is_no_result(world: World, lost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(MlflowTracker, "add_files", away)
        with pytest.raises(KilledError):
            world.call()
    path = first(world, RESULT).with_name("files") / lost
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    world.call()
    check_whole(world.store, world.study, TRIALS, LENGTH)
    assert reasons(world.store) == {LOST}
    assert sorted(world.story.ended.values())[-2:] == [1, 2]


def test_a_part_that_was_delivered_and_is_gone_from_staging_is_made_again_and_not_there_twice(
    tiny: Dataset, store: Path
) -> None:
    world = made("folds", tiny, store)
    world.killed_at(2, 2)
    delivered = [folder for folder in world.folders[0].glob("parts/*") if (folder / RESULT).exists()]
    assert done_in(store)
    shutil.rmtree(delivered[0])
    world.call()
    check_whole(store, "audio_rnn", TRIALS, LENGTH)
    assert reasons(store) == {LOST}


def test_a_trial_whose_run_was_deleted_while_it_waited_has_its_parts_again(world: World) -> None:
    """By a hand in the UI; what is in staging is tracked again."""
    world.killed_at(3)
    tracker = MlflowTracker(world.store)
    (parent,) = tracker.studies()
    for trial in tracker.trials(parent.run_id):
        tracker.discard(trial.run_id)
    world.call()
    check(world)
    said = world.said
    world.call()
    assert "started" in said
    assert "started" not in world.said
    check(world)


# ---- tries that go on from other tries


@pytest.fixture
def ladder(tiny: Dataset, store: Path) -> World:
    options = Options(trials=6, epochs=2, workers=1, device="cpu")
    return World(dataset=tiny, store=store, study="multihead_fusion", options=options)


def test_a_try_whose_earlier_one_is_in_staging_alone_goes_on_from_it(
    ladder: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed when the fifth had its result, and the store had not."""
    whole = MlflowTracker.add_files

    def away(self: MlflowTracker, run_id: str, folder: Path) -> None:
        if "try_5" in str(folder.parent.joinpath(RUN).read_text()):
            raise KilledError
        whole(self, run_id, folder)

    with monkeypatch.context() as patch:
        patch.setattr(MlflowTracker, "add_files", away)
        with pytest.raises(KilledError):
            ladder.call()
    ladder.call()
    check_whole(ladder.store, "multihead_fusion", 6, 2)
    assert set(ladder.story.ended.values()) == {1}


def test_a_try_whose_earlier_one_was_deleted_by_hand_waits_until_it_is_made_again(ladder: World) -> None:
    ladder.killed_at(2, 5)
    tracker = MlflowTracker(ladder.store)
    (parent,) = tracker.studies()
    (fifth,) = [run for run in tracker.trials(parent.run_id) if run.number == 4]
    tracker.discard(fifth.run_id)
    ladder.call()
    check_whole(ladder.store, "multihead_fusion", 6, 2)
    assert ladder.story.ended == {0: 1, 1: 1, 2: 1, 3: 1, 4: 2, 5: 1}


def test_a_try_whose_earlier_one_fails_in_the_end_fails_with_the_reason(ladder: World) -> None:
    ladder.killed_at(2, 5)
    tracker = MlflowTracker(ladder.store)
    (parent,) = tracker.studies()
    (fifth,) = [run for run in tracker.trials(parent.run_id) if run.number == 4]
    tracker.discard(fifth.run_id)
    ladder.story.asked.clear()
    ladder.killed_at(1, 4, "fail")
    states = {run.number: run.state for run in tracker.trials(parent.run_id)}
    assert states == {0: COMPLETE, 1: COMPLETE, 2: COMPLETE, 3: COMPLETE, 4: FAIL, 5: FAIL}
    assert reasons(ladder.store, "multihead_fusion") == {
        "it failed",
        "trial 04, which it goes on from, is not complete",
    }
    assert not ladder.folders

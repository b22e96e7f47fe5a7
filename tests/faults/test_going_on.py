"""A training that was cut short goes on from its checkpoint: the same run, weights and curves, and few epochs again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from checks import begin, check_whole, command, eventually, result, run, states_of
from counted import again, epochs, lines
from processes import children

from mmtune.data.dataset import Dataset
from mmtune.tracking import COMPLETE, FAIL, INTERRUPTED, PRUNED, MlflowTracker
from mmtune.train.checkpoint import load_moment
from mmtune.train.staging import CHECKPOINT

SCRIPT = Path(__file__).with_name("counted.py")
# Whole processes, several for each law; what is quick is in tests/train.
pytestmark = pytest.mark.slow
KILLED = "worker was killed by SIGKILL"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A study in a store of its own; its trainings write down in `log` what they do, and wait where `hold` says."""

    store: Path
    words: list[str]
    log: Path
    hold: Path

    def held_at(self, epoch: int) -> subprocess.Popen[str]:
        """The study, begun anew, as soon as a training has come to an epoch for the first time, where it waits."""
        self.hold.write_text(str(epoch))
        before = self.count(epoch)
        process = begin(self.words)
        self.wait(lambda: self.count(epoch) > before, process)
        return process

    def count(self, epoch: int) -> int:
        """How many trainings have come to an epoch."""
        return len({tuple(words) for words in lines(self.log) if words[0::2] == ["epoch", str(epoch)]})

    def wait(self, holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
        """Until something holds, while a study runs."""
        assert eventually(lambda: holds() or process.poll() is not None, seconds=200)
        assert holds(), process.communicate()[0]

    def finish(self) -> str:
        """The same command, to its end."""
        self.hold.unlink(missing_ok=True)
        return run(self.words)


@pytest.fixture
def case(tmp_path: Path, store_template: Path, tiny: Dataset) -> Callable[..., Case]:
    """Makes a case from the options of a study."""

    def make(*more: str, name: str = "disturbed", workers: int = 1, **how: Any) -> Case:
        folder = tmp_path / name
        store = Path(shutil.copytree(store_template, folder / "mlruns"))
        log, hold = folder / "log", folder / "hold"
        words = command(tiny, store, *more, "--workers", str(workers), **how)[3:]
        script = ["env", f"COUNTED={log}", f"HOLD={hold}", sys.executable, str(SCRIPT)]
        return Case(store=store, words=[*script, *words], log=log, hold=hold)

    return make


def whole(case: Case, study: str, trials: int, epochs: int, **how: Any) -> list[dict[str, Any]]:
    """All that the trials of a finished study are, and the parts of each: nothing in it is a time or an id."""
    check_whole(case.store, study, trials, epochs, **how)
    tracker = MlflowTracker(case.store)
    (parent,) = tracker.studies(study)
    runs = [*tracker.trials(parent.run_id), *tracker.parts(parent.run_id)]
    return [{**result(tracker, own), "name": own.name} for own in runs if own.state in (COMPLETE, PRUNED)]


def assert_same(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
    """To the bit, said by what differs."""
    assert [own["name"] for own in first] == [own["name"] for own in second]
    for mine, theirs in zip(first, second, strict=True):
        for what in mine:
            assert mine[what] == theirs[what], f"{mine['name']}: {what}"


def kill(process: Any, victim: str) -> None:
    """End a coordinator, or its one worker, at once."""
    os.kill(process.pid if victim == "coordinator" else children(process.pid)[0], signal.SIGKILL)


def cut_short(case: Case, epoch: int, victim: str) -> None:
    """Kill a study where a training first comes to an epoch, or its worker, and the study when that is made up for.

    A second worker that is killed under a trial would cost the trial.
    """
    process = case.held_at(epoch)
    seed = lines(case.log)[-1][1]
    kill(process, victim)
    if victim == "worker":
        case.hold.unlink()
        case.wait(lambda: ["end", seed] in lines(case.log), process)
        process.kill()
    process.communicate()


STUDIES = {
    "audio_rnn": ("audio_rnn", ("--fix", "hidden=320"), 1),
    "batch norm and dropout": ("image_cnn", ("--sampler", "reported"), 1),
    "two networks, class weights": ("dual_cnn_fusion", ("--sampler", "reported"), 1),
    "waveforms": ("spectrogram_fusion", ("--sampler", "reported"), 1),
    "over time": ("xflow_lstm", ("--sampler", "reported"), 1),
}


@pytest.mark.parametrize("victim", ["coordinator", "worker"])
@pytest.mark.parametrize("name", STUDIES)
def test_killed_at_epoch_50_of_60_it_costs_the_epochs_since_its_checkpoint(
    case: Callable[..., Case], name: str, victim: str
) -> None:
    study, options, trials = STUDIES[name]
    how: dict[str, Any] = {"study": study, "trials": trials, "epochs": 60}
    calm, disturbed = (case(*options, "--checkpoint-every", "0.05", name=n, **how) for n in ("calm", "disturbed"))
    process = disturbed.held_at(50)
    (folder,) = (disturbed.store / "staging").glob("*/*")
    moment = load_moment(folder / CHECKPOINT)
    assert moment is not None
    reached = len(moment.story["history"])
    assert 0 < reached < 50
    before = states_of(disturbed.store, study)
    kill(process, victim)
    text, _ = process.communicate(timeout=200)
    said = disturbed.finish() if victim == "coordinator" else text
    assert "trial 00" in said
    after = states_of(disturbed.store, study)
    if victim == "coordinator":
        assert set(after) == set(before) == {own for own, state in after.items() if state == COMPLETE}
    else:
        assert sorted(after.values()) == [COMPLETE, FAIL]
    trained = [int(words[2]) for words in lines(disturbed.log) if words[0] == "epoch"]
    assert trained == [*range(1, 51), *range(reached + 1, 61)]
    calm.finish()
    assert epochs(calm.log) == 60
    assert_same(whole(disturbed, study, trials, 60), whole(calm, study, trials, 60))


def test_with_a_checkpoint_each_epoch_one_epoch_is_trained_again(case: Callable[..., Case]) -> None:
    own = case("--fix", "hidden=320", "--checkpoint-every", "0", trials=1, epochs=30)
    for epoch in (3, 4, 17, 30):
        process = own.held_at(epoch)
        kill(process, "coordinator")
        process.communicate()
    own.finish()
    assert epochs(own.log) == 30 + 4
    check_whole(own.store, trials=1, epochs=30)
    assert list(states_of(own.store).values()) == [COMPLETE]


GROUP = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL]


@pytest.mark.parametrize("folds", [0, 3])
@pytest.mark.parametrize("number", GROUP)
def test_a_kill_of_the_whole_process_group_is_charged_to_no_trial(
    case: Callable[..., Case], number: signal.Signals, folds: int
) -> None:
    own = case("--folds", str(folds), "--checkpoint-every", "0", trials=2, epochs=8, workers=2)
    process = own.held_at(6)
    workers = children(process.pid)
    os.killpg(process.pid, number)
    if number != signal.SIGKILL:
        text, _ = process.communicate(timeout=100)
        assert process.returncode == 130, text
        assert "Traceback" not in text
        assert INTERRUPTED in states_of(own.store).values()
    process.communicate(timeout=100)
    assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    before = set(states_of(own.store))
    own.finish()
    check_whole(own.store, trials=2, epochs=8)
    states = states_of(own.store)
    assert set(states.values()) == {COMPLETE}
    assert before <= set(states)
    assert not again(own.log)


@pytest.mark.parametrize("victim", ["coordinator", "worker"])
def test_a_pruned_search_that_was_cut_short_draws_and_judges_as_if_it_had_not(
    case: Callable[..., Case], victim: str
) -> None:
    how: dict[str, Any] = {"trials": 14, "epochs": 12}
    options = ("--sampler", "tpe", "--checkpoint-every", "0")
    calm, disturbed = (case(*options, name=n, **how) for n in ("calm", "disturbed"))
    for epoch in (3, 5, 12, 7):
        cut_short(disturbed, epoch, victim)
    disturbed.finish()
    calm.finish()
    found = whole(disturbed, "audio_rnn", **how, pruned=True)
    assert_same(found, whole(calm, "audio_rnn", **how, pruned=True))
    assert {own["state"] for own in found} == {COMPLETE, PRUNED}
    assert not again(disturbed.log)


def test_after_a_resume_hopeless_trials_are_still_stopped_between_their_folds(case: Callable[..., Case]) -> None:
    how: dict[str, Any] = {"trials": 5, "epochs": 6}
    options = ("--sampler", "random", "--folds", "6", "--seed", "1", "--checkpoint-every", "0")
    calm, disturbed = (case(*options, name=n, **how) for n in ("calm", "disturbed"))
    for count in (8, 4, 5):
        process = begin(disturbed.words)
        wanted = ends(disturbed.log) + count
        disturbed.wait(lambda n=wanted: ends(disturbed.log) >= n, process)  # type: ignore[misc]
        process.kill()
        process.communicate()
    disturbed.finish()
    calm.finish()
    found = whole(disturbed, "audio_rnn", **how, pruned=True)
    assert_same(found, whole(calm, "audio_rnn", **how, pruned=True))
    assert PRUNED in {own["state"] for own in found}
    assert not again(disturbed.log)


@pytest.mark.parametrize("victim", ["coordinator", "worker"])
def test_a_try_that_goes_on_from_another_one_goes_on_after_a_kill(case: Callable[..., Case], victim: str) -> None:
    how: dict[str, Any] = {"study": "multihead_fusion", "trials": 6, "epochs": 4}
    calm, disturbed = (case("--checkpoint-every", "0", name=n, **how) for n in ("calm", "disturbed"))
    # Each of them once, the try that another one goes on from and that other one too.
    for _ in range(6):
        cut_short(disturbed, 3, victim)
    disturbed.finish()
    calm.finish()
    how.pop("study")
    assert_same(whole(disturbed, "multihead_fusion", **how), whole(calm, "multihead_fusion", **how))
    assert not again(disturbed.log)


def test_two_killed_workers_cost_a_trial_and_none_of_its_epochs_twice(case: Callable[..., Case]) -> None:
    own = case("--fix", "hidden=320", "--checkpoint-every", "0", trials=2, epochs=20)
    process = own.held_at(9)
    for epoch in (9, 15):
        own.hold.write_text(str(epoch))
        own.wait(lambda n=epoch: own.count(n) == 1, process)  # type: ignore[misc]
        kill(process, "worker")
    own.hold.unlink()
    text, _ = process.communicate(timeout=200)
    assert process.returncode == 0, text
    assert "1 of 2 trials failed" in text
    tracker = MlflowTracker(own.store)
    (parent,) = tracker.studies()
    runs = tracker.trials(parent.run_id)
    assert [(r.number, r.state, r.tags.get("mmtune.reason")) for r in runs] == [
        (0, FAIL, KILLED),
        (0, FAIL, KILLED),
        (1, COMPLETE, None),
    ]
    for attempt, reached in zip(runs, (9, 15), strict=False):
        losses = tracker.curves(attempt.run_id, ("val_loss",))["val_loss"]
        assert [epoch for epoch, _ in losses] == list(range(1, reached + 1))
    assert epochs(own.log) == 15 + 1 + 20


def test_a_changed_checkpoint_fails_the_attempt_and_another_one_begins_again(case: Callable[..., Case]) -> None:
    own = case("--fix", "hidden=320", "--checkpoint-every", "0", trials=1, epochs=20)
    process = own.held_at(9)
    kill(process, "coordinator")
    process.communicate()
    (path,) = own.store.rglob(CHECKPOINT)
    content = path.read_bytes()
    path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    own.finish()
    check_whole(own.store, trials=1, epochs=20)
    (reason,) = [tags["mmtune.reason"] for tags in failed(own.store)]
    assert "its checkpoint was changed or cut, so it begins again" in reason
    assert epochs(own.log) == 9 + 20


def ends(log: Path) -> int:
    """How many trainings have ended."""
    return sum(words[0] == "end" for words in lines(log))


def failed(store: Path) -> list[dict[str, str]]:
    """The tags of what has failed."""
    client = MlflowTracker(store).client
    return [dict(client.get_run(run_id).data.tags) for run_id, state in states_of(store).items() if state == FAIL]

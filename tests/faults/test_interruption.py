"""Killed at any moment and by any signal, a study goes on with the same command and ends as if nothing had been."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checks import (
    begin,
    check_whole,
    command,
    done_in,
    eventually,
    gone,
    run,
    scores,
    staged,
    states_of,
    wait_for,
)
from processes import children

from mmtune.data.dataset import Dataset
from mmtune.tracking import COMPLETE, FAIL, INTERRUPTED, MlflowTracker
from mmtune.train.staging import read_epochs, read_runs

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def check_waiting(store: Path) -> set[str]:
    """The complete runs of a study that was asked to stop: what was under way waits and is in staging, nothing runs."""
    (study,) = MlflowTracker(store).studies()
    states = states_of(store)
    assert study.status == "KILLED"
    assert set(states.values()) <= {COMPLETE, INTERRUPTED}
    waiting = {run_id for run_id, state in states.items() if state == INTERRUPTED}
    assert waiting == {own.run_id for own in read_runs(store / "staging" / study.key.slug)}
    return {run_id for run_id, state in states.items() if state == COMPLETE}


@pytest.mark.slow
@pytest.mark.parametrize("number", STOPS)
def test_asked_to_stop_it_says_so_and_goes_on_later(
    tiny: Dataset, store: Path, undisturbed: list[tuple[float, float]], number: signal.Signals
) -> None:
    """Asked as a terminal asks: the whole process group, workers among it; no trial is charged with it."""
    process = begin(command(tiny, store))
    wait_for(process, "[1/4]")
    os.killpg(process.pid, number)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 130, text
    assert "the same command goes on" in text
    assert "Traceback" not in text
    done_before, before = check_waiting(store), set(states_of(store))
    run(command(tiny, store))
    complete = check_whole(store)
    assert scores(complete) == undisturbed
    assert done_before <= {trial.run_id for trial in complete}
    # What was under way has gone on in the same run.
    assert before <= {trial.run_id for trial in complete}
    assert FAIL not in states_of(store).values()


@pytest.mark.slow
def test_a_terminal_that_is_closed_interrupts_as_ctrl_c_does(
    tiny: Dataset, store: Path, undisturbed: list[tuple[float, float]]
) -> None:
    """With it goes the place for what is still to be said."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        words = command(tiny, store)
        os.execv(words[0], words)
    text = b""
    while b"[1/4]" not in text:
        text += os.read(terminal, 65_536)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    check_waiting(store)
    run(command(tiny, store))
    assert scores(check_whole(store)) == undisturbed


@pytest.mark.slow
def test_what_nohup_has_ignored_stays_ignored(tiny: Dataset, store: Path) -> None:
    process = begin(["nohup", *command(tiny, store)])
    wait_for(process, "[1/4]")
    os.killpg(process.pid, signal.SIGHUP)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    check_whole(store)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["trial 00", "[1/4]"])
def test_a_killed_coordinator_takes_its_workers_along_and_loses_no_trial(
    tiny: Dataset, store: Path, undisturbed: list[tuple[float, float]], moment: str
) -> None:
    process = begin(command(tiny, store))
    wait_for(process, moment)
    workers = children(process.pid)
    process.kill()
    process.wait()
    assert workers
    assert eventually(lambda: all(gone(pid) for pid in workers))
    done_before, before = done_in(store), set(states_of(store))
    text = run(command(tiny, store))
    # Both may have ended at that moment.
    assert "cut short by an earlier interruption" in text or "finished trials in staging" in text
    complete = check_whole(store)
    assert scores(complete) == undisturbed
    assert done_before <= before <= {trial.run_id for trial in complete}


TRACKER = "mmtune.tracking.tracker.MlflowTracker"
DEATHS = {
    "after a trial was drawn, before it is in staging": ("mmtune.train.staging.StagedRun", "write", "", 3),
    "after a trial is in staging, before the store has its run": (TRACKER, "begin", "", 3),
    "after the store has its run, before staging knows": ("mmtune.train.staging.StagedRun", "write", "run_id", 2),
    "between two batches of epochs": (TRACKER, "log", "", 6),
    "after a finished training, before its files are kept": (TRACKER, "add_files", "", 1),
    "after its files are kept, before its run has ended": (TRACKER, "end", "COMPLETE", 1),
    "after a finished run, before it leaves staging": ("mmtune.tracking.recorder.sqlite", "secure", "", 1),
    "after a finished training, before the search hears of it": ("mmtune.tune.search.Search", "tell", "COMPLETE", 1),
    "as it is to say that runs wait": (TRACKER, "set_state", "INTERRUPTED", 1),
    "after it has said so of one of two": (TRACKER, "set_state", "INTERRUPTED", 2),
    "as it closes the study": (TRACKER, "end_study", "", 1),
}
DYING = """
import importlib, os, sys

def arm(owner, name, when, count):
    whole = getattr(owner, name)
    def die(self, *args, **kwargs):
        nonlocal count
        count -= not when or when in args or when in kwargs.values() or bool(getattr(self, when, ""))
        if count <= 0:
            os._exit(9)
        return whole(self, *args, **kwargs)
    setattr(owner, name, die)

if __name__ == "__main__":  # workers import this file too
    module, _, owner = sys.argv[1].rpartition(".")
    arm(getattr(importlib.import_module(module), owner), sys.argv[2], sys.argv[3], int(sys.argv[4]))
    sys.argv[1:5] = []
    from mmtune.cli import main
    main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", DEATHS)
def test_dying_between_two_writes_loses_nothing(
    tiny: Dataset, store: Path, tmp_path: Path, undisturbed: list[tuple[float, float]], moment: str
) -> None:
    (tmp_path / "dying.py").write_text(DYING)
    script = [sys.executable, str(tmp_path / "dying.py"), *map(str, DEATHS[moment])]
    process = begin([*script, *command(tiny, store)[3:]])
    if "INTERRUPTED" in DEATHS[moment]:
        wait_for(process, "trial 01")
        process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 9, text
    before = done_in(store)
    run(command(tiny, store))
    complete = check_whole(store)
    assert scores(complete) == undisturbed
    assert before <= {trial.run_id for trial in complete}
    assert FAIL not in states_of(store).values()


@pytest.mark.slow
def test_a_reader_that_goes_away_leaves_no_run_running(
    tiny: Dataset, store: Path, undisturbed: list[tuple[float, float]]
) -> None:
    process = begin(command(tiny, store))
    wait_for(process, "trial 00")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    check_waiting(store)
    run(command(tiny, store))
    assert scores(check_whole(store)) == undisturbed


@pytest.mark.slow
def test_a_killed_worker_costs_its_trial_one_attempt(
    tiny: Dataset, store: Path, undisturbed: list[tuple[float, float]]
) -> None:
    # Of several workers the one that is killed might have nothing to do at that moment.
    process = begin(command(tiny, store, "--workers", "1"))
    wait_for(process, "trial 02")
    (worker,) = children(process.pid)
    os.kill(worker, signal.SIGKILL)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    assert "worker was killed by SIGKILL" in text
    assert scores(check_whole(store)) == undisturbed
    (failed,) = [run_id for run_id, state in states_of(store).items() if state == FAIL]
    tags = MlflowTracker(store).client.get_run(failed).data.tags
    assert (tags["mmtune.reason"], tags["mmtune.retry"]) == ("worker was killed by SIGKILL", "True")


@pytest.mark.slow
def test_a_finished_study_is_left_as_it_is(tiny: Dataset, store: Path) -> None:
    run(command(tiny, store))
    before = check_whole(store)
    text = run(command(tiny, store))
    assert "started" not in text
    assert check_whole(store) == before


@pytest.mark.slow
def test_a_second_coordinator_is_refused_and_the_first_one_named(tiny: Dataset, store: Path) -> None:
    process = begin(command(tiny, store))
    wait_for(process, "trial 00")
    process.send_signal(signal.SIGSTOP)
    second = subprocess.run(command(tiny, store), capture_output=True, text=True, timeout=120)
    process.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    assert f"already runs, and one coordinator at a time may write it: pid {process.pid} on " in second.stderr
    assert len(second.stderr.splitlines()) == 1
    process.communicate(timeout=120)
    check_whole(store)


@pytest.mark.slow
def test_killed_again_and_again_at_random_moments(
    tiny: Dataset, store: Path, undisturbed: list[tuple[float, float]]
) -> None:
    import random

    rng = random.Random(0)
    for _ in range(8):
        process = begin(command(tiny, store))
        time.sleep(rng.uniform(0.5, 6.0))
        process.kill()
        process.communicate()
    run(command(tiny, store))
    assert scores(check_whole(store)) == undisturbed


def on_record(store: Path) -> dict[tuple[str, int], tuple[int, float]]:
    """The epochs in staging, by run and epoch: when they were over, and their loss."""
    told = ((run, point) for folder in (store / "staging").glob("*") for run in read_runs(folder)
            for point in read_epochs(run.folder))  # fmt: skip
    return {(run.id, point.epoch): (point.time, point.metrics["val_loss"]) for run, point in told}


@pytest.mark.slow
def test_epochs_that_waited_when_the_coordinator_was_killed_are_there_once(
    tiny: Dataset, store: Path, undisturbed: list[tuple[float, float]]
) -> None:
    left: dict[tuple[str, int], tuple[int, float]] = {}
    for _ in range(3):
        before = set(left)
        process = begin(command(tiny, store))
        assert eventually(lambda known=before: len(set(on_record(store)) - known) >= 5, seconds=60)  # type: ignore[misc]
        process.kill()
        process.communicate()
        left |= on_record(store)
    run(command(tiny, store))
    tracker = MlflowTracker(store)
    for identity in {identity for identity, _ in left}:
        (found,) = tracker.find(identity)
        history = tracker.client.get_metric_history(found.run_id, "val_loss")
        assert [metric.step for metric in history] == list(range(1, len(history) + 1))
        told = {(identity, metric.step): (metric.timestamp, metric.value) for metric in history}
        assert told.items() >= {place: own for place, own in left.items() if place[0] == identity}.items()
    assert not staged(store)
    assert scores(check_whole(store)) == undisturbed

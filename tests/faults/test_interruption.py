"""Killed at any moment and by any signal, a study goes on with the same command and ends as if nothing had been."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checks import begin, check_whole, children, command, eventually, gone, journal_attempts, run, scores, wait_for

from mmtune.data.dataset import Dataset
from mmtune.tracking import COMPLETE, FAIL, INTERRUPTED, MlflowTracker

STOPS = [signal.SIGINT, *(pytest.param(n, marks=pytest.mark.slow) for n in (signal.SIGTERM, signal.SIGHUP))]


@pytest.mark.parametrize("number", STOPS)
def test_asked_to_stop_it_says_so_and_goes_on_later(
    tiny: Dataset, store: Path, undisturbed: list[tuple[float, float]], number: signal.Signals
) -> None:
    """Asked as a terminal asks: the whole process group, workers and multiprocessing's own process among it."""
    process = begin(command(tiny, store))
    wait_for(process, "[1/4]")
    os.killpg(process.pid, number)
    text, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "the same command goes on" in text
    assert "Traceback" not in text
    check_interrupted(store)
    attempts = journal_attempts(store)
    done_before = {a.run_id for a in attempts if a.state == "COMPLETE"}
    run(command(tiny, store))
    complete = check_whole(store)
    assert scores(complete) == undisturbed
    assert done_before <= {trial.run_id for trial in complete}


def check_interrupted(store: Path) -> None:
    """Nothing is left running, and no trial is charged with the interruption."""
    assert not [a for a in journal_attempts(store) if a.state == "RUNNING" or (a.state == "FAIL" and not a.interrupted)]
    tracker = MlflowTracker(store)
    (study,) = tracker.studies("audio_rnn")
    assert study.status == "KILLED"
    unfinished = [trial for trial in tracker.trials(study.run_id) if trial.state != COMPLETE]
    assert unfinished
    assert {(trial.state, trial.tags["mmtune.reason"]) for trial in unfinished} == {(FAIL, INTERRUPTED)}


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
    check_interrupted(store)
    run(command(tiny, store))
    assert scores(check_whole(store)) == undisturbed


def test_what_nohup_has_ignored_stays_ignored(tiny: Dataset, store: Path) -> None:
    process = begin(["nohup", *command(tiny, store)])
    wait_for(process, "[1/4]")
    os.killpg(process.pid, signal.SIGHUP)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    check_whole(store)


@pytest.mark.parametrize("moment", [pytest.param("trial 00", marks=pytest.mark.slow), "[1/4]"])
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
    done_before = {a.run_id for a in journal_attempts(store) if a.state == "COMPLETE"}
    text = run(command(tiny, store))
    assert "cut short by an earlier interruption" in text
    complete = check_whole(store)
    assert scores(complete) == undisturbed
    assert done_before <= {trial.run_id for trial in complete}


DEATHS = {
    "after a finished training, before its run hears of it": (
        "mmtune.tracking.tracker.MlflowTracker",
        "end_trial",
        "COMPLETE",
    ),
    "after a finished run, before the search hears of it": ("mmtune.tune.search.Search", "tell", "COMPLETE"),
    "after an interrupted run, before the search hears of it": ("mmtune.tune.search.Search", "tell", "FAIL"),
}
DYING = """
import importlib, os, sys

def arm(owner, name, when):
    whole = getattr(owner, name)
    def die(self, *args, **kwargs):
        if when in args or when in kwargs.values():
            os._exit(9)
        return whole(self, *args, **kwargs)
    setattr(owner, name, die)

if __name__ == "__main__":  # workers import this file too
    module, _, owner = sys.argv[1].rpartition(".")
    arm(getattr(importlib.import_module(module), owner), sys.argv[2], sys.argv[3])
    sys.argv[1:4] = []
    from mmtune.cli import main
    main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", DEATHS)
def test_dying_between_two_writes_loses_nothing(
    tiny: Dataset, store: Path, tmp_path: Path, undisturbed: list[tuple[float, float]], moment: str
) -> None:
    (tmp_path / "dying.py").write_text(DYING)
    words = [sys.executable, str(tmp_path / "dying.py"), *DEATHS[moment], *command(tiny, store)[3:]]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(process, "trial 01")
    if DEATHS[moment][-1] == "FAIL":
        process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 9, text
    run(command(tiny, store))
    assert scores(check_whole(store)) == undisturbed


@pytest.mark.slow
def test_a_reader_that_goes_away_leaves_no_run_running(
    tiny: Dataset, store: Path, undisturbed: list[tuple[float, float]]
) -> None:
    process = begin(command(tiny, store))
    wait_for(process, "trial 00")
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=60) == 1
    tracker = MlflowTracker(store)
    (study,) = tracker.studies("audio_rnn")
    assert "RUNNING" not in {study.status, *(trial.status for trial in tracker.trials(study.run_id))}
    run(command(tiny, store))
    assert scores(check_whole(store)) == undisturbed


def test_a_killed_worker_costs_its_trial_one_attempt(
    tiny: Dataset, store: Path, undisturbed: list[tuple[float, float]]
) -> None:
    process = begin(command(tiny, store))
    wait_for(process, "[1/4]")
    os.kill(children(process.pid)[0], signal.SIGKILL)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 0, text
    assert "worker was killed by SIGKILL" in text
    assert scores(check_whole(store)) == undisturbed
    (failed,) = [a for a in journal_attempts(store) if a.state == "FAIL"]
    assert failed.retry
    tracker = MlflowTracker(store)
    assert tracker.client.get_run(failed.run_id).data.tags["mmtune.reason"] == "worker was killed by SIGKILL"


@pytest.mark.slow
def test_a_finished_study_is_left_as_it_is(tiny: Dataset, store: Path) -> None:
    run(command(tiny, store))
    before = check_whole(store)
    text = run(command(tiny, store))
    assert "started" not in text
    assert check_whole(store) == before


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


def waiting(store: Path) -> dict[tuple[str, int], tuple[int, float]]:
    """The epochs on the whole lines of the spool, by run and epoch: when they were reported, and their loss."""
    lines = [line for file in (store / "optuna").glob("*.spool") for line in file.read_bytes().split(b"\n")[:-1]]
    told = [json.loads(line) for line in lines]
    return {(one["run_id"], one["step"]): (one["time"], one["metrics"]["val_loss"]) for one in told}


@pytest.mark.slow
def test_epochs_that_waited_when_the_coordinator_was_killed_are_there_once(
    tiny: Dataset, store: Path, undisturbed: list[tuple[float, float]]
) -> None:
    left: dict[tuple[str, int], tuple[int, float]] = {}
    for _ in range(3):
        before = set(left)
        process = begin(command(tiny, store))
        assert eventually(lambda known=before: len(set(waiting(store)) - known) >= 5, seconds=60)  # type: ignore[misc]
        process.kill()
        process.communicate()
        left |= waiting(store)
    run(command(tiny, store))
    client = MlflowTracker(store).client
    cut = {run_id for run_id, _ in left}
    for run_id in cut:
        assert client.get_run(run_id).data.tags["mmtune.state"] == "FAIL"
        found = [((run_id, m.step), (m.timestamp, m.value)) for m in client.get_metric_history(run_id, "val_loss")]
        assert [step for (_, step), _ in found] == list(range(1, len(found) + 1))
        assert dict(found).items() >= {place: told for place, told in left.items() if place[0] == run_id}.items()
    assert not waiting(store)
    assert scores(check_whole(store)) == undisturbed

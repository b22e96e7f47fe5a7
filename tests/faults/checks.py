"""Studies as processes, and the check that every fault ends in: nothing lost, doubled or left running."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmtune.data.dataset import Dataset
from mmtune.networks.storage import load_model
from mmtune.tracking import COMPLETE, OBJECTIVE, STATUS, MlflowTracker, TrialRun

EPOCHS, TRIALS = 60, 4


def command(
    dataset: Dataset, store: Path, *more: str, study: str = "audio_rnn", trials: int = TRIALS, epochs: int = EPOCHS
) -> list[str]:
    """The words of a small study on two workers."""
    where = ["--data", str(dataset.folder), "--store", str(store), "--device", "cpu", "--workers", "2"]
    words = [study, *where, "--epochs", str(epochs), "--trials", str(trials), *more]
    return [sys.executable, "-m", "mmtune.cli", "study", *words]


def mmtune(*words: str) -> list[str]:
    """The words of any command."""
    return [sys.executable, "-m", "mmtune.cli", *words]


def begin(words: Sequence[str]) -> subprocess.Popen[str]:
    """A study that runs while the test goes on."""
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(words: Sequence[str], code: int = 0) -> str:
    """A whole call of a study and what it printed; it must end with exit code `code`."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Read what a study prints up to a line with `text`."""
    assert process.stdout is not None
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"{text!r} was never printed")


def children(pid: int) -> list[int]:
    """The worker processes of a coordinator (not multiprocessing's resource tracker)."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        found = [int(p) for task in tasks for p in (task / "children").read_text().split()]
        return [p for p in found if "spawn_main" in Path(f"/proc/{p}/cmdline").read_text()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def eventually(holds: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether something comes to hold within some seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return False


def check_whole(
    store: Path,
    study: str = "audio_rnn",
    trials: int = TRIALS,
    epochs: int = EPOCHS,
    pruned: bool = False,
) -> list[TrialRun]:
    """The complete trials of a finished study, in order, once all of this holds of it.

    Every trial ended well once, with every epoch's metrics and a model that loads; no run is under way or waits; no
    file is left over. pruned: trials may have been ended early.
    """
    tracker = MlflowTracker(store)
    (parent,) = tracker.studies(study)
    assert parent.status == "FINISHED"
    runs = tracker.trials(parent.run_id)
    assert {one.state for one in (*runs, *tracker.parts(parent.run_id))} <= {COMPLETE, "PRUNED", "FAIL"}
    for one in runs:
        assert tracker.client.get_run(one.run_id).info.status == STATUS[one.state]
    well = [one for one in runs if one.state == COMPLETE or (pruned and one.state == "PRUNED")]
    assert [one.number for one in well] == list(range(trials))
    for one in well:
        check_trial(tracker, one, epochs)
    assert not list((store / "staging").glob("*"))
    return [one for one in well if one.state == COMPLETE]


def check_trial(tracker: MlflowTracker, trial: TrialRun, epochs: int) -> None:
    """It has each of its epochs once, and files that load."""
    losses = tracker.curves(trial.run_id, ("val_loss",))["val_loss"]
    trained = epochs if trial.state == COMPLETE else int(trial.metrics["epochs_trained"])
    assert [epoch for epoch, _ in losses] == list(range(1, trained + 1))
    load_model(tracker.artifact(trial.run_id, "model"))
    assert tracker.artifact(trial.run_id, "validation.npz").stat().st_size > 0


def scores(trials: Sequence[TrialRun]) -> list[tuple[float, float]]:
    """What two runs of the same study have in common."""
    return [(trial.metrics[OBJECTIVE], trial.metrics["val_nmi"]) for trial in trials]


def results(store: Path, study: str = "audio_rnn") -> list[dict[str, Any]]:
    """All that a study's trials have in common, however and wherever they are made: no time, no id."""
    tracker = MlflowTracker(store)
    (parent,) = tracker.studies(study)
    return [result(tracker, trial) for trial in tracker.trials(parent.run_id) if trial.state != "FAIL"]


def result(tracker: MlflowTracker, trial: TrialRun) -> dict[str, Any]:
    """One of them."""
    tags = ("mmtune.seed", "mmtune.drawn", "mmtune.versions", "mmtune.data_digest", "mmtune.device")
    metrics = {n: v for n, v in trial.metrics.items() if n not in ("fit_seconds", "rows_per_second")}
    names = [name for name in trial.metrics if not name.startswith(("best_", "fit_", "rows_"))]
    curves = {name: points for name, points in tracker.curves(trial.run_id, names).items() if "seconds" not in name}
    folder = tracker.artifact(trial.run_id, "model")
    return {
        "number": trial.number,
        "state": trial.state,
        "params": trial.params,
        "tags": {name: trial.tags[name] for name in tags},
        "metrics": {n: v for n, v in metrics.items() if "seconds" not in n},
        "curves": curves,
        "weights": {p.name: p.read_bytes() for p in sorted(folder.iterdir())} if folder.exists() else {},
    }

"""Studies as processes, and the check that every fault ends in: nothing lost, doubled or left running."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tracked import OBJECTIVE

from mmtune.base.fields import flatten
from mmtune.data.dataset import Dataset
from mmtune.networks.storage import load_model
from mmtune.study import load_study, with_fixed
from mmtune.study.definition import schedule
from mmtune.tracking import COMPLETE, PARENT, PRUNED, STATUS, UNIT, MlflowTracker, StudyRun, TrialRun
from mmtune.tune.halving import rungs
from mmtune.tune.parts import part_of, parts_of
from mmtune.tune.resume import Standing, rebuild
from mmtune.tune.search import Attempt, Search

EPOCHS, TRIALS = 60, 4
UNITS = f"{UNIT}{OBJECTIVE}"
"""What a trial of several parts has, whose epochs are all trained though it is stopped between parts."""


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
    """A study that runs while the test goes on, in a process group of its own."""
    # Whoever runs the tests under nohup still has studies that hear of a closed terminal.
    heard = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        return subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
    finally:
        signal.signal(signal.SIGHUP, heard)


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


def gone(pid: int) -> bool:
    """Whether a process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def eventually(holds: Callable[[], bool], seconds: float = 60) -> bool:
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

    Every trial ended well once, with every epoch's metrics and a model that loads; the search that is made anew from
    the runs says the same of them; no run is under way or waits; no file is left over. pruned: trials may have been
    ended early.
    """
    tracker = MlflowTracker(store)
    (parent,) = tracker.studies(study)
    assert parent.status == "FINISHED"
    well = check_runs(tracker, parent, epochs)
    assert [one.number for one in well if pruned or one.state == COMPLETE] == list(range(trials))
    assert not list((store / "staging").glob("*"))
    return [one for one in well if one.state == COMPLETE]


def check_runs(tracker: MlflowTracker, parent: StudyRun, epochs: int) -> list[TrialRun]:
    """The trials of a study that ended well, each once and whole; none is under way, and the search knows the same."""
    runs, parts = tracker.trials(parent.run_id), tracker.parts(parent.run_id)
    for one in (*runs, *parts):
        assert one.state in (COMPLETE, PRUNED, "FAIL"), f"{one.name} is {one.state}"
        assert tracker.client.get_run(one.run_id).info.status == STATUS[one.state]
        assert one.state != "FAIL" or one.tags["mmtune.reason"]
    well = [one for one in runs if one.state in (COMPLETE, PRUNED)]
    assert len({one.number for one in well}) == len(well), "a trial is there twice"
    for one in well:
        check_trial(tracker, one, epochs)
    if parent.key.folds or parent.key.repeats > 1:
        check_parts(tracker, well, parts, parent, epochs)
    check_search(attempts_of(tracker, parent), well)
    return well


def check_parts(
    tracker: MlflowTracker, well: Sequence[TrialRun], parts: Sequence[TrialRun], parent: StudyRun, epochs: int
) -> None:
    """Every part of a complete trial ended well once, is whole and belongs to it; of a pruned one some did."""
    wanted = parts_of(parent.key.folds, parent.key.repeats)
    for trial in well:
        own = [part for part in parts if part.tags[PARENT] == trial.run_id and part.state == COMPLETE]
        places = [part_of(part.tags) for part in own]
        assert len(places) == len(set(places)), f"{trial.name} has a part twice"
        assert set(places) == set(wanted) or (trial.state == PRUNED and 0 < len(places) < len(wanted))
        for part in own:
            check_trial(tracker, part, epochs)
    owners = {trial.run_id for trial in well}
    placed = [(p.number, part_of(p.tags)) for p in parts if p.state == COMPLETE and p.tags[PARENT] in owners]
    assert len(placed) == len(set(placed)), "a part is there twice"


def check_trial(tracker: MlflowTracker, trial: TrialRun, epochs: int) -> None:
    """It has each of its epochs once, and files that load."""
    losses = tracker.curves(trial.run_id, ("val_loss",))["val_loss"]
    trained = epochs if trial.state == COMPLETE or UNITS in trial.metrics else int(trial.metrics["epochs_trained"])
    assert [epoch for epoch, _ in losses] == list(range(1, trained + 1))
    load_model(tracker.artifact(trial.run_id, "model"))
    assert tracker.artifact(trial.run_id, "validation.npz").stat().st_size > 0


def search_of(parent: StudyRun) -> Search:
    """The empty search of a study of mmtune's own, as its key has it."""
    key, study = parent.key, load_study(parent.key.study)
    base = with_fixed(study, dict(key.fixed), key.epochs)
    made = schedule(study, key.sampler, base, dict(key.fixed), epochs=key.epochs)
    divided = len(parts_of(key.folds, key.repeats)) > 1
    return Search(
        made.space, flatten(base), rungs(key.epochs) if key.prune and not divided else (), key.prune and divided
    )


def attempts_of(tracker: MlflowTracker, parent: StudyRun) -> Sequence[Attempt]:
    """Every attempt that a search made anew from the runs of a study knows."""
    search, trials, parts = search_of(parent), tracker.trials(parent.run_id), tracker.parts(parent.run_id)
    standing = Standing(ended=trials, parts=parts, staged=[], states={})
    rebuild(search, standing, tracker, parts_of(parent.key.folds, parent.key.repeats))
    assert [trial.state.name for trial in search.study.trials] == [own.state for own in search.attempts()]
    return search.attempts()


def check_search(attempts: Sequence[Attempt], well: Sequence[TrialRun]) -> None:
    """The search and the tracker say the same of the same trials."""
    assert "RUNNING" not in {attempt.state for attempt in attempts}
    ended = {a.index: (a.state, a.score) for a in attempts if a.ended_well}
    assert len(ended) == sum(a.ended_well for a in attempts)
    assert ended == {t.number: (t.state, t.metrics[OBJECTIVE] if t.state == COMPLETE else None) for t in well}


def states_of(store: Path, study: str = "audio_rnn") -> dict[str, str]:
    """By run, the state of every attempt at a trial or a part of the one study of a name."""
    tracker = MlflowTracker(store)
    (parent,) = tracker.studies(study)
    return {run.run_id: run.state for run in (*tracker.trials(parent.run_id), *tracker.parts(parent.run_id))}


def done_in(store: Path, study: str = "audio_rnn") -> set[str]:
    """The runs of trials and parts that are complete in a store which has just been left."""
    return {run_id for run_id, state in states_of(store, study).items() if state == COMPLETE}


def staged(store: Path) -> list[Path]:
    """The folders of what is in staging, of trials and of their parts."""
    return sorted(path.parent for path in (store / "staging").rglob("run.json"))


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
    names = [name for name in trial.metrics if "best" not in name and not name.startswith(("fit_", "rows_"))]
    curves = {name: points for name, points in tracker.curves(trial.run_id, names).items() if "seconds" not in name}
    folder = tracker.artifact(trial.run_id, "model")
    return {
        "number": trial.number,
        "state": trial.state,
        "params": trial.params,
        "tags": {name: trial.tags.get(name) for name in tags},
        "metrics": {n: v for n, v in metrics.items() if "seconds" not in n},
        "curves": curves,
        "weights": {p.name: p.read_bytes() for p in sorted(folder.iterdir())} if folder.exists() else {},
    }

"""Folds and repeats: pure sums first, then a study in parts, undisturbed, killed, failing and far behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from processes import children
from rich.console import Console
from tracked import OBJECTIVE

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import folds, rotated
from mmtune.networks.storage import load_model
from mmtune.study import load_study
from mmtune.study.options import Options
from mmtune.tracking import COMPLETE, FAIL, PRUNED, MlflowTracker, TrialRun
from mmtune.train.objective import MACRO_F1
from mmtune.tune.parts import Part, best_part, parts_of, spread, units
from mmtune.tune.run import run_study

QUIET = Console(quiet=True)
SCORES = {
    Part(fold=f, repeat=r): {OBJECTIVE: 0.5 + 0.1 * f + 0.01 * r, "held_accuracy": 0.3} for f in (0, 1) for r in (0, 1)
}


def test_the_parts_of_a_trial() -> None:
    assert parts_of(0, 1) == (Part(),)
    assert parts_of(2, 2) == tuple(SCORES)
    assert [part.repeat for part in parts_of(0, 3)] == [0, 1, 2]


def test_repeats_of_a_fold_count_as_their_mean_or_as_the_best_by_validation() -> None:
    assert [unit[OBJECTIVE] for unit in units(SCORES, "mean", MACRO_F1)] == pytest.approx([0.505, 0.605])
    assert [unit[OBJECTIVE] for unit in units(SCORES, "best", MACRO_F1)] == pytest.approx([0.51, 0.61])
    one_fold = {part: metrics for part, metrics in SCORES.items() if part.fold == 0}
    assert [unit[OBJECTIVE] for unit in units(one_fold, "mean", MACRO_F1)] == pytest.approx([0.5, 0.51])
    assert [unit[OBJECTIVE] for unit in units(one_fold, "best", MACRO_F1)] == pytest.approx([0.51])
    assert best_part(SCORES, MACRO_F1) == Part(fold=1, repeat=1)


def test_a_trial_says_mean_deviation_and_interval() -> None:
    said = spread(units(SCORES, "mean", MACRO_F1), MACRO_F1)
    assert said[OBJECTIVE] == pytest.approx(0.555)
    assert said[f"{OBJECTIVE}_sd"] == pytest.approx(np.std([0.505, 0.605], ddof=1))
    assert said[f"{OBJECTIVE}_low"] < said[OBJECTIVE] < said[f"{OBJECTIVE}_high"]
    assert f"{OBJECTIVE}_sd" not in spread(units({Part(): SCORES[Part()]}, "mean", MACRO_F1), MACRO_F1)


@pytest.mark.parametrize("protocol", ["as_reported", "clip_disjoint", "speaker_disjoint"])
def test_rotated_folds_hold_every_row_out_once_and_choose_by_other_rows(tiny: Dataset, protocol: str) -> None:
    made = rotated(folds(tiny.train, protocol, 4, seed=0))
    held = np.concatenate([split.held for split in made if split.held is not None])
    assert np.array_equal(np.sort(held), np.arange(len(tiny.train)))
    for split in made:
        assert split.held is not None
        sides = [set(split.train.tolist()), set(split.validation.tolist()), set(split.held.tolist())]
        assert sum(map(len, sides)) == len(set.union(*sides)) == len(tiny.train)
        recordings = tiny.train.groups["recording"]
        clips = [set(recordings[sorted(side)].tolist()) for side in sides]
        assert protocol == "as_reported" or not (clips[0] & clips[2] or clips[0] & clips[1] or clips[1] & clips[2])
    with pytest.raises(InputError, match="folds must be a whole number from 3"):
        rotated(folds(tiny.train, protocol, 2, seed=0))


def run(dataset: Dataset, store: Path, **changes: object) -> tuple[list[TrialRun], list[TrialRun], MlflowTracker]:
    """The trials and the parts of a small cross-validated study."""
    usual: dict[str, object] = {"folds": 3, "repeats": 2, "epochs": 2, "trials": 2, "workers": 2, "device": "cpu"}
    options = Options(**{**usual, **changes})  # type: ignore[arg-type]
    assert run_study(load_study("audio_rnn"), dataset, options, store, QUIET) is not None
    tracker = MlflowTracker(store)
    (study,) = tracker.studies("audio_rnn")
    assert study.status == "FINISHED"
    return tracker.trials(study.run_id), tracker.parts(study.run_id), tracker


def test_a_trial_in_parts_is_the_sum_of_its_runs(tiny: Dataset, store: Path) -> None:
    trials, parts, tracker = run(tiny, store)
    assert [(trial.number, trial.state) for trial in trials] == [(0, COMPLETE), (1, COMPLETE)]
    for trial in trials:
        own = [part for part in parts if part.tags["mlflow.parentRunId"] == trial.run_id]
        assert [part.state for part in own] == [COMPLETE] * 6
        for name in (OBJECTIVE, "held_macro_f1", "held_accuracy"):
            assert trial.metrics[name] == pytest.approx(np.mean([part.metrics[name] for part in own]))
            by_fold = [value for _, value in tracker.curves(trial.run_id, (f"unit_{name}",))[f"unit_{name}"]]
            assert trial.metrics[f"{name}_sd"] == pytest.approx(np.std(by_fold, ddof=1))
            assert len(by_fold) == 3
        curves = tracker.curves(trial.run_id, ("val_loss",))["val_loss"]
        first = [tracker.curves(part.run_id, ("val_loss",))["val_loss"][0][1] for part in own]
        assert [epoch for epoch, _ in curves] == [1, 2]
        assert curves[0][1] == pytest.approx(np.mean(first))
        best = max(own, key=lambda part: part.metrics[OBJECTIVE])
        chosen = load_model(tracker.artifact(trial.run_id, "model")).model
        expected = load_model(tracker.artifact(best.run_id, "model")).model
        assert all(a.equal(b) for a, b in zip(chosen.parameters(), expected.parameters(), strict=True))
        with np.load(tracker.artifact(best.run_id, "held.npz")) as file:
            held = float((file["label"] == file["prediction"]).mean())
        assert best.metrics["held_accuracy"] == pytest.approx(held)


@pytest.mark.slow
def test_a_part_does_not_depend_on_its_neighbours(
    tiny: Dataset, store: Path, tmp_path: Path, store_template: Path
) -> None:

    _, two, _ = run(tiny, store, trials=1)
    other = Path(shutil.copytree(store_template, tmp_path / "other"))
    _, one, _ = run(tiny, other, trials=1, workers=1)
    key = ("mmtune.fold", "mmtune.repeat")
    first, second = ({tuple(p.tags[k] for k in key): p.metrics[OBJECTIVE] for p in parts} for parts in (two, one))
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_cross_validation_keeps_the_parts_that_were_done(
    tiny: Dataset, store: Path, number: signal.Signals
) -> None:
    words = ["study", "audio_rnn", "--data", str(tiny.folder), "--store", str(store), "--epochs", "2", "--folds", "3"]
    words += ["--repeats", "2", "--trials", "2", "--workers", "1", "--device", "cpu"]
    process = subprocess.Popen([sys.executable, "-m", "mmtune.cli", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    next(line for line in process.stdout if line.startswith("[3/12]"))
    os.kill(process.pid, number)
    process.communicate(timeout=100)
    tracker = MlflowTracker(store)
    (study,) = tracker.studies("audio_rnn")
    begun = {run.run_id for run in [*tracker.trials(study.run_id), *tracker.parts(study.run_id)]}
    before = {part.run_id for part in tracker.parts(study.run_id) if part.state == COMPLETE}
    trials, parts, _ = run(tiny, store)
    assert before <= {p.run_id for p in parts if p.state == COMPLETE}
    complete = [p for p in parts if p.state == COMPLETE]
    places = [(p.number, p.tags["mmtune.fold"], p.tags["mmtune.repeat"]) for p in complete]
    assert len(places) == len(set(places)) == 12
    owners = {t.run_id for t in trials if t.state == COMPLETE}
    assert {p.tags["mlflow.parentRunId"] for p in complete} == owners
    # What was cut short has gone on in its own run.
    assert {run.state for run in [*trials, *parts]} == {COMPLETE}
    assert begun <= {run.run_id for run in [*trials, *parts]}


@pytest.mark.slow
def test_a_part_is_retried_once_and_then_fails_its_trial_alone(tiny: Dataset, store: Path) -> None:
    words = ["study", "audio_rnn", "--data", str(tiny.folder), "--store", str(store), "--epochs", "40", "--folds", "3"]
    words += ["--trials", "2", "--workers", "1", "--device", "cpu"]
    process = subprocess.Popen([sys.executable, "-m", "mmtune.cli", *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(2):
        next(line for line in process.stdout if "trial 00" in line and "fold 1: started" in line)
        os.kill(worker_of(process.pid), signal.SIGKILL)
    rest, _ = process.communicate(timeout=120)
    assert "1 of 2 trials failed" in rest
    tracker = MlflowTracker(store)
    (study,) = tracker.studies("audio_rnn")
    first, second = tracker.trials(study.run_id)
    assert (first.state, second.state) == (FAIL, COMPLETE)
    assert first.tags["mmtune.reason"] == "worker was killed by SIGKILL"
    states = [part.state for part in tracker.parts(study.run_id) if part.number == 0]
    assert states == [FAIL, FAIL]
    assert [part.state for part in tracker.parts(study.run_id) if part.number == 1] == [COMPLETE] * 3


def worker_of(pid: int) -> int:
    """The one worker process of a coordinator, which may take a moment to be there."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if workers := children(pid):
            return workers[0]
        time.sleep(0.05)
    raise AssertionError("no worker")


@pytest.mark.slow
def test_a_hopeless_trial_is_stopped_before_its_last_fold(tiny: Dataset, store: Path) -> None:
    trials, parts, _ = run(tiny, store, sampler="random", folds=6, repeats=1, epochs=6, trials=5, seed=1)
    pruned = [trial for trial in trials if trial.state == PRUNED]
    assert pruned
    for trial in pruned:
        own = [part for part in parts if part.number == trial.number]
        assert 4 <= len(own) < 6
    best = max(trial.metrics[OBJECTIVE] for trial in trials if trial.state == COMPLETE)
    assert all(trial.metrics[OBJECTIVE] < best for trial in pruned)


def test_encoders_that_saw_the_held_rows_are_refused(tiny: Dataset, store: Path) -> None:
    with pytest.raises(InputError, match="--folds must be 0 where latent_fusion starts from trained encoders"):
        run_study(load_study("latent_fusion"), tiny, Options(folds=3), store, QUIET)

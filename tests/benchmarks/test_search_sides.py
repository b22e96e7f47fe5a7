"""Time to an answer is read from what a side has left, by laws that hold for whatever it left."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from torch import nn

from benchmarks import search
from benchmarks.cases import data_set
from benchmarks.command import IncompleteError
from benchmarks.results import keep
from benchmarks.rivals.asked import Asked
from benchmarks.rivals.training import EPOCHS, Journal, class_weights, evaluate, read_journal, saved
from benchmarks.search_run import Watch, measured, proportional, trials, without_folders
from benchmarks.search_table import NOT_REACHED, improvements, pooled_sd, seconds_to, table, targets
from mmtune.data.dataset import Dataset

POINTS = st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1)), max_size=30)
BESTS = st.dictionaries(
    st.sampled_from(["mmtune", "ray", "plain"]),
    st.dictionaries(st.integers(0, 4), st.floats(0, 1), min_size=1),
    min_size=1,
)
LINUX = pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is read from /proc")


@given(POINTS, st.floats(0, 1))
def test_improvements_say_when_a_target_was_reached_as_all_points_do(
    points: list[tuple[float, float]], target: float
) -> None:
    found = improvements(points)
    assert seconds_to(found, target) == seconds_to(points, target)
    assert [score for _, score in found] == sorted({score for _, score in found})
    assert [seconds for seconds, _ in found] == sorted(seconds for seconds, _ in found)
    assert max((score for _, score in points), default=None) == (found[-1][1] if found else None)


@given(POINTS, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_target_is_never_reached_sooner(points: list[tuple[float, float]], one: float, other: float) -> None:
    assert seconds_to(points, min(one, other)) <= seconds_to(points, max(one, other))
    assert seconds_to(points, 1.1) == math.inf


@given(BESTS, st.floats(-1, 1))
def test_deviations_are_those_within_sides(bests: dict[str, dict[int, float]], moved: float) -> None:
    alone = {"mmtune": next(iter(bests.values()))}
    own = list(alone["mmtune"].values())
    assert pooled_sd(alone) == pytest.approx(statistics.stdev(own) if len(own) > 1 else 0.0)
    first, *_ = bests
    other = {**bests, first: {seed: best + moved for seed, best in bests[first].items()}}
    assert pooled_sd(other) == pytest.approx(pooled_sd(bests), abs=1e-9)


@given(BESTS)
def test_the_side_with_the_best_of_a_seed_reaches_its_target(bests: dict[str, dict[int, float]]) -> None:
    wanted = targets(bests)
    assert set(wanted) == {seed for own in bests.values() for seed in own}
    for seed, target in wanted.items():
        assert any(own.get(seed, -1.0) >= target for own in bests.values())


def entry(side: str, seed: int, timeline: list[tuple[float, float]]) -> dict[str, Any]:
    """A run of a side that ended ten seconds after its best score."""
    machine = {"processor": "a chip", "cores": 2, "system": "Linux", "python": "3", "commit": "c" * 40}
    asked = {"study": "audio_rnn", "fix": ["view=step"], "trials": 2, "epochs": 3, "seed": seed}
    made = {"date": "2000-01-01", "machine": {**machine, "versions": {"torch": "2", "ray": ""}}}
    took = {"seconds": timeline[-1][0] + 10, "peak_bytes": 5e8, "others": 0.0, "epochs": 6, "trials": [{}, {}]}
    scores = {"best": timeline[-1][1], "held_out": 0.5, "timeline": timeline}
    return {**made, "data": "sample", "rows": 300, "side": side, "asked": asked, **took, **scores}


def test_the_page_has_every_side_by_its_median(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    for seed, late in enumerate((20.0, 40.0, 30.0)):
        keep(path, "runs", f"mmtune {seed}", entry("mmtune", seed, [(5.0, 0.2), (late, 0.9)]), table)
        keep(path, "runs", f"plain {seed}", entry("plain", seed, [(9.0, 0.3), (8 * late, 0.9)]), table)
        keep(path, "runs", f"ray {seed}", entry("ray", seed, [(7.0, 0.4)]), table)
    kill = {"side": "ray", "full_seconds": 50, "killed_after": 25, "seconds": 80.4, "cost": 30.4}
    told = {"epochs": 90, "wasted": 7, "running_own": 1, "running_mlflow": 2}
    keep(path, "kills", "ray", {**kill, **told}, table)
    page = path.with_suffix(".md").read_text()
    assert "0.9000 (seed 0), 0.9000 (seed 1), 0.9000 (seed 2); pooled sd 0.0000" in page
    assert "| `mmtune` | 40 | 30.0 | 3 of 3 | 1.00 | 0.12 |" in page
    assert "| `plain` | 250 | 240.0 | 3 of 3 | 8.00 | 1.00 |" in page
    assert f"| `ray` | 17 | {NOT_REACHED} | 0 of 3 | - | - |" in page
    assert "| `ray` | 50 | 25 | 80 | 30 | 90 | 7 | 1 | 2 |" in page
    assert "torch 2; commit" in page  # a package that is not there has no version


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1)), max_size=20))
def test_trials_are_told_by_their_epochs(scores: list[tuple[str, float]]) -> None:
    epochs = [{"trial": name, "epoch": 1, "time": 100.0 + n, "score": own} for n, (name, own) in enumerate(scores)]
    found = trials(epochs, {"a": "COMPLETE"}, 100.0)
    assert sum(trial["epochs"] for trial in found) == len(scores)
    assert max((trial["best"] for trial in found), default=0.0) == max((own for _, own in scores), default=0.0)
    assert all((trial["state"] == "COMPLETE") == (trial["trial"] == "a") for trial in found)
    assert max((trial["end"] for trial in found), default=-1.0) == len(scores) - 1


def asked_of(folder: Path, data: Path, **other: Any) -> Asked:
    told = {"study": "audio_rnn", "fix": ("view=step",), "data": str(data), "root": str(folder), "seed": 0}
    return Asked(**{**told, "trials": 2, "epochs": 2, **other})


def test_a_journal_gives_the_epochs_and_the_best_weights_back(tmp_path: Path) -> None:
    asked = asked_of(tmp_path, tmp_path)
    assert Asked.read(asked.to_json()) == asked
    values = {"model.hidden": 320, "model.layers": 1, "train.learning_rate": 0.01}
    journal, model = Journal(asked, "0", values), nn.Linear(1, 1)
    for n, score in enumerate((0.5, 0.7, 0.6), start=1):
        nn.init.constant_(model.weight, score)
        journal.epoch(model, n, score)
    with (tmp_path / EPOCHS).open("a") as file:
        file.write('{"trial": "1", "epo')
    assert [(own["trial"], own["epoch"], own["score"]) for own in read_journal(tmp_path)] == [
        ("0", 1, 0.5),
        ("0", 2, 0.7),
        ("0", 3, 0.6),
    ]
    kept = torch.load(journal.weights)
    assert kept["values"] == values
    assert float(kept["weights"]["weight"]) == pytest.approx(0.7)
    with pytest.raises(RuntimeError):
        saved(asked, "0")  # these weights are of another network
    assert asked.config(values).train.learning_rate == 0.01


def test_the_rivals_score_and_weigh_as_scikit_learn_does() -> None:
    labels = torch.tensor([0, 0, 0, 1, 1, 2])
    assert class_weights(labels).tolist() == pytest.approx([6 / 9, 1.0, 2.0])
    inputs = torch.rand(3000, 3, generator=torch.Generator().manual_seed(0))
    wanted = torch.arange(3000) % 3
    found = evaluate(nn.Identity(), (inputs, wanted))
    assert found["val_macro_f1"] == pytest.approx(f1_score(wanted, inputs.argmax(1), average="macro"))
    assert found["val_accuracy"] == pytest.approx(float((inputs.argmax(1) == wanted).double().mean()))


def test_seeds_and_sides_are_named_or_counted() -> None:
    assert search.seeds("3") == (0, 1, 2)
    assert search.seeds("1,2") == (1, 2)
    assert search.seeds("2,") == (2,)
    assert search.sides("ray, mmtune plain") == ("ray", "mmtune", "plain")
    for text in ("0", "", "a", "-1"):
        with pytest.raises(argparse.ArgumentTypeError):
            search.seeds(text)
    with pytest.raises(argparse.ArgumentTypeError, match="must be of mmtune, ray"):
        search.sides("mmtune hyperopt")


def test_a_side_without_its_package_is_said_and_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(search, "find_spec", lambda name: None)
    assert search.present(("mmtune", "ray", "syne", "plain")) == ["mmtune", "plain"]
    said = capsys.readouterr().out
    assert "ray is left out" in said
    assert "syne is left out" in said


def test_a_set_keeps_its_test_partition_where_that_is_asked_for(tiny: Dataset) -> None:
    with data_set(tiny.folder, 100, held_out=True) as dataset:
        test = tiny.require_test()
        assert np.array_equal(dataset.require_test().labels, test.labels)
        assert len(dataset.train) == 100


def test_a_side_is_killed_only_when_it_is_known_how_long_it_takes(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["search", "--kill", "--sides", "optuna", "--data", str(tiny.folder), "--rows", "100"]
    monkeypatch.setattr(sys, "argv", [*words, "--out", str(tmp_path / "r.json")])
    with pytest.raises(SystemExit) as ended:
        search.main()
    assert ended.value.code == 1
    assert "optuna must first be run with seed 0" in capsys.readouterr().out


@LINUX
def test_a_process_and_what_it_started_are_killed_together() -> None:
    inner = "import os, time; os.setsid(); x = bytearray(50_000_000); time.sleep(60)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    process = subprocess.Popen([sys.executable, "-c", outer], start_new_session=True)
    watch, end = Watch(pid=process.pid), time.monotonic() + 20
    while watch.peak_bytes < 50e6 and time.monotonic() < end:
        watch.look()
        time.sleep(0.05)
    assert len(watch.began) >= 2
    assert 50e6 < watch.peak_bytes < 200e6
    watch.kill()
    assert process.wait(timeout=10) < 0
    # The system may take a moment to take away what a process had.
    while any(proportional(pid) for pid in watch.began) and time.monotonic() < end + 30:
        time.sleep(0.05)
    assert not any(proportional(pid) for pid in watch.began)


@pytest.mark.slow
@LINUX
@pytest.mark.parametrize("side", ["mmtune", "optuna"])
def test_a_side_leaves_what_the_page_needs(side: str, tmp_path: Path) -> None:
    with data_set(None, 300, held_out=True) as dataset:
        found = measured(side, asked_of(tmp_path, dataset.folder))
        made = search.made(dataset)
    assert len(found["trials"]) == 2
    assert found["epochs"] == sum(trial["epochs"] for trial in found["trials"]) <= 4
    assert {trial["state"] for trial in found["trials"]} <= {"COMPLETE", "PRUNED"}
    assert found["best"] == max(trial["best"] for trial in found["trials"]) == found["timeline"][-1][1]
    assert all(0 < seconds < found["seconds"] for seconds, _ in found["timeline"])
    assert max(seconds for seconds, _ in found["timeline"]) <= max(trial["end"] for trial in found["trials"])
    assert 0 <= found["held_out"] <= 1
    assert found["peak_bytes"] > 1e8
    assert found["asked"] == without_folders(asked_of(tmp_path, tmp_path))
    path = tmp_path / "r.json"
    keep(path, "runs", f"{side} 0", {**made, **found}, table)
    assert str(tmp_path) not in path.read_text()
    assert json.loads(path.read_text())["runs"][f"{side} 0"]["side"] == side
    assert f"| `{side}` |" in path.with_suffix(".md").read_text()


@pytest.mark.slow
def test_a_side_that_fails_says_why(tiny: Dataset, tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match=r"(?s)optuna with seed 0 ended with code 1.*InputError"):
        measured("optuna", asked_of(tmp_path, tiny.folder / "nothing"))

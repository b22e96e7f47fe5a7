"""A study by two metrics: killed and gone on with it makes the same trials, and its front keeps its files."""

from __future__ import annotations

from pathlib import Path

import pytest
from pretend import World

from mmtune.data.dataset import Dataset
from mmtune.networks.card import MODEL
from mmtune.study.options import Options
from mmtune.tracking import COMPLETE, REMOVED, MlflowTracker, TrialRun, front_trials
from mmtune.train.objective import objective_of

TRIALS = 16
TWO = objective_of(("macro_f1", "parameters"))
STUDY = """
from dataclasses import replace

from mmtune.study import load_study

STUDY = replace(load_study("audio_rnn"), name="sizes", objective=("macro_f1", "parameters"), grid=None)
"""


def made(folder: Path, tiny: Dataset, store: Path, **how: object) -> World:
    (folder / "sizes.py").write_text(STUDY)
    options = Options(**{"trials": TRIALS, "epochs": 3, "workers": 1, "device": "cpu", "sampler": "tpe", **how})  # type: ignore[arg-type]
    return World(dataset=tiny, store=store, study=str(folder / "sizes.py"), options=options)


def trials_of(store: Path) -> list[TrialRun]:
    tracker = MlflowTracker(store)
    return tracker.trials(tracker.studies("sizes")[0].run_id)


def told(trials: list[TrialRun]) -> list[tuple[int, str, tuple[float, ...]]]:
    return [(own.number, own.tags["mmtune.drawn"], TWO.values(own.metrics)) for own in trials if own.state == COMPLETE]


@pytest.mark.parametrize("folds", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_killed_and_gone_on_with_it_draws_the_same_and_has_the_same_front(
    tiny: Dataset, store: Path, tmp_path: Path, folds: int
) -> None:
    world = made(tmp_path, tiny, store, folds=folds)
    for number, epoch in ((4, 2), (12, 1), (15, 4)):
        world.killed_at(epoch, number * max(folds, 1))
    gone_on = world.call()
    calm = made(tmp_path, tiny, tmp_path / "calm", folds=folds)
    undisturbed = calm.call()
    assert told(trials_of(store)) == told(trials_of(calm.store))
    assert len(told(trials_of(store))) == TRIALS
    assert gone_on is not None
    assert undisturbed is not None
    assert [trial.number for trial in gone_on.front] == [trial.number for trial in undisturbed.front]
    assert len(gone_on.front) > 1
    assert world.call().front == gone_on.front  # type: ignore[union-attr]


def test_the_front_keeps_its_files_beside_the_best(tiny: Dataset, store: Path, tmp_path: Path) -> None:
    world = made(tmp_path, tiny, store, keep="best:1", sampler="random")
    world.killed_at(2, 9)
    outcome = world.call()
    assert outcome is not None
    trials, tracker = trials_of(store), MlflowTracker(store)
    front = {trial.number for trial in front_trials(trials, TWO)}
    assert front == {trial.number for trial in outcome.front}
    assert outcome.best is not None
    assert outcome.best.number == outcome.front[0].number
    complete = [trial for trial in trials if trial.state == COMPLETE]
    assert {trial.number for trial in complete if REMOVED not in trial.tags} == front
    assert {trial.number for trial in complete if tracker.has_artifact(trial.run_id, MODEL)} == front
    assert 1 < len(front) < TRIALS

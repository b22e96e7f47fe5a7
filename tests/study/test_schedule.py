"""What trials a study has: enumerated, drawn, listed by name, or in phases around the best so far."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tracked import OBJECTIVE

from mmtune.base.errors import InputError
from mmtune.base.fields import flatten, replace_path
from mmtune.data.dataset import Dataset
from mmtune.serve.scoring import score_test
from mmtune.study import load_study
from mmtune.study.definition import schedule
from mmtune.study.options import Options
from mmtune.study.schedule import GridPhase, Phased, RandomPhase, RefinePhase, Tries, enumerated, scaled
from mmtune.study.space import Categorical, Integer, Real, Space, one_of
from mmtune.tracking import COMPLETE, MlflowTracker, TrialRun
from mmtune.train.checkpoint import load_checkpoint
from mmtune.tune.run import run_study
from mmtune.tune.search import Attempt, Given, Search

SPACE: Space = (
    Real(path="rate", low=1e-4, high=1e-1, log=True, source=""),
    Categorical(path="batch", values=(16, 32), source=""),
    Integer(path="layers", low=1, high=3, source=""),
)
BASE = {"rate": 0.01, "batch": 32, "layers": 2}
PHASED = Phased(
    space=SPACE,
    phases=(
        GridPhase(values={"rate": (0.01, 0.001), "batch": (16, 32)}),
        RandomPhase(paths=("layers",), trials=2),
        RefinePhase(factors=({"rate": 0.5}, {"rate": 1e6}, {"layers": 2.0})),
    ),
    base=BASE,
)


def attempt(index: int, score: float | None, **values: object) -> Attempt:
    state = "COMPLETE" if score is not None else "FAIL"
    whole = {**BASE, **values}
    return Attempt(index=index, values=whole, state=state, scores=() if score is None else (score,))


def test_a_grid_is_every_combination_once_the_last_path_fastest() -> None:
    made = enumerated({"a": (1, 2), "b": ("x", "y")})
    assert [tuple(point.values()) for point in made.points] == [(1, "x"), (1, "y"), (2, "x"), (2, "y")]
    assert enumerated({}).points == ({},)


def test_phases_wait_for_those_before_them_and_build_on_the_best() -> None:
    assert PHASED.trials == 9
    assert [list(PHASED.needs(index)) for index in (0, 3, 4, 6)] == [[], [], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]]
    assert PHASED.draw(2, ()).given == {**BASE, "rate": 0.001, "batch": 16}
    ended = [attempt(0, 0.5, batch=16), attempt(1, 0.7, batch=16, rate=0.02), attempt(2, None)]
    random = PHASED.draw(4, ended)
    assert (random.given, random.sampler) == ({"rate": 0.02, "batch": 16}, "random")
    later = [*ended, attempt(4, 0.9, layers=3), attempt(7, 1.0, rate=0.05)]
    assert PHASED.draw(6, later).given == {**BASE, "layers": 3, "rate": 0.005}
    assert PHASED.draw(7, later).given["rate"] == 0.1
    assert PHASED.draw(8, later).given["layers"] == 3


def test_a_refinement_stays_in_the_range_of_its_choice() -> None:
    rate, batch, layers = SPACE
    assert scaled(rate, 0.01, 0.5) == 0.005
    assert scaled(rate, 0.01, 1e-9) == 1e-4
    assert scaled(batch, 16, 1.9) == 32
    assert (scaled(layers, 2, 1.4), scaled(layers, 2, 9.0)) == (3, 3)


def test_a_try_that_goes_on_from_another_waits_for_it() -> None:
    made = Tries(tries={"one": {}, "two": {}, "three": {}}, going_on={"three": "one"})
    assert [list(made.needs(index)) for index in range(3)] == [[], [], [0]]
    assert made.resumes(2) == 0
    assert made.draw(1, ()).given == {"try": "two"}


def test_a_study_without_such_trials_is_refused() -> None:
    study = load_study("audio_rnn")
    for sampler in ("tries", "phases"):
        with pytest.raises(InputError, match=f"study audio_rnn has no trials with --sampler {sampler}"):
            schedule(study, sampler, study.base, {})
    assert schedule(study, "reported", study.base, {}).trials == 1
    ladder = load_study("multihead_fusion")
    with pytest.raises(InputError, match="has no trials with --sampler grid"):
        schedule(ladder, "grid", ladder.base, {})


def test_a_phase_over_whole_networks_gives_each_the_values_that_it_begins_with() -> None:
    own = {"a": (Categorical(path="width", values=(1, 2)),), "b": (Categorical(path="kernel", values=(3, 5)),)}
    space = one_of("net", own)
    base = {"net.chosen": "a", "net.options.a.width": 1, "net.options.b.kernel": 3}
    phased = Phased(space=space, phases=(GridPhase(values={"net.chosen": ("a", "b")}),), base=base)
    search = Search(space, base)
    made = [search.ask(index, [Given(phased.draw(index, ()).given)]) for index in range(2)]
    assert made == [{"net.chosen": "a", "net.options.a.width": 1}, {"net.chosen": "b", "net.options.b.kernel": 3}]


def test_a_fixed_choice_leaves_the_phases() -> None:
    study = load_study("spectrogram_fusion")
    whole = schedule(study, "phases", study.base, {})
    fixed = schedule(study, "phases", study.base, {"train.batch_size": 32, "model.hidden": 64})
    assert whole.trials - fixed.trials == 6 + 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"going_on": {"try_2": "try_9"}}, "try_2 must go on from a try before it, got 'try_9'"),
        ({"going_on": {"try_x": "try_1"}}, "try_x must go on from a try before it"),
        ({"grid": {"model.width": (3, 64)}}, "model.width must be in {64, 128}, got 3"),
        ({"phases": (RefinePhase(factors=({"model.weidth": 2.0},)),)}, "model.weidth is varied, so it must be in"),
        ({"phases": (RandomPhase(paths=("train.batch_size",), trials=1),)}, "train.batch_size is varied"),
    ],
)
def test_a_study_that_cannot_be_run_through_is_refused_when_it_is_loaded(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refusal:
        replace(load_study("multihead_fusion"), **changes)
    assert said in str(refusal.value)


def test_a_try_that_others_go_on_from_keeps_its_last_epoch() -> None:
    study = load_study("multihead_fusion")
    with pytest.raises(InputError, match="try_6 goes on from try_5, so keep_final must be True, got False"):
        schedule(study, "tries", study.base, {"train.keep_final": False})


def test_edited_tries_phases_or_settings_make_another_study(tiny: Dataset, store: Path) -> None:
    study = load_study("audio_rnn")
    options = Options(sampler="reported", epochs=1, workers=1, device="cpu")
    run_study(study, tiny, options, store, Console(quiet=True))
    edited = replace(study, base=replace_path(study.base, "train.learning_rate", 0.002))
    with pytest.raises(
        InputError, match=r"it was \[train.learning_rate=0.0001\], now it is \[train.learning_rate=0.002\]"
    ):
        run_study(edited, tiny, options, store, Console(quiet=True))
    ladder, phased = load_study("multihead_fusion"), load_study("spectrogram_fusion")
    lines = schedule(ladder, "tries", ladder.base, {}).lines()
    changed = schedule(ladder, "tries", ladder.base, {"model.width": 128}).lines()
    assert len(lines) == 14
    assert sum(own != other for own, other in zip(lines, changed, strict=True)) == 12
    assert (
        schedule(phased, "phases", phased.base, {}).lines()
        != schedule(phased, "phases", phased.base, {"model.hidden": 64}).lines()
    )


@pytest.mark.slow
def test_a_drawn_configuration_that_cannot_be_fails_alone(tiny: Dataset, store: Path) -> None:
    """Three layers leave nothing of the few frames that a long hop makes."""
    study = load_study("spectrogram_fusion")
    fixed = {"model.n_fft": 8000, "model.hop": 1600, "model.filters": 8, "model.hidden": 32}
    options = Options(sampler="random", epochs=1, trials=6, workers=2, device="cpu", fixed=fixed)
    outcome = run_study(study, tiny, options, store, Console(quiet=True))
    assert outcome is not None
    assert outcome.finished
    trials = trials_of("spectrogram_fusion", store)
    failed = [trial for trial in trials if trial.state == "FAIL"]
    assert failed
    assert all("n_fft and hop must give at least 8 frames" in trial.tags["mmtune.reason"] for trial in failed)
    assert len(trials) == 6
    assert outcome.best is not None


def trials_of(name: str, store: Path) -> list[TrialRun]:
    tracker = MlflowTracker(store)
    return tracker.trials(tracker.studies(name)[0].run_id)


@pytest.mark.slow
def test_phases_run_one_after_the_other(tiny: Dataset, store: Path) -> None:
    study = load_study("spectrogram_fusion")
    fixed = {"train.batch_size": 64, "model.filters": 8, "model.hidden": 32}
    options = Options(epochs=1, fixed=fixed, workers=2, device="cpu")
    run_study(study, tiny, options, store, Console(quiet=True))
    trials = trials_of("spectrogram_fusion", store)
    assert [trial.state for trial in trials] == [COMPLETE] * (3 + 12 + 2)
    best = max(trials[:3], key=lambda t: (t.metrics[OBJECTIVE], -t.number))
    assert {t.params["train.learning_rate"] for t in trials[3:15]} == {best.params["train.learning_rate"]}
    assert len({t.params["model.dropout"] for t in trials[3:15]}) == 12
    best = max(trials[:15], key=lambda t: (t.metrics[OBJECTIVE], -t.number))
    assert trials[15].params["train.learning_rate"] == best.params["train.learning_rate"] / 2
    assert trials[15].params["model.dropout"] == best.params["model.dropout"]
    begun = [t.started for t in trials]
    assert max(begun[:3]) <= min(begun[3:15])
    assert max(begun[3:15]) <= min(begun[15:])


@pytest.mark.slow
def test_the_sixth_try_goes_on_from_the_last_epoch_of_the_fifth(tiny: Dataset, store: Path) -> None:
    study = load_study("multihead_fusion")
    options = Options(epochs=2, trials=6, workers=2, device="cpu")
    run_study(study, tiny, options, store, Console(quiet=True))
    trials = trials_of("multihead_fusion", store)
    fifth, sixth = trials[4], trials[5]
    assert (fifth.state, sixth.state) == (COMPLETE, COMPLETE)
    assert fifth.params["model.audio_pool"] == sixth.params["model.audio_pool"]
    tracker = MlflowTracker(store)
    losses = [tracker.curves(t.run_id, ("train_loss",))["train_loss"][0][1] for t in (fifth, sixth)]
    assert losses[1] < losses[0]
    steps = [load_checkpoint(tracker.artifact(t.run_id, "final")).moments["0.step"] for t in (fifth, sixth)]
    assert float(steps[1]) == 2 * float(steps[0]) > 0
    assert flatten(study.base)["train.keep_final"]
    score_test(tracker, tracker.studies("multihead_fusion")[0].key, sixth, tiny)
    tested = tracker.trials(tracker.studies("multihead_fusion")[0].run_id)[5]
    assert {"test_accuracy", "final_test_accuracy", "final_test_macro_f1"} <= set(tested.metrics)
    rows = tracker.artifact(sixth.run_id, "submission.csv").read_text().splitlines()
    assert rows[0] == "row,class,probability,agree,set"
    digits = np.array([int(row.split(",")[1]) for row in rows[1:]])
    assert (digits == tiny.require_test().labels).mean() == pytest.approx(tested.metrics["test_accuracy"])
    assert {"final_val_macro_f1", "final_val_accuracy", "best_val_macro_f1"} <= set(fifth.metrics)

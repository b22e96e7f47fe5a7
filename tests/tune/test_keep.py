"""Which trials' files are kept: the best ones and the leaders, whatever the order in which trials end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from tracked import OBJECTIVE

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.networks.card import MODEL, VALIDATION
from mmtune.study import load_study
from mmtune.study.options import Options, parse_keep
from mmtune.tracking import COMPLETE, PRUNED, REMOVED, MlflowTracker
from mmtune.train.objective import MACRO_F1, front, objective_of
from mmtune.tune.keep import Keeper
from mmtune.tune.run import run_study
from mmtune.tune.search import Attempt

REPORTS = st.dictionaries(st.sampled_from([1, 3]), st.floats(0, 1))
TRIALS = st.lists(st.tuples(st.sampled_from([COMPLETE, PRUNED]), st.floats(0, 1), REPORTS), max_size=40)


class Dropped:
    """A recorder that notes the runs whose files are dropped."""

    def __init__(self) -> None:
        self.runs: list[int] = []

    def drop(self, runs: Sequence[int], names: Sequence[str]) -> None:
        self.runs += runs


@given(TRIALS, st.integers(1, 5))
def test_what_is_kept_is_the_best_and_whoever_leads(
    trials: list[tuple[str, float, dict[int, float]]], most: int
) -> None:
    recorder, kept = Dropped(), set()
    keeper = Keeper(most, recorder, always={7})  # type: ignore[arg-type]
    for index, (state, score, reports) in enumerate(trials):
        if keeper.keeps(index, state, (score,), reports, [index]):  # type: ignore[list-item]
            kept.add(index)
        assert set(recorder.runs) <= kept
    assert len(set(recorder.runs)) == len(recorder.runs)
    kept -= set(recorder.runs)

    def reached(index: int) -> float:
        state, score, reports = trials[index]
        return score if state == COMPLETE else reports[max(reports)] if reports else -math.inf

    ranked = sorted(range(len(trials)), key=lambda i: (trials[i][0] == COMPLETE, reached(i), -i), reverse=True)
    leads = {max((trials[i][2][rung], i) for i in range(len(trials)) if rung in trials[i][2])[1]
             for rung in (1, 3) if any(rung in own[2] for own in trials)}  # fmt: skip
    assert kept == set(ranked[:most]) | leads | ({7} & set(range(len(trials))))
    again = Keeper(most, Dropped(), always={7})  # type: ignore[arg-type]
    ended = (Attempt(index=i, state=own, scores=(score,) if own == COMPLETE else (), reports=reports)
             for i, (own, score, reports) in enumerate(trials))  # fmt: skip
    again.rebuild(ended, {index: [index] for index in kept})  # type: ignore[misc, list-item]
    assert set(again.runs) == kept


TWO = objective_of(("macro_f1", "parameters"))


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 9).map(float)), max_size=40), st.integers(1, 3))
def test_the_front_is_kept_and_what_leaves_it_is_not(scores: list[tuple[float, float]], most: int) -> None:
    recorder, kept = Dropped(), set()
    keeper = Keeper(most, recorder, objective=TWO)  # type: ignore[arg-type]
    for index, own in enumerate(scores):
        if keeper.keeps(index, COMPLETE, own, {}, [index]):  # type: ignore[list-item]
            kept.add(index)
    kept -= set(recorder.runs)
    best = sorted(range(len(scores)), key=lambda index: (-scores[index][0], index))[:most]
    assert kept == set(best) | set(front({index: TWO.ranks(own) for index, own in enumerate(scores)}))


@given(TRIALS, st.integers(1, 5))
def test_where_the_lower_is_the_better_the_same_are_kept_of_what_is_turned_round(
    trials: list[tuple[str, float, dict[int, float]]], most: int
) -> None:
    ended = []
    for sign, objective in ((1, MACRO_F1), (-1, objective_of("loss"))):
        recorder = Dropped()
        keeper = Keeper(most, recorder, objective=objective)  # type: ignore[arg-type]
        for index, (state, score, reports) in enumerate(trials):
            turned = {rung: sign * own for rung, own in reports.items()}
            keeper.keeps(index, state, (sign * score,), turned, [index])  # type: ignore[list-item]
        ended.append((recorder.runs, keeper.runs))
    assert ended[0] == ended[1]


def test_all_means_all() -> None:
    recorder = Dropped()
    keeper = Keeper(None, recorder)  # type: ignore[arg-type]
    assert all(keeper.keeps(index, COMPLETE, (index / 100,), {}, [index]) for index in range(100))  # type: ignore[list-item]
    assert recorder.runs == []


@pytest.mark.parametrize("text", ["", "best", "best:0", "best:-1", "best:x", "20", "best:1 "])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="--keep must be all or best:N"):
        parse_keep(text)


@pytest.mark.parametrize("folds", [0, pytest.param(3, marks=pytest.mark.slow)])
def test_only_the_best_trials_have_files_and_all_have_metrics(tiny: Dataset, store: Path, folds: int) -> None:
    options = Options(epochs=2, device="cpu", workers=2, keep="best:2", folds=folds)
    run_study(load_study("audio_rnn"), tiny, options, store, Console(quiet=True))
    tracker = MlflowTracker(store)
    (study,) = tracker.studies()
    trials = sorted(tracker.trials(study.run_id), key=lambda t: (-t.metrics[OBJECTIVE], t.number))
    assert len(trials) == 6
    for place, trial in enumerate(trials):
        for run in (trial, *(p for p in tracker.parts(study.run_id) if p.tags["mlflow.parentRunId"] == trial.run_id)):
            assert run.metrics[OBJECTIVE]
            assert (REMOVED in run.tags) == (place >= 2)
            for name in (MODEL, VALIDATION):
                if place < 2:
                    assert tracker.artifact(run.run_id, name).exists()
                else:
                    with pytest.raises(InputError, match="has no artifact"):
                        tracker.artifact(run.run_id, name)


def test_a_study_that_has_ended_says_that_nothing_is_trained_nor_kept_anew(tiny: Dataset, tmp_path: Path) -> None:
    options = Options(epochs=1, trials=2, device="cpu", workers=1, keep="best:1", sampler="random")
    said = StringIO()
    for keep in ("best:1", "all"):
        assert "nothing to train" not in said.getvalue()
        own = replace(options, keep=keep)
        run_study(load_study("audio_rnn"), tiny, own, tmp_path, Console(file=said, width=200))
    assert said.getvalue().count("nothing to train: every trial is there already") == 1
    tracker = MlflowTracker(tmp_path)
    (study,) = tracker.studies()
    assert [REMOVED in trial.tags for trial in tracker.trials(study.run_id)].count(True) == 1

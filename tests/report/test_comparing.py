"""Studies held against each other: on real runs, and on answers whose tests are known."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from browser import both_schemes, driven
from rich.console import Console
from scipy import stats

import mmtune
from mmtune import Metric
from mmtune.analysis.statistics import share_interval
from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.report.comparing import Answers, answers_by_trial, answers_of, compared, matching
from mmtune.report.comparison_page import write_comparison
from mmtune.study import StudyKey, load_study
from mmtune.study.options import Options
from mmtune.tracking import COMPLETE, FAIL, MlflowTracker
from mmtune.tune.parts import part_of
from mmtune.tune.run import run_study

BARS = """
  const data = (id) => document.getElementById(id).data;
  return { alone: data("rows-alone").map(({ x }) => x), accuracy: data("accuracies").at(-1).x };
"""
GENERATOR = np.random.default_rng(0)


def answers(name: str, right: np.ndarray, folds: tuple[float, ...] = (), first_row: int = 0) -> Answers:
    key = StudyKey(
        study=name, data="d", digest="x", protocol="clip_disjoint", seed=0, epochs=1, sampler="grid", folds=len(folds)
    )
    rows = np.arange(first_row, first_row + len(right))
    return Answers(key=key, row=rows, unit=rows // 10, kind="recording", right=right, folds=folds)


def test_folds_are_tested_in_pairs_and_decide() -> None:
    right = GENERATOR.random((2, 100)) < 0.8
    a, b = (0.9, 0.8, 0.95, 0.7, 0.85), (0.85, 0.79, 0.9, 0.71, 0.8)
    (found,) = compared([(answers("a", right[0], a), answers("b", right[1], b))])
    assert found.folds is not None
    assert found.folds.p_value == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert found.adjusted == found.p_value == found.folds.corrected_p > found.folds.p_value
    assert found.difference == pytest.approx(np.mean(a) - np.mean(b))
    assert found.sentence().startswith(
        "a against b (clip_disjoint, 1 epochs, 100 held-out rows, 10 recordings): 84.00%"
    )


def test_without_folds_recordings_decide_and_all_are_corrected_together() -> None:
    reference = np.zeros(100, dtype=bool)
    better, same, worse = np.ones(100, dtype=bool), reference.copy(), reference.copy()
    worse[:10] = True
    found = compared([(answers("x", own), answers("r", reference)) for own in (better, same, worse)])
    assert [own.p_value for own in found] == pytest.approx([2 * 0.5**10, 1.0, 1.0])
    assert found[0].adjusted == pytest.approx(6 * 0.5**10)
    assert found[2].rows.p_value == pytest.approx(2 * 0.5**10)
    assert "After Holm's correction p = 0.00586: significant." in found[0].sentence()
    assert found[2].sentence().endswith("not significant.")


def test_a_run_is_called_by_what_was_fixed_in_it() -> None:
    right = np.ones(20, dtype=bool)
    own = answers("a", right)
    fixed = replace(own, key=replace(own.key, fixed=(("train.epochs", 3), ("model.width", 8))), choice=" (trial 02)")
    [found] = compared([(fixed, own)])
    assert found.sentence().startswith("a (train.epochs=3, model.width=8) (trial 02) against a (clip_disjoint, ")


def test_rows_of_several_repeats_are_one_piece_of_evidence() -> None:
    better, worse = np.repeat([True] * 6 + [False] * 94, 5), np.zeros(500, dtype=bool)
    folds = tuple(GENERATOR.random(3))
    own, reference = (
        replace(answers(name, right, folds), row=np.repeat(np.arange(100), 5))
        for name, right in (("a", better), ("b", worse))
    )
    (found,) = compared([(own, reference)])
    assert found.rows.p_value == pytest.approx(2 * 0.5**6)
    assert "McNemar by row p = 0.0312" in found.sentence()


def test_the_page_says_who_is_better_and_draws_what_was_counted(tmp_path: Path) -> None:
    reference = np.zeros(100, dtype=bool)
    better, worse = np.ones(100, dtype=bool), reference.copy()
    worse[:10] = True
    said = answers("<b>r", reference)
    found = compared([(answers(name, right), said) for name, right in (("x", better), ("y", worse))])
    write_comparison(tmp_path / "deep" / "page.html", said, found)
    page = (tmp_path / "deep" / "page.html").read_text()
    words = " ".join(re.sub(r"<[^>]+>", " ", page.partition("<main>")[2].partition("<footer>")[0]).split())
    assert "x is better than &lt;b&gt;r by more than chance." in words
    assert "<b>r" not in page
    assert all(own.sentence().replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;") in words for own in found)
    drawn = driven(page, tmp_path, BARS)
    assert drawn["alone"] == [[0, 0], [100, 10]]
    assert drawn["accuracy"] == [0, 100, 10]
    both_schemes(page, tmp_path)


def test_two_of_one_name_have_each_its_own_interval(tmp_path: Path) -> None:
    right = GENERATOR.random((2, 100)) < np.array([[0.9], [0.3]])
    first, other = (answers("same", own) for own in right)
    write_comparison(tmp_path / "page.html", first, compared([(other, first)]))
    page = (tmp_path / "page.html").read_text()
    ends = [share_interval(own.right, own.unit) for own in (first, other)]
    told = [f"{100 * low:.2f} to {100 * high:.2f}" for low, high in ends]
    assert told[0] != told[1]
    assert all(page.count(own) == 1 for own in told)
    with pytest.raises(InputError, match="must be a file to write to, it is a folder"):
        write_comparison(tmp_path, first, compared([(other, first)]))


def test_other_rows_are_refused() -> None:
    right = np.ones(20, dtype=bool)
    with pytest.raises(InputError, match="must have answered the same rows"):
        compared([(answers("a", right, first_row=5), answers("b", right))])
    with pytest.raises(InputError, match="must have answered the same rows"):
        compared([(answers("a", right, (0.5, 0.6, 0.7)), answers("b", right))])


@pytest.fixture(scope="module")
def ran(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> MlflowTracker:
    """Both modalities' studies, one trial each, once on the split and once over three folds of two repeats."""
    store = tmp_path_factory.mktemp("compared") / "mlruns"
    for name in ("audio_rnn", "image_cnn"):
        for folds, repeats in ((0, 1), (3, 2)):
            options = Options(sampler="reported", epochs=2, folds=folds, repeats=repeats, workers=2, device="cpu")
            run_study(load_study(name), tiny, options, store, Console(quiet=True))
    return MlflowTracker(store)


@pytest.mark.slow
@pytest.mark.parametrize("folds", [0, 3])
def test_real_studies_are_compared_on_the_rows_that_chose_nothing(
    ran: MlflowTracker, tiny: Dataset, folds: int
) -> None:
    audio = next(run for run in ran.studies("audio_rnn") if run.key.folds == folds)
    image = matching(ran.studies("image_cnn"), audio)
    assert image.key.folds == folds
    first, second = answers_of(ran, audio, tiny), answers_of(ran, image, tiny)
    (found,) = compared([(second, first)])
    rows = len(tiny.train) if folds else len(tiny.require_test())
    assert np.array_equal(first.row, np.repeat(np.arange(rows), 2 if folds else 1))
    metric = "held_accuracy" if folds else "test_accuracy"
    trial = next(t for t in ran.trials(image.run_id) if t.state == COMPLETE)
    assert len(second.folds) == folds
    expected = np.mean(second.folds) if folds else second.right.mean()
    assert trial.metrics[metric] == pytest.approx(expected) == pytest.approx(found.own.accuracy)
    assert 0 <= found.p_value <= found.adjusted <= 1
    assert second.right.mean() == pytest.approx(found.own.accuracy, abs=0.02)


def test_a_test_that_a_comparison_has_scored_is_whole_once_promoted(tiny: Dataset, store: Path) -> None:
    def least(labels: np.ndarray, probabilities: np.ndarray) -> float:
        return float(probabilities.max(1).min())

    told = load_study("audio_rnn")
    told = replace(told, objective=("macro_f1", Metric(name="least_sure", function=least)))
    outcome = mmtune.run(told, tiny, sampler="reported", epochs=1, store=store, workers=1, device="cpu", quiet=True)
    tracker, key = outcome.tracker, outcome.key

    def page() -> str:
        study = tracker.study(key)
        assert study is not None
        return tracker.artifact(study.run_id, "report.html").read_text()

    assert "has not been promoted" in page()
    answers_of(tracker, tracker.studies("audio_rnn")[0], tiny)
    found = outcome.promote().trial.metrics
    assert 0 < found["test_least_sure"] < 1
    assert found["test_accuracy"] * len(tiny.require_test()) == pytest.approx(
        answers_of(tracker, tracker.studies("audio_rnn")[0], tiny).right.sum()
    )
    assert "has not been promoted" not in page()


def test_rows_that_helped_to_choose_are_no_evidence(tiny: Dataset, store: Path) -> None:
    options = Options(epochs=1, trials=2, folds=3, workers=2, device="cpu")
    run_study(load_study("audio_rnn"), tiny, options, store, Console(quiet=True))
    tracker = MlflowTracker(store)
    study = tracker.studies("audio_rnn")[0]
    with pytest.raises(InputError, match=r"must have one trial, .* has 2, and every row that was held out helped"):
        answers_of(tracker, study, tiny)
    other = replace(study, key=replace(study.key, folds=0, digest="0" * 64))
    with pytest.raises(InputError, match=r"must be compared on its own data: .* has digest 0000.*, .* has [1-9a-f]"):
        answers_of(tracker, other, tiny)


@pytest.mark.slow
def test_a_fold_that_was_deleted_is_missed_and_its_trial_made_again(tiny: Dataset, store: Path) -> None:
    options = Options(sampler="reported", epochs=1, folds=3, workers=1, device="cpu")
    run_study(load_study("audio_rnn"), tiny, options, store, Console(quiet=True))
    tracker = MlflowTracker(store)
    study = tracker.studies("audio_rnn")[0]
    before = tracker.parts(study.run_id)
    tracker.client.delete_run(before[1].run_id)
    with pytest.raises(InputError, match="must be tracked, some were deleted: run the study again"):
        answers_of(tracker, study, tiny)
    run_study(load_study("audio_rnn"), tiny, options, store, Console(quiet=True))
    first, again = tracker.trials(study.run_id)
    assert (first.state, again.state) == (FAIL, COMPLETE)
    made = [run for run in tracker.parts(study.run_id) if run.tags["mlflow.parentRunId"] == again.run_id]
    assert [part_of(run.tags).fold for run in made] == [0, 1, 2]
    assert not {run.run_id for run in made} & {run.run_id for run in before}
    assert len(answers_of(tracker, tracker.studies("audio_rnn")[0], tiny).folds) == 3


@pytest.mark.slow
def test_a_study_that_was_not_run_on_these_rows_is_refused(ran: MlflowTracker) -> None:
    audio = next(run for run in ran.studies("audio_rnn") if run.key.folds == 3)
    whole = [run for run in ran.studies("image_cnn") if run.key.folds == 0]
    with pytest.raises(InputError, match="must be finished on the same rows as audio_rnn "):
        matching(whole, audio)


def test_trials_of_one_study_are_held_against_its_first(tiny: Dataset, store: Path) -> None:
    tries = {"small": {"model.hidden": 8}, "large": {"model.hidden": 16}}
    study = replace(load_study("audio_rnn"), grid=None, tries=tries)
    options = Options(epochs=1, folds=3, workers=2, device="cpu")
    run_study(study, tiny, options, store, Console(quiet=True))
    tracker = MlflowTracker(store)
    found = tracker.studies("audio_rnn")[0]
    small, large = answers_by_trial(tracker, found)
    assert [own.name for own in (small, large)] == ["audio_rnn small", "audio_rnn large"]
    for own, trial in zip((small, large), tracker.trials(found.run_id), strict=True):
        assert own.accuracy == pytest.approx(trial.metrics["held_accuracy"])
        assert np.array_equal(own.row, np.arange(len(tiny.train)))
    (told,) = compared([(large, small)])
    assert told.sentence().startswith("audio_rnn large against audio_rnn small (")
    whole = replace(found, key=replace(found.key, folds=0))
    with pytest.raises(InputError, match=r"rows that their folds held out, .* has none: run it with --folds"):
        answers_by_trial(tracker, whole)

"""A study by another metric than the usual, by one of its own, and by two: trained, ranked, promoted, reported."""

from __future__ import annotations

import base64
import json
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from here import here
from rich.console import Console

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.networks.card import MODEL
from mmtune.report.page import write_report
from mmtune.serve.promotion import promote
from mmtune.serve.versions import history
from mmtune.study import Metric, Study, load_study
from mmtune.study.options import Options
from mmtune.study.space import Categorical, Real
from mmtune.tracking import COMPLETE, PRUNED, REMOVED, MlflowTracker, TrialRun, best_trial
from mmtune.tracking.view import TAG, view_key
from mmtune.train.objective import objective_of
from mmtune.tune.export import export
from mmtune.tune.run import Outcome, run_study


def mean_distance(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float(np.abs(labels - probabilities.argmax(1)).mean())


SMALL = replace(
    load_study("audio_rnn"),
    name="small",
    grid=None,
    space=(
        Categorical(path="model.hidden", values=(4, 8, 16, 32)),
        Real(path="train.learning_rate", low=1e-3, high=3e-2, log=True),
    ),
)
FILE = """
from dataclasses import replace

from mmtune.study import load_study

STUDY = replace(load_study("audio_rnn"), name="small", objective={objective})
"""


def ran(study: Study, tiny: Dataset, store: Path, **options: Any) -> tuple[Outcome, str]:
    """The study, and what it printed."""
    usual = {"trials": 6, "epochs": 3, "device": "cpu", "sampler": "random", "prune": None}
    out = StringIO()

    made = Options(**{**usual, "prune": None if study.objective == TWO else False, **options})
    outcome = run_study(study, tiny, made, store, Console(file=out, width=1000), make_pool=here(tiny))
    assert outcome is not None
    return outcome, out.getvalue()


def trials_of(store: Path) -> tuple[MlflowTracker, list[TrialRun]]:
    tracker = MlflowTracker(store)
    return tracker, tracker.trials(tracker.studies("small")[0].run_id)


TWO = ("macro_f1", "parameters")


def test_a_study_by_loss_is_the_same_trials_ranked_by_the_lowest_loss(tiny: Dataset, store: Path) -> None:
    usual, _ = ran(SMALL, tiny, store)
    outcome, said = ran(replace(SMALL, objective="loss"), tiny, store)
    assert usual.key != outcome.key
    tracker = MlflowTracker(store)
    by_f1, by_loss = (tracker.trials(tracker.study(own.key).run_id) for own in (usual, outcome))  # type: ignore[union-attr]
    assert [own.tags["mmtune.drawn"] for own in by_f1] == [own.tags["mmtune.drawn"] for own in by_loss]
    assert outcome.best is not None
    losses = [own.metrics["best_val_loss"] for own in by_loss]
    assert outcome.best.metrics["best_val_loss"] == min(losses)
    for own in by_loss:
        curve = [value for _, value in tracker.curves(own.run_id, ("val_loss",))["val_loss"]]
        assert own.metrics["best_val_loss"] == min(curve)
        assert own.metrics["epoch_at_best"] == curve.index(min(curve)) + 1
        assert {"val_macro_f1_at_best", "val_auroc_at_best", "val_calibration_error_at_best"} <= own.metrics.keys()
    parent = tracker.study(outcome.key)
    assert parent is not None
    assert tracker.client.get_run(parent.run_id).data.metrics["best_val_loss"] == min(losses)
    note = parent.tags["mlflow.note.content"]
    assert f"validation loss {min(losses):.4f}" in note
    assert "by loss" in said
    assert f"val loss {min(losses):.4f}" in said
    assert export(tracker, parent, f"sqlite:///{store}/optuna.db", SMALL).best_value == min(losses)
    view = view_of(tracker, outcome)
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`best_val_loss`", True)
    assert view["compareRunCharts"][1]["metricKey"] == "best_val_loss"


def test_a_study_may_search_for_robustness_too(tiny: Dataset, store: Path) -> None:
    outcome, _ = ran(replace(SMALL, objective=("macro_f1", "robustness")), tiny, store, trials=2, epochs=1, prune=False)
    _, trials = trials_of(store)
    assert all(0 < trial.metrics["robustness"] < 1 for trial in trials)
    assert {"best_val_macro_f1", "robustness"} == set(outcome.key.objective.names)
    assert outcome.front


def test_with_its_values_negated_a_metric_of_ones_own_ranks_the_other_way_round(tiny: Dataset, store: Path) -> None:
    # One epoch, so that both have the same.
    up = Metric(name="distance", function=mean_distance)
    down = Metric(name="negated", function=lambda labels, probabilities: -mean_distance(labels, probabilities))
    ranked = []
    for metric in (up, down):
        outcome, _ = ran(replace(SMALL, objective=metric), tiny, store, epochs=1)
        tracker = MlflowTracker(store)
        trials = tracker.trials(tracker.study(outcome.key).run_id)  # type: ignore[union-attr]
        assert len(trials) == 6
        ranked.append(sorted(trials, key=lambda own: -outcome.key.objective.rank(own.metrics)))
        assert outcome.best == best_trial(trials, outcome.key.objective)
    names = ("best_val_distance", "best_val_negated")
    values = [[own.metrics[name] for own in some] for name, some in zip(names, ranked, strict=True)]
    assert values[0] == sorted(values[0], reverse=True)
    assert values[0] == [-value for value in reversed(values[1])]


@pytest.fixture(scope="module")
def two(tiny: Dataset, store_template: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome, str]:
    """A study by macro-F1 and parameters, and what it printed."""
    import shutil

    store = Path(shutil.copytree(store_template, tmp_path_factory.mktemp("two") / "mlruns"))
    return store, *ran(replace(SMALL, objective=TWO), tiny, store, trials=9, keep="best:1")


def test_two_metrics_have_a_front(two: tuple[Path, Outcome, str]) -> None:
    store, outcome, said = two
    tracker, trials = trials_of(store)
    assert len(trials) == 9
    assert all(own.state == COMPLETE for own in trials)
    assert not outcome.key.prune
    values = {own.number: (own.metrics["best_val_macro_f1"], own.metrics["parameters"]) for own in trials}
    front = {n for n, (f1, size) in values.items()
             if not any(a >= f1 and b <= size and (a, b) != (f1, size) for a, b in values.values())}  # fmt: skip
    assert {own.number for own in outcome.front} == front
    assert all(own.metrics["parameters"] == float(own.tags["mmtune.weights"]) for own in trials)
    assert {own.number for own in trials if REMOVED not in own.tags} == front
    assert "by macro-F1 and parameters" in said
    assert f"parameters {values[0][1]:,.0f}" in said
    study = tracker.studies("small")[0]
    made = export(tracker, study, f"sqlite:///{store}/optuna.db", SMALL)
    assert {own.user_attrs["index"] for own in made.best_trials} == front


def view_of(tracker: MlflowTracker, outcome: Outcome) -> dict[str, Any]:
    """What MLflow's UI shows of a study at first sight."""
    tags = tracker.client.get_experiment_by_name("small").tags
    packed = json.loads(tags[TAG + view_key(outcome.key)])["state"].removeprefix("deflate;")
    found: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(packed)))
    return found


def test_the_view_of_two_metrics_draws_one_against_the_other(two: tuple[Path, Outcome, str]) -> None:
    store, outcome, _ = two
    view = view_of(trials_of(store)[0], outcome)
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`best_val_macro_f1`", False)
    assert "metrics.`parameters`" in view["selectedColumns"]
    first, second, *_ = view["compareRunCharts"]
    assert (first["xaxis"]["key"], first["yaxis"]["key"]) == ("parameters", "best_val_macro_f1")
    assert second["selectedMetrics"] == ["best_val_macro_f1", "parameters"]


def test_the_page_has_the_front(two: tuple[Path, Outcome, str], tmp_path: Path) -> None:
    store, outcome, _ = two
    tracker, _ = trials_of(store)
    page = write_report(tracker, tracker.studies("small")[0], SMALL, (), tmp_path / "page.html").read_text()
    section = page[page.index('<section id="front">') :].partition("</section>")[0]
    for trial in outcome.front:
        assert f'<td class="n" data-sort="{trial.number}">#{trial.number}</td>' in section
        for own, value in zip(outcome.key.objective.metrics, outcome.key.objective.values(trial.metrics), strict=True):
            assert own.show(value) in section
    board = page[page.index('<section id="leaderboard">') :].partition("</section>")[0]
    assert board.count('class="front"') == len(outcome.front)
    figures = json.loads(page.partition('id="figures">')[2].partition("</script>")[0])
    faint, marked = figures["front-0"]["data"]
    assert len(faint["x"]) + len(marked["x"]) == 9
    assert sorted(marked["x"]) == sorted(own.metrics["parameters"] for own in outcome.front)


def test_a_page_of_one_metric_has_no_front(tiny: Dataset, store: Path, tmp_path: Path) -> None:
    own = Metric(name="distance", function=mean_distance, maximise=False)
    outcome, _ = ran(replace(SMALL, objective=own), tiny, store, trials=4, epochs=2)
    assert outcome.front == ()
    assert outcome.best is not None
    tracker = MlflowTracker(store)
    page = write_report(tracker, tracker.studies("small")[0], SMALL, (), tmp_path / "page.html").read_text()
    assert 'id="front"' not in page
    assert f"distance {own.show(outcome.best.metrics['best_val_distance'])}" in page
    assert "On validation distance (the lower the better)" in page
    assert '"curve-val_distance"' in page


def test_a_trial_of_the_front_is_promoted_by_its_number(two: tuple[Path, Outcome, str], tiny: Dataset) -> None:
    store, outcome, _ = two
    tracker, trials = trials_of(store)
    study, last = tracker.studies("small")[0], outcome.front[-1]
    made = promote(tracker, study, tiny, number=last.number)
    assert (made.trial.run_id, made.is_champion) == (last.run_id, True)
    assert f"parameters {last.metrics['parameters']:,.0f}" in made.describe()
    assert promote(tracker, study, tiny, number=last.number).version == made.version
    (record,) = history(tracker, "small")
    assert record.objective == outcome.key.objective.show(outcome.key.objective.values(last.metrics))
    best = promote(tracker, study, tiny, force=True)
    assert outcome.best is not None
    assert best.trial.run_id == outcome.best.run_id
    gone = next(own for own in trials if REMOVED in own.tags)
    for number, said in ((99, "there is none of that number"), (gone.number, "whose files are kept")):
        with pytest.raises(InputError, match=said):
            promote(tracker, study, tiny, number=number)
    assert not tracker.has_artifact(gone.run_id, MODEL)


def test_a_trial_that_is_not_complete_is_not_promoted(tiny: Dataset, store: Path) -> None:
    from tracked import track_study, track_trial

    outcome, _ = ran(SMALL, tiny, store, trials=1, epochs=1)
    tracker = MlflowTracker(store)
    study = track_study(tracker, outcome.key)
    track_trial(tracker, study, 7, metrics={"best_val_macro_f1": 0.5}, state=PRUNED)
    with pytest.raises(InputError, match="got 7: it is pruned"):
        promote(tracker, study, tiny, number=7)


def test_at_promotion_a_metric_of_ones_own_is_measured_on_the_test_rows_too(tiny: Dataset, store: Path) -> None:
    told = replace(SMALL, objective=Metric(name="distance", function=mean_distance, maximise=False))
    ran(told, tiny, store, trials=1, epochs=1)
    tracker = MlflowTracker(store)
    made = promote(tracker, tracker.studies("small")[0], tiny, told=objective_of(told.objective))
    assert made.trial.metrics["test_distance"] > 0
    assert f"test distance {made.trial.metrics['test_distance']:.4g}" in made.describe()


@pytest.mark.parametrize(
    ("objective", "options", "said"),
    [
        (TWO, {"prune": True}, "--prune must be off for small"),
        (TWO, {"sampler": "cmaes"}, "--sampler must be tpe, random or gp"),
        (Metric(name="own", function=lambda labels, probabilities: 1 / 0), {}, "ZeroDivisionError: division by zero"),
        (Metric(name="own", function=lambda labels, probabilities: np.nan), {}, "must be a finite number, got nan"),
        (Metric(name="own", function=lambda labels: 1.0), {}, "TypeError"),
        (Metric(name="own", function=lambda labels, probabilities: labels), {}, "must be a finite number, got array"),
    ],
)
def test_what_cannot_be_searched_for_is_one_line_before_anything_is_tracked(
    objective: Any, options: dict[str, Any], said: str, tiny: Dataset, store: Path
) -> None:
    with pytest.raises(InputError) as refusal:
        ran(replace(SMALL, objective=objective), tiny, store, **options)
    assert said in str(refusal.value)
    if isinstance(objective, Metric):
        assert f"{Path(__file__).name}:" in str(refusal.value)
    assert MlflowTracker(store).studies() == []


def test_what_raises_in_a_worker_fails_the_trial_with_its_reason_and_is_not_tried_again(
    tiny: Dataset, store: Path
) -> None:
    calls = []

    def late(labels: np.ndarray, probabilities: np.ndarray) -> float:
        calls.append(len(labels))
        # It is tried once before, with what is drawn.
        if len(calls) > 1:
            raise KeyError("a class")
        return 0.5

    outcome, said = ran(replace(SMALL, objective=Metric(name="own", function=late)), tiny, store, trials=1)
    assert outcome.failed == 1
    assert "metric own must be a number for" in said
    assert "KeyError" in said
    assert len(calls) == 2


def test_auroc_needs_two_classes_and_not_too_many(tiny: Dataset) -> None:
    from mmtune.tune.trying import require_auroc

    require_auroc(np.array([0, 1, 1]), 3)
    with pytest.raises(InputError, match="validation rows of two classes, all 4 are of one"):
        require_auroc(np.zeros(4, np.int64), 3)
    with pytest.raises(InputError, match="at most 200 classes, these have 201"):
        require_auroc(np.arange(4), 201)


def test_the_end_of_a_study_prints_the_front(
    two: tuple[Path, Outcome, str], capsys: pytest.CaptureFixture[str]
) -> None:
    from mmtune.cli.searching import say_outcome

    say_outcome(two[1], "small", store=Path("mlruns"), studies=None, data=None)
    lines = capsys.readouterr().out.splitlines()
    front = lines[1 : 2 + len(two[1].front)]
    assert front[0] == f"front of macro-F1 and parameters, {len(two[1].front)} trials that no other one dominates:"
    for line, trial in zip(front[1:], two[1].front, strict=True):
        assert line.endswith(f"trial {trial.name}")
        assert f"parameters {trial.metrics['parameters']:,.0f}" in line


def test_a_study_file_with_a_wrong_objective_is_refused_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: Callable[..., str]
) -> None:
    from mmtune.cli import main

    (tmp_path / "small.py").write_text(FILE.format(objective='"f1"'))
    text = refusal(main, "study", str(tmp_path / "small.py"), "--store", str(tmp_path / "mlruns"))
    assert "small.py:6" in text
    assert "objective must be one of accuracy" in text
    assert "mlflow" not in sys.modules or not (tmp_path / "mlruns").exists()

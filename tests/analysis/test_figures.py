"""Figures hold the numbers they were given, and nothing that a page could mistake for mark-up."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from sklearn.metrics import confusion_matrix

from mmtune.analysis.figures import answers, look, networks, search, trials
from mmtune.analysis.figures.look import FAINT
from mmtune.analysis.figures.trials import Curve
from mmtune.report.figures import class_section

NAMES = [f"class {n}" for n in range(10)]
EVIL = '<img src=x onerror="alert(1)">'


def series(count: int, epochs: int = 5) -> list[Curve]:
    rng = np.random.default_rng(count)
    return [(f"#{n}", list(enumerate(rng.uniform(0.1, 1, epochs).tolist(), start=1))) for n in range(count)]


def by_name(fig: go.Figure) -> dict[str, Any]:
    return {trace.name: trace for trace in fig.data}


def test_curves_draw_every_value_and_the_first_one_last() -> None:
    given = series(12)
    fig = trials.curves(given, "accuracy (%)", scale=100)
    for name, points in given:
        trace = by_name(fig)[name]
        assert list(trace.x) == [epoch for epoch, _ in points]
        assert list(trace.y) == pytest.approx([100 * value for _, value in points])
    assert fig.data[-1].name == "#0"
    assert fig.layout.yaxis.title.text == "accuracy (%)"


def test_among_many_curves_five_stand_out_in_different_colours() -> None:
    colours = [trace.line.color for trace in trials.curves(series(100)).data]
    apart = [c for c in colours if c != FAINT]
    assert len(apart) == len(set(apart)) == 5
    assert colours[-5:] == apart


def test_a_curve_of_one_epoch_is_still_seen_and_an_empty_one_draws_nothing() -> None:
    fig = trials.curves([("one", [(1, 0.5)]), ("none", [])])
    assert "markers" in by_name(fig)["one"].mode
    assert list(by_name(fig)["none"].x) == []


@pytest.mark.parametrize("log", [False, True])
def test_the_close_up_holds_the_late_values_of_the_better_half_tightly(log: bool) -> None:
    given = series(6, epochs=8)
    found = trials.close_range(given, scale=100, log=log)
    assert found is not None
    late = np.array([100 * v for _, points in given[:3] for _, v in points[4:]])
    late = np.log10(late) if log else late
    assert found[0] < late.min() < late.max() < found[1]
    assert found[1] - found[0] == pytest.approx(1.1 * np.ptp(late))


def test_there_is_no_close_up_of_nothing() -> None:
    assert trials.close_range([]) is None
    assert trials.close_range([("flat", [(1, 1.0), (2, 1.0)])]) is None
    assert trials.close_range([("zero", [(1, 0.0), (2, 0.0)])], log=True) is None


@pytest.mark.parametrize("values", [["tanh", "relu"], [3, 5, 3], list(range(40)), [0.1, "a", None], [True, False]])
def test_each_value_has_one_colour_of_its_own(values: list[Any]) -> None:
    colours = look.value_colours(values)
    assert set(colours) == set(values)
    assert len(set(colours.values())) == len(set(values))


def test_more_names_than_colours_leave_the_rest_faint() -> None:
    colours = look.value_colours([f"name{n}" for n in range(20)])
    assert sum(c != FAINT for c in colours.values()) == look.FEW


def test_importances_are_bars_in_percent_with_the_greatest_uppermost() -> None:
    bar = trials.importance_bars({"norm": 0.2, "kernel": 0.7, "activation": 0.1}).data[0]
    assert list(bar.y) == ["activation", "norm", "kernel"]
    assert list(bar.x) == pytest.approx([10, 20, 70])


def test_a_whisker_of_an_importance_is_its_range() -> None:
    found = trials.importance_bars({"norm": 0.2, "kernel": 0.7}, {"norm": (0.1, 0.4), "kernel": (0.5, 0.9)})
    ends = [end for own in found.layout.shapes for end in (own.x0, own.x1, own.y0)]
    assert ends == pytest.approx([10, 40, 0, 50, 90, 1])
    assert list(found.data[1].x) == pytest.approx([40, 90])
    assert found.layout.xaxis.range[1] > 90


def test_importances_of_zero_can_be_drawn() -> None:
    low, high = trials.importance_bars({"norm": 0.0}).layout.xaxis.range
    assert low < high


def test_a_strip_has_a_column_for_each_value_with_its_median() -> None:
    values, scores = ["b", "a", "b", "b", "a"], [1.0, 2.0, 3.0, 8.0, 5.0]
    dots, medians = trials.strip(values, scores, list("vwxyz"), "norm", "F1").data
    assert [round(x) for x in dots.x] == [1, 0, 1, 1, 0]
    assert list(dots.y) == scores
    assert list(medians.y) == [np.median([2.0, 5.0]), np.median([1.0, 3.0, 8.0])]


@pytest.mark.parametrize(("values", "kind"), [(np.linspace(1, 2, 9), "linear"), (np.logspace(-4, -1, 9), "log")])
def test_many_numbers_get_an_axis_and_decades_a_logarithmic_one(values: np.ndarray, kind: str) -> None:
    fig = trials.strip(values.tolist(), [1.0] * 9, ["t"] * 9, "learning_rate", "F1")
    assert fig.layout.xaxis.type == kind
    assert list(fig.data[0].x) == values.tolist()


def test_a_missing_choice_has_its_own_column() -> None:
    fig = trials.strip([3, None, 3], [1.0, 2.0, 3.0], list("abc"), "kernel", "F1")
    assert list(fig.layout.xaxis.ticktext) == ["3", look.DASH]


def test_f1_of_each_class_is_drawn_in_percent() -> None:
    f1 = np.linspace(0.9, 1.0, 10).tolist()
    dots = answers.per_class(f1, NAMES).data[0]
    assert list(dots.x) == pytest.approx([100 * v for v in f1])
    assert list(dots.y) == list(range(10))


def test_confusion_matches_scikit_learn_and_shades_errors_alone() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 9, 500)
    predictions = np.where(rng.random(500) < 0.8, labels, rng.integers(0, 10, 500))
    shades, numbers = answers.confusion(labels, predictions, NAMES).data
    counts = np.zeros((10, 10), dtype=int)
    counts[np.array(numbers.y), np.array(numbers.x)] = [int(t) for t in numbers.text]
    oracle = confusion_matrix(labels, predictions, labels=range(10))
    np.testing.assert_array_equal(counts, oracle)
    shade = np.array(shades.z, dtype=float)
    assert np.isnan(np.diag(shade)).all()
    off = ~np.eye(10, dtype=bool)
    np.testing.assert_allclose(shade[off], (100 * oracle / np.maximum(oracle.sum(1, keepdims=True), 1))[off])


@pytest.mark.parametrize("count", [2, 7, 26])
def test_axes_of_classes_have_their_names(count: int) -> None:
    names = [f"class {n}" for n in range(count)]
    classes = np.arange(count)
    for axis in ("xaxis", "yaxis"):
        assert list(answers.confusion(classes, classes, names).layout[axis].ticktext) == names
    assert list(answers.per_class([0.5] * count, names).layout.yaxis.ticktext) == names


def test_a_class_that_no_row_has_keeps_its_place() -> None:
    heat = answers.confusion(np.array([0, 2]), np.array([0, 2]), NAMES).data[0]
    assert np.array(heat.z, dtype=float).shape == (10, 10)


def test_more_classes_than_there_is_room_for_have_no_names_and_long_names_are_cut() -> None:
    many = [f"class {n}" for n in range(look.MOST_NAMES + 1)]
    fig = answers.confusion(np.arange(len(many)), np.arange(len(many)), many)
    assert fig.layout.xaxis.ticktext is None
    assert fig.data[1].mode == "markers"
    (first, _) = answers.per_class([0.5, 0.5], ["x" * 99, "b"]).layout.yaxis.ticktext
    assert first == "x" * (look.LONGEST_NAME - 1) + "\N{HORIZONTAL ELLIPSIS}"


def test_no_text_of_a_trial_reaches_a_figure_as_mark_up() -> None:
    tried = search.Tried(name=EVIL, number=0, score=1.0, start=0, seconds=1, whole=True)
    made = [
        trials.curves([(EVIL, [(1, 1.0)])]),
        trials.importance_bars({EVIL: 1.0}),
        trials.strip([EVIL, "b"], [1.0, 2.0], [EVIL, "b"], EVIL, "F1"),
        trials.strip(list(range(9)), [1.0] * 9, [EVIL] * 9, EVIL, "F1"),
        answers.per_class([0.5, 0.6], ["b", EVIL[:15]]),
        answers.confusion(np.arange(2), np.arange(2), ["b", EVIL[:15]]),
        networks.embedding(np.eye(2), np.arange(2), ("x", "y"), np.array(["", ""]), ["b", EVIL[:15]], np.arange(2)),
        search.history([tried], "F1", True),
        search.timeline([tried]),
        search.pair([(EVIL, [EVIL, "b"]), ("y", [1, 2])], [1.0, 2.0], "F1"),
        search.pair([(EVIL, list(range(20))), ("y", list(range(20)))], list(range(20)), "F1"),
    ]
    for fig in made:
        text = json.dumps(json.loads(fig.to_json()))
        assert "<img" not in text
        assert "&lt;img" in text


def test_long_text_is_cut_before_it_is_escaped() -> None:
    assert look.label("x" * 500) == "x" * 59 + "\N{HORIZONTAL ELLIPSIS}"
    assert look.label("<" * 60) == "&lt;" * 60


def test_jitter_stays_within_its_column() -> None:
    offsets = [look.jitter(n) for n in range(1000)]
    assert max(map(abs, offsets)) <= 0.15
    assert len({round(o, 6) for o in offsets[:50]}) == 50
    assert not any(math.isnan(o) for o in offsets)


def test_a_matrix_without_errors_is_not_shaded() -> None:
    digits = np.arange(10)
    heat = answers.confusion(digits, digits, NAMES).data[0]
    assert heat.zmax > heat.zmin == 0
    assert np.nanmax(np.array(heat.z, dtype=float)) == 0


def test_no_label_of_a_front_stands_on_another() -> None:
    points = [(1.0, 0.9), (1.01, 0.895), (1.02, 0.5), (9.0, 0.91)]
    _, front = trials.front(points, [True] * 4, ["#1 a", "#2 b", "#3 c", "#4 d"], ("x", "y")).data
    assert list(front.text) == ["#1", "", "#3", "#4"]
    assert list(front.customdata) == ["#1 a", "#2 b", "#3 c", "#4 d"]
    assert [list(own.text) for own in trials.front([(1.0, 1.0)], [True], ["#1 a"], ("x", "y")).data] == [[], ["#1"]]


def test_a_class_without_rows_has_no_f1_and_does_not_stretch_the_axis() -> None:
    fig = answers.per_class([1.0, 0.99, math.nan], NAMES[:3])
    assert list(fig.data[0].x) == [100, 99, None]
    assert list(fig.data[0].text) == ["100.00", "99.00", ""]
    assert fig.layout.xaxis.range[0] == pytest.approx(98.9)
    # As a study's last class, and as one that was named wrongly.
    labels, said = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])
    drawn = class_section({"label": labels, "prediction": said}, NAMES[:3])["f1"].data[0]
    assert drawn.x[2] is None
    assert drawn.x[0] == 100


@pytest.mark.parametrize(("low", "wanted"), [(0.01, "~g"), (10.0, "~s")])
def test_ticks_of_small_numbers_are_no_thousandths_by_a_letter(low: float, wanted: str) -> None:
    fig = trials.front([(low, 1.0), (100 * low, 2.0)], [True, False], ["#0", "#1"], ("seconds", "score"))
    assert fig.layout.xaxis.tickformat == wanted

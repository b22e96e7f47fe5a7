"""Figures of a search hold every trial where its numbers put it."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmtune.analysis.figures.search import APART, Tried, history, lanes, pair, parallel, placed, round_steps, timeline


def tried(number: int, score: float | None = None, start: float = 0.0, seconds: float = 1.0, **more: bool) -> Tried:
    return Tried(name=f"#{number}", number=number, score=score, start=start, seconds=seconds, **{"whole": True, **more})


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(1, 1e3)), min_size=1, max_size=40))
def test_no_two_trials_of_a_lane_overlap_and_lanes_are_as_few_as_run_at_once(bars: list[tuple[float, float]]) -> None:
    trials = [tried(n, start=start, seconds=seconds) for n, (start, seconds) in enumerate(bars)]
    found = lanes(trials)
    for one, other in combinations(range(len(trials)), 2):
        if found[one] == found[other]:
            early, late = sorted((trials[one], trials[other]), key=lambda own: own.start)
            assert early.start + early.seconds <= late.start + 0.5
    at_once = max(sum(t.start <= own.start < t.start + t.seconds for t in trials) for own in trials)
    assert max(found) + 1 <= at_once


def test_a_bar_is_as_long_as_its_training_and_stands_where_it_began() -> None:
    fig = timeline([tried(0, start=0, seconds=60), tried(1, start=120, seconds=600, whole=False)])
    (bars,) = fig.data
    assert (list(bars.base), list(bars.x)) == ([0, 2], [1, 10])
    assert len(set(bars.marker.color)) == 2


@pytest.mark.parametrize("maximise", [True, False])
def test_the_best_so_far_never_gets_worse_and_ignores_what_was_stopped(maximise: bool) -> None:
    scores = [0.5, 0.7, 0.6, 0.99, 0.8]
    trials = [tried(n, score, whole=n != 3) for n, score in enumerate(scores)]
    line = history(trials[::-1], "score", maximise).data[0]
    whole = [score for n, score in enumerate(scores) if n != 3]
    assert list(line.x) == [0, 1, 2, 4]
    assert list(line.y) == (np.maximum if maximise else np.minimum).accumulate(whole).tolist()


@given(st.lists(st.floats(-1e6, 1e6).map(lambda own: round(own, 3)), min_size=7, max_size=30, unique=True))
def test_numbers_stand_on_their_axis_in_their_order(values: list[float]) -> None:
    axis = placed("x", values)
    assert (min(axis.places), max(axis.places)) == (0, 1)
    order = np.argsort(values)
    assert (np.diff(np.array(axis.places)[order]) >= 0).all()
    places = [place for place, _ in axis.ticks]
    assert len(axis.ticks) >= 2
    assert places == sorted(places)
    assert all(-1e-6 <= place <= 1 + 1e-6 for place in places)


def test_numbers_far_apart_stand_by_their_logarithm() -> None:
    axis = placed("rate", [10.0**-n for n in range(1, 9)])
    assert np.allclose(np.diff(axis.places), -1 / 7, atol=1e-4)
    assert [text for _, text in axis.ticks][:2] == ["1e-08", "1e-07"]


def test_names_stand_apart_and_lines_of_one_do_not_hide_each_other() -> None:
    axis = placed("activation", ["relu", "tanh", "relu", None])
    assert [text for _, text in axis.ticks] == ["\N{EN DASH}", "relu", "tanh"]
    ticks = {text: place for place, text in axis.ticks}
    assert all(
        abs(place - ticks[name]) < APART / 2
        for place, name in zip(axis.places[:3], ("relu", "tanh", "relu"), strict=True)
    )
    assert axis.places[0] != axis.places[2]


def test_nothing_among_numbers_stands_below_them() -> None:
    values = [None, *(10.0**-n for n in range(1, 9))]
    axis, numbers = placed("rate", values), placed("rate", values[1:])
    assert axis.places[0] == 0
    assert axis.ticks[0] == (0, "\N{EN DASH}")
    assert np.argsort(axis.places[1:]).tolist() == np.argsort(numbers.places).tolist()
    assert min(axis.places[1:]) > 0.1


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
@example(0.0, 0.3)
@example(0.2, 0.3)
def test_steps_are_round_few_and_inside(low: float, span: float) -> None:
    if low + span == low or abs(low) > 1e6 * span:
        return
    steps = round_steps(low, low + span)
    assert 2 <= len(steps) <= 9
    size = steps[1] - steps[0]
    assert float(f"{size / 10 ** math.floor(math.log10(size) + 1e-9):.6g}") in (1, 2, 5)


def test_colours_run_with_the_score_whichever_way_is_better() -> None:
    values = [("kernel", [3, 5, 7])]
    up = parallel(values, [0.1, 0.2, 0.3], ["a", "b", "c"], "score", True)
    down = parallel(values, [0.3, 0.2, 0.1], ["a", "b", "c"], "loss", False)
    assert up["colours"] == down["colours"]
    assert [axis["name"] for axis in up["axes"]] == ["kernel", "score"]


def test_a_cell_of_two_choices_is_the_median_of_its_trials() -> None:
    scores = [1.0, 2.0, 9.0, 4.0]
    fig = pair([("x", [0, 0, 0, 1]), ("y", ["a", "a", "a", "b"])], scores, "score")
    assert [list(row) for row in fig.data[0].z] == [[2.0, None], [None, 4.0]]
    assert pair([("x", [*"abcdefghijklmnopq"]), ("y", list(range(17)))], list(range(17)), "score") is None
    many = pair([("x", list(range(20))), ("y", list(range(20)))], list(range(20)), "score")
    assert list(many.data[0].x) == list(range(20))

"""The rule of successive halving, and what it costs and saves over whole searches."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtune.tune.halving import FIRST, REDUCTION, Halving, rungs


@pytest.mark.parametrize("epochs", [1, 2, 9, 10, 25, 27, 100, 300])
def test_rungs_lie_in_the_first_half_of_the_budget_and_triple(epochs: int) -> None:
    found = rungs(epochs)
    assert all(1 <= rung <= epochs / 2 for rung in found)
    assert all(b == REDUCTION * a for a, b in itertools.pairwise(found))
    assert found or epochs == 1


def heard(halving: Halving, rung: int, score: float) -> bool:
    """Whether a trial goes on that comes to a rung with this score."""
    halving.add(rung, score)
    return halving.goes_on(rung, score)


@pytest.mark.parametrize(("rung", "share"), [(2, FIRST), (6, REDUCTION)])
@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_who_goes_on_is_among_the_best_share_and_one_more(rung: int, share: int, scores: list[float]) -> None:
    halving = Halving({2, 6})
    for count, score in enumerate(scores, start=1):
        better = sum(other > score for other in scores[:count])
        assert heard(halving, rung, score) == (better < count // share + 1)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40), st.data())
def test_it_goes_on_from_what_was_reported(scores: list[float], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(scores)))
    whole, resumed = Halving({1}), Halving({1})
    for score in data.draw(st.permutations(scores[:cut])):
        resumed.add(1, score)
    verdicts = [heard(whole, 1, score) for score in scores]
    assert [heard(resumed, 1, score) for score in scores[cut:]] == verdicts[cut:]


def test_a_search_costs_a_third_and_keeps_the_best() -> None:
    """Trials whose order shows early, in 40 orders of arrival: the best is always found, for a third of the epochs."""
    epochs, trials, trained = 27, 40, 0
    for seed in range(40):
        scores = random.Random(seed).sample(range(1000), trials)
        halving, finished = Halving(rungs(epochs)), []
        for score in scores:
            ended = next((rung for rung in rungs(epochs) if not heard(halving, rung, score)), epochs)
            trained += ended
            finished += [score] if ended == epochs else []
        assert max(finished) == max(scores)
    assert trained / 40 <= trials * epochs / REDUCTION

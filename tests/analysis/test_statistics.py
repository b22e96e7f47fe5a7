"""McNemar's exact test against its own definition and against scipy."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from mmtune.analysis.statistics import McNemar, mcnemar_exact
from mmtune.errors import InputError


def hits(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    return a, b


def twice_the_tail(only_a: int, only_b: int) -> float:
    """The two-sided exact p-value, counted out: the law is symmetric, so twice its smaller tail."""
    tosses = only_a + only_b
    tail = sum(comb(tosses, k) for k in range(min(only_a, only_b) + 1)) / 2**tosses
    return float(min(1.0, 2 * tail))


counts = st.integers(0, 60)


@given(counts, counts, counts, counts)
def test_counts_and_p_value_follow_the_definition(both: int, only_a: int, only_b: int, neither: int) -> None:
    if both + only_a + only_b + neither == 0:
        return
    found = mcnemar_exact(*hits(both, only_a, only_b, neither))
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.p_value == pytest.approx(twice_the_tail(only_a, only_b), rel=1e-9)


@given(st.integers(0, 40), st.integers(0, 40))
def test_swapping_the_classifiers_swaps_the_counts_only(only_a: int, only_b: int) -> None:
    a, b = hits(1, only_a, only_b, 1)
    one, other = mcnemar_exact(a, b), mcnemar_exact(b, a)
    assert (one.only_a, one.only_b) == (other.only_b, other.only_a)
    assert one.p_value == pytest.approx(other.p_value, rel=1e-12)
    assert not (one.a_is_worse(0.05) and other.a_is_worse(0.05))


def test_significance_needs_both_fewer_hits_and_a_small_p_value() -> None:
    assert mcnemar_exact(*hits(90, 1, 20, 0)).a_is_worse(0.05)
    assert not mcnemar_exact(*hits(90, 20, 1, 0)).a_is_worse(0.05)  # significantly better
    assert not mcnemar_exact(*hits(90, 3, 5, 0)).a_is_worse(0.05)  # fewer hits, by chance
    assert not McNemar(only_a=0, only_b=5, p_value=0.05).a_is_worse(0.05)


def test_false_alarms_stay_below_the_level_where_the_classifiers_are_equal() -> None:
    """The exact test is conservative: over all outcomes of n fair tosses it rejects in at most alpha of them."""
    for tosses in (5, 6, 20, 51):
        level = sum(
            binom.pmf(k, tosses, 0.5)
            for k in range(tosses + 1)
            if mcnemar_exact(*hits(3, k, tosses - k, 2)).a_is_worse(0.05)
        )
        assert level <= 0.025 + 1e-12


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (np.ones(3, bool), np.ones(4, bool), "got 3 and 4"),
        (np.ones(3, int), np.ones(3, bool), "got (3,) int64"),
        (np.ones((3, 1), bool), np.ones(3, bool), "got (3, 1) bool"),
        (np.ones(0, bool), np.ones(0, bool), "N >= 1"),
    ],
)
def test_hits_of_other_rows_or_types_are_refused(a: np.ndarray, b: np.ndarray, said: str) -> None:
    with pytest.raises(InputError) as refusal:
        mcnemar_exact(a, b)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)

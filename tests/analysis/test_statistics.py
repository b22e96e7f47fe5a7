"""Tests and intervals against their definitions, against scipy and against permutations that are counted out."""

from __future__ import annotations

import itertools
import math
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, permutation_test, t, ttest_rel

from mmtune.analysis.statistics import (
    McNemar,
    holm,
    mcnemar_clustered,
    mcnemar_exact,
    paired_t,
    sign_flip_p,
    summary,
)
from mmtune.base.errors import InputError


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


def test_hits_of_other_rows_are_refused() -> None:
    with pytest.raises(InputError, match="must answer the same rows, got 3 and 4"):
        mcnemar_exact(np.ones(3, bool), np.ones(4, bool))


# ---- rows that share recordings

rows = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 6)), min_size=1, max_size=40)


def columns(drawn: list[tuple[bool, bool, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, b, cluster = zip(*drawn, strict=True)
    return np.array(a), np.array(b), np.array(cluster)


@given(rows)
def test_the_clustered_test_counts_every_way_to_sign_the_clusters(drawn: list[tuple[bool, bool, int]]) -> None:
    a, b, cluster = columns(drawn)
    sums = [int(a[cluster == c].sum()) - int(b[cluster == c].sum()) for c in np.unique(cluster)]
    all_sums = [abs(np.dot(signs, sums)) for signs in itertools.product((-1, 1), repeat=len(sums))]
    found = mcnemar_clustered(a, b, cluster)
    assert found == pytest.approx(np.mean([s >= abs(sum(sums)) for s in all_sums]), rel=1e-9)


@given(counts, counts, counts, counts)
def test_with_a_recording_for_each_row_it_is_the_exact_test(both: int, only_a: int, only_b: int, neither: int) -> None:
    if both + only_a + only_b + neither == 0:
        return
    a, b = hits(both, only_a, only_b, neither)
    found = mcnemar_clustered(a, b, np.arange(len(a))[::-1])
    assert found == pytest.approx(mcnemar_exact(a, b).p_value, rel=1e-9, abs=1e-15)


@given(rows, st.integers(2, 9))
def test_repeating_whole_recordings_is_no_evidence(drawn: list[tuple[bool, bool, int]], times: int) -> None:
    a, b, cluster = columns(drawn)
    once, more = mcnemar_clustered(a, b, cluster), mcnemar_clustered(*(np.tile(c, times) for c in (a, b, cluster)))
    assert once == pytest.approx(more, rel=1e-9)


def test_mcnemar_over_rows_finds_far_more_in_shared_recordings_than_there_is() -> None:
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(60), 30)
    alarms = {"rows": 0, "clusters": 0}
    for _ in range(200):
        a, b = ((rng.random(60) < 0.8)[cluster] ^ (rng.random(1800) < 0.02) for _ in range(2))
        alarms["rows"] += mcnemar_exact(a, b).p_value < 0.05
        alarms["clusters"] += mcnemar_clustered(a, b, cluster) < 0.05
    assert alarms["rows"] > 100
    assert alarms["clusters"] <= binom.ppf(0.9999, 200, 0.05)


@pytest.mark.parametrize("spread", [1, 4])
def test_the_exact_test_is_what_a_permutation_of_many_recordings_nears(spread: int) -> None:
    rng = np.random.default_rng(spread)
    for shift in (0.0, 0.1, 0.2):
        differences = np.rint(rng.normal(shift * spread, spread, 400)).astype(np.int64)
        flipped = permutation_test(
            (differences, np.zeros(400)),
            lambda a, b, axis: (a - b).sum(axis=axis),
            permutation_type="samples",
            n_resamples=4000,
            rng=np.random.default_rng(1),
        )
        assert sign_flip_p(differences) == pytest.approx(flipped.pvalue, abs=4 * math.sqrt(0.25 / 4000))


def test_few_recordings_cannot_make_a_small_p_value() -> None:
    a, cluster = np.ones(1000, bool), np.repeat(np.arange(4), 250)
    assert mcnemar_clustered(a, ~a, cluster) == 2 / 2**4


# ---- folds and seeds

values = st.lists(st.floats(-1e3, 1e3).map(lambda v: round(v, 6)), min_size=2, max_size=15)


@given(values)
def test_a_summary_is_scipys_interval(found: list[float]) -> None:
    told = summary(found)
    assert (told.n, told.mean) == (len(found), pytest.approx(np.mean(found)))
    assert told.deviation == pytest.approx(np.std(found, ddof=1))
    if told.deviation > 1e-6:
        low, high = t.interval(0.95, len(found) - 1, np.mean(found), told.deviation / math.sqrt(len(found)))
        assert (told.low, told.high) == pytest.approx((low, high))


def test_the_interval_holds_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = [s.low <= 5 <= s.high for s in (summary(rng.normal(5, 2, 6).tolist()) for _ in range(2000))]
    assert np.mean(held) == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 2000))


def test_an_interval_of_shares_ends_where_shares_end() -> None:
    told = summary([1.0, 0.98, 0.7], share=True)
    assert told.high == 1.0
    assert told.low == pytest.approx(summary([1.0, 0.98, 0.7]).low)
    assert summary([0.0, 0.0, 0.2], share=True).low == 0.0


def test_one_value_has_a_mean_and_no_spread() -> None:
    told = summary([0.5])
    assert told.mean == 0.5
    assert all(math.isnan(v) for v in (told.deviation, told.low, told.high))


@given(values, st.integers(0, 2**32 - 1))
def test_the_paired_test_is_scipys(a: list[float], seed: int) -> None:
    b = (np.array(a) + np.random.default_rng(seed).normal(0.3, 1, len(a))).tolist()
    assert paired_t(a, b, 0.5).p_value == pytest.approx(ttest_rel(a, b).pvalue)


def test_students_own_example() -> None:
    """Hours of sleep gained under two drugs by ten patients (Student 1908, section IX): t = 4.06 with 9 degrees."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    assert round(paired_t(second, first, 0.5).p_value, 4) == 0.0028


def test_the_correction_widens_the_variance_by_n_times_the_ratio() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.normal(0.95, 0.01, 10), rng.normal(0.94, 0.01, 10)
    told, differences = paired_t(a.tolist(), b.tolist(), ratio=1 / 9), a - b
    deviate = differences.mean() / math.sqrt(differences.var(ddof=1) * (1 / 10 + 1 / 9))
    assert told.corrected_p == pytest.approx(2 * t.sf(abs(deviate), 9))
    assert told.corrected_p > told.p_value
    assert paired_t(a.tolist(), b.tolist(), ratio=1e-12).corrected_p == pytest.approx(told.p_value)


def test_folds_without_any_difference_do_not_differ() -> None:
    told = paired_t([0.9, 0.8, 0.7], [0.9, 0.8, 0.7], ratio=0.5)
    assert (told.p_value, told.corrected_p) == (1, 1)


@pytest.mark.parametrize(("a", "b"), [([0.3, 0.2], [0.2, 0.1]), ([1.0, 2.0, 3.0], [1.5, 2.5, 3.5])])
def test_one_and_the_same_difference_in_all_folds_is_no_evidence_that_t_can_weigh(
    a: list[float], b: list[float]
) -> None:
    told = paired_t(a, b, ratio=0.5)
    assert math.isnan(told.p_value)
    assert math.isnan(told.corrected_p)


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ([1.0], [2.0], "got 1 and 1 values"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "got 2 and 3 values"),
        ([1.0, math.nan], [1.0, 2.0], "finite values, one at least, got [1.0, nan]"),
        ([], [], "one at least, got []"),
    ],
)
def test_what_cannot_be_tested_is_refused(a: list[float], b: list[float], said: str) -> None:
    with pytest.raises(InputError) as refusal:
        paired_t(a, b, 0.5)
    assert said in str(refusal.value)


# ---- many comparisons

p_lists = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(p_lists)
def test_holm_rejects_what_the_step_down_procedure_rejects(p: list[float]) -> None:
    for alpha in (0.01, 0.05, 0.2):
        rejected = 0
        for rank, value in enumerate(sorted(p)):
            if value > alpha / (len(p) - rank):
                break
            rejected += 1
        sure = [a for a in holm(p) if abs(a - alpha) > 1e-12]
        unsure = len(p) - len(sure)
        assert sum(a <= alpha for a in sure) <= rejected <= sum(a <= alpha for a in sure) + unsure


@given(p_lists)
def test_holm_keeps_the_order_and_lies_between_the_p_value_and_bonferronis(p: list[float]) -> None:
    adjusted = holm(p)
    smallest = int(np.argmin(p))
    assert adjusted[smallest] == pytest.approx(min(1.0, len(p) * p[smallest]))
    by_size = [a for _, a in sorted(zip(p, adjusted, strict=True))]
    assert by_size == sorted(by_size)
    assert all(v <= a <= min(1.0, len(p) * v) + 1e-15 for v, a in zip(p, adjusted, strict=True))
    order = np.random.default_rng(len(p)).permutation(len(p))
    assert holm([p[i] for i in order]) == [adjusted[i] for i in order]


def test_a_textbook_example_of_holm() -> None:
    """.01 * 4, .02 * 3 (with .03 * 2 and .04 * 1 held up to it): Holm 1979, worked by hand."""
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.04, 0.6, 0.9]) == pytest.approx([0.12, 1.0, 1.0])
    assert holm([]) == []


def test_a_test_that_could_not_be_made_counts_and_stays_unsaid() -> None:
    first, missing, last = holm([0.01, math.nan, 0.02])
    assert (first, last) == pytest.approx((0.03, 0.04))
    assert math.isnan(missing)

"""Intervals over what is independent."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.metrics import f1_score

from mmtune.analysis.statistics import macro_f1_interval, share_interval


@pytest.mark.parametrize("hits", [0, 37, 190, 200])
def test_of_rows_alone_the_interval_is_clopper_and_pearson_s(hits: int) -> None:
    """To what the variance of n - 1 instead of n rows makes of it."""
    right = np.arange(200) < hits
    low, high = share_interval(right, np.arange(200))
    exact = binomtest(hits, 200).proportion_ci(method="exact")
    assert (low, high) == pytest.approx((exact.low, exact.high), abs=1e-3)


def test_rows_that_stand_and_fall_together_count_once() -> None:
    rng = np.random.default_rng(0)
    right = np.repeat(rng.random(30) < 0.8, 20)
    together, apart = share_interval(right, np.repeat(np.arange(30), 20)), share_interval(right, np.arange(600))
    units = binomtest(int(right[::20].sum()), 30).proportion_ci(method="exact")
    assert together == pytest.approx((units.low, units.high), abs=0.02)
    assert together[1] - together[0] > 3 * (apart[1] - apart[0])
    # All right: as sure as thirty rows make one, not six hundred.
    assert share_interval(np.ones(600, bool), np.repeat(np.arange(30), 20))[0] == pytest.approx(0.025 ** (1 / 30))


@pytest.mark.parametrize("hits", range(1, 10))
def test_clusters_that_agree_count_by_their_rows_whatever_the_share_is(hits: int) -> None:
    right = np.tile(np.arange(10) < hits, 4)
    low, high = share_interval(right, np.repeat(np.arange(4), 10))
    exact = binomtest(4 * hits, 40).proportion_ci(method="exact")
    assert (low, high) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize("units", [1, 2, 4])
def test_the_interval_of_f1_over_a_few_units_holds_it(units: int) -> None:
    rng = np.random.default_rng(4)
    label = (rng.random(1_000) < 0.08).astype(np.int64)
    said = np.where(rng.random(1_000) < 0.1, 0, np.where(rng.random(1_000) < 0.04, 1 - label, label))
    unit = np.arange(1_000) * units // 1_000
    low, high = macro_f1_interval(label, said, unit, 2, seed=0)
    score = f1_score(label, said, average="macro")
    assert 0 <= low < score < high <= 1
    accuracy = share_interval(label == said, unit)
    assert high - low > accuracy[1] - accuracy[0] or units == 1


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    rng, inside = np.random.default_rng(1), 0
    for _ in range(300):
        of_unit = rng.beta(18, 2, size=25)
        right = rng.random((25, 12)) < of_unit[:, None]
        low, high = share_interval(right.ravel(), np.repeat(np.arange(25), 12))
        inside += low <= 0.9 <= high
    assert inside >= 0.92 * 300


@pytest.mark.parametrize(("classes", "rows"), [(200, 2), (50, 10)])
def test_the_interval_of_f1_holds_it_and_the_truth_where_a_class_has_few_units(classes: int, rows: int) -> None:
    rng, inside = np.random.default_rng(3), 0

    def drawn(rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        label = np.repeat(np.arange(classes), rows)
        return label, np.where(rng.random(len(label)) < 0.85, label, rng.integers(classes, size=len(label)))

    truth = f1_score(*drawn(4_000), average="macro")
    for seed in range(15):
        label, said = drawn(rows)
        low, high = macro_f1_interval(label, said, np.arange(len(label)), classes, seed)
        assert 0 <= low <= f1_score(label, said, average="macro") <= high <= 1
        inside += low <= truth <= high
    assert inside >= 12


def test_the_interval_of_f1_lies_around_it_and_is_wider_over_fewer_units() -> None:
    rng = np.random.default_rng(2)
    label = rng.integers(4, size=400)
    said = np.where(rng.random(400) < 0.85, label, rng.integers(4, size=400))
    of_rows = macro_f1_interval(label, said, np.arange(400), 4, seed=0)
    assert of_rows[0] < 0.9 < of_rows[1]
    assert of_rows == macro_f1_interval(label, said, np.arange(400), 4, seed=0)
    clustered = np.where(np.repeat(rng.random(10) < 0.7, 40), label, said)
    wide = macro_f1_interval(label, clustered, np.repeat(np.arange(10), 40), 4, seed=0)
    narrow = macro_f1_interval(label, clustered, np.arange(400), 4, seed=0)
    assert wide[1] - wide[0] > narrow[1] - narrow[0]

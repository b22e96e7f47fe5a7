"""How far repeated measurements spread, and whether two models differ by more than chance.

scipy is imported where it is used: it would slow the start of every command.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError

DRAWS, FEWEST_DRAWN = 1_000, 5
"""Of the bootstrap, and the clusters below which there is none."""
BIASED = 0.25
"""Of the bootstrap's deviation: a smaller bias may be left alone (Efron and Tibshirani 1993, section 10.3)."""


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Rows that only `a` gets right, rows that only `b` gets right, and the two-sided exact p-value."""

    only_a: int
    only_b: int
    p_value: float

    def a_is_worse(self, alpha: float) -> bool:
        """Whether `a` is right less often than `b`, and significantly so at the level `alpha`."""
        return self.only_a < self.only_b and self.p_value < alpha


def mcnemar_exact(a_right: NDArray[np.bool_], b_right: NDArray[np.bool_]) -> McNemar:
    """McNemar's exact test of two classifiers that answered the same rows; (N,) bool each, N >= 1.

    Under the null hypothesis each row that one alone gets right is a fair coin's toss (McNemar 1947).
    Raises InputError unless both have one length.
    """
    if len(a_right) != len(b_right):
        raise InputError(f"both classifiers must answer the same rows, got {len(a_right)} and {len(b_right)}")
    from scipy.stats import binomtest

    only_a, only_b = int((a_right & ~b_right).sum()), int((b_right & ~a_right).sum())
    tosses = only_a + only_b
    p_value = float(binomtest(only_a, tosses, 0.5).pvalue) if tosses else 1.0
    return McNemar(only_a=only_a, only_b=only_b, p_value=p_value)


def mcnemar_clustered(a_right: NDArray[np.bool_], b_right: NDArray[np.bool_], cluster: NDArray[np.int64]) -> float:
    """The p-value of McNemar's test where rows (N,) of one cluster (N,), such as a recording, stand or fall together.

    With d the rows of a cluster that `a` alone gets right less those that `b` alone does, the exact test flips the
    signs of whole clusters and counts in how many of all outcomes |sum d| is as large; with clusters of one row it
    is `mcnemar_exact`.
    """
    _, index = np.unique(cluster, return_inverse=True)
    differences = np.bincount(index, a_right.astype(np.float64) - b_right)
    return sign_flip_p(differences.astype(np.int64))


def sign_flip_p(differences: NDArray[np.int64]) -> float:
    """The share of all 2^K ways to sign integers (K,) whose sum is at least as far from 0: an exact two-sided p."""
    sizes = np.abs(differences[differences != 0])
    middle = int(sizes.sum())
    law = np.zeros(2 * middle + 1)
    law[middle] = 1.0
    for size in sizes.tolist():
        moved = np.zeros_like(law)
        moved[size:] += law[:-size] / 2
        moved[:-size] += law[size:] / 2
        law = moved
    far = np.abs(np.arange(-middle, middle + 1)) >= abs(int(differences.sum()))
    return min(1.0, float(law[far].sum()))


def least_sign_flip_p(count: int) -> float:
    """The least that `sign_flip_p` of so many differences can be: all of one sign."""
    return min(1.0, 2.0 ** (1 - count))


def share_interval(right: NDArray[np.bool_], cluster: NDArray[np.int64]) -> tuple[float, float]:
    """A 95 % interval of the share of rows (N,) that is right, whose clusters (N,) are what is independent.

    Clopper and Pearson's, of as many rows as tell as much (Korn and Graubard, Survey Methodology 24, 1998, page 193).
    """
    return exact_interval(float(right.mean()), telling_rows(right, cluster))


def telling_rows(right: NDArray[np.bool_], cluster: NDArray[np.int64]) -> float:
    """How many independent rows would tell as much of the share that is right as rows (N,) of clusters (N,).

    The share's variance over clusters says it; at most N. Where none or all are right, or all rows are of one cluster,
    there is no variance to go by, and each cluster counts as one row.
    """
    from scipy.stats import t

    rows, hits = len(right), int(right.sum())
    _, of_row = np.unique(cluster, return_inverse=True)
    clusters = int(of_row.max()) + 1
    if clusters == 1 or hits in (0, rows):
        return float(clusters)
    # In whole numbers: clusters with one and the same share vary by nothing, whatever that share is.
    off = rows * np.bincount(of_row[right], minlength=clusters) - hits * np.bincount(of_row)
    variance = clusters / (clusters - 1) * float(np.square(off / rows).sum()) / rows**2
    degrees = float(t.ppf(0.975, rows - 1) / t.ppf(0.975, clusters - 1)) ** 2
    share = hits / rows
    return min(float(rows), share * (1 - share) / variance * degrees) if variance else float(rows)


def exact_interval(share: float, telling: float) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a share of so many rows, which need not be a whole number."""
    from scipy.stats import beta

    hits = share * telling
    low = float(beta.ppf(0.025, hits, telling - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(0.975, hits + 1, telling - hits)) if hits < telling else 1.0
    return low, high


def macro_f1_interval(
    label: NDArray[np.int64], prediction: NDArray[np.int64], cluster: NDArray[np.int64], classes: int, seed: int
) -> tuple[float, float]:
    """A 95 % interval of macro-F1, of clusters (N,) drawn with replacement, DRAWS times (Field and Welsh, 2007).

    label, prediction: (N,), from 0 to classes - 1. Where no row is wrong, or clusters are fewer than FEWEST_DRAWN, all
    draws are alike: it is that of a share as great then, of as many rows as tell as much of the accuracy. With few
    clusters a class draws leave classes out, and are lower than the score itself: where by more than BIASED of their
    deviation, the interval holds its mirror image about the score too (of 200 classes of 10 rows it holds the truth in
    all of 100 trials, else in 82; with 10 of 30 nothing changes).
    """
    _, unit = np.unique(cluster, return_inverse=True)
    rng, count = np.random.default_rng(seed), int(unit.max()) + 1
    right = label == prediction

    def score(times: NDArray[np.int64]) -> float:
        hits, true, said = (
            np.bincount(own, weights=weight, minlength=classes)
            for own, weight in ((label, times * right), (label, times), (prediction, times))
        )
        total = true + said
        return float((2 * hits / np.maximum(total, 1))[total > 0].mean())

    point = score(np.ones_like(unit))
    if right.all() or count < FEWEST_DRAWN:
        return exact_interval(point, telling_rows(right, unit))
    drawn = (rng.integers(count, size=count) for _ in range(DRAWS))
    found = np.array([score(np.bincount(own, minlength=count)[unit]) for own in drawn])
    low, high = np.percentile(found, [2.5, 97.5])
    if abs(found.mean() - point) > BIASED * found.std():
        low, high = min(low, 2 * point - high), max(high, 2 * point - low)
    return max(0.0, float(low)), min(1.0, float(high))


@dataclass(frozen=True, kw_only=True)
class Summary:
    """n values: mean, sample standard deviation, and the two-sided 95 % t interval of the mean, low to high."""

    n: int
    mean: float
    deviation: float
    low: float
    high: float


def summary(values: Sequence[float], *, share: bool = False) -> Summary:
    """Mean, deviation (n - 1) and 95 % t interval of the results of folds or seeds.

    share: whether the values are shares; an interval of them ends at 0 and 1, where all that they can be ends.
    One value has a mean and no more: the rest is NaN. Raises InputError for no value, NaN or infinity.
    """
    from scipy.stats import t

    found = finite(values, "a summary")
    n, mean = len(found), float(found.mean())
    if n == 1:
        return Summary(n=1, mean=mean, deviation=math.nan, low=math.nan, high=math.nan)
    deviation = float(found.std(ddof=1))
    half = float(t.ppf(0.975, n - 1)) * deviation / math.sqrt(n)
    low, high = np.clip((mean - half, mean + half), *((0.0, 1.0) if share else (-np.inf, np.inf))).tolist()
    return Summary(n=n, mean=mean, deviation=deviation, low=low, high=high)


def finite(values: Sequence[float], what: str) -> NDArray[np.float64]:
    """Values as an array (n,); InputError unless there is one at least and all are finite."""
    found = np.asarray(values, dtype=np.float64)
    if found.ndim != 1 or not len(found) or not np.isfinite(found).all():
        raise InputError(f"{what} needs finite values, one at least, got {found.tolist()}")
    return found


@dataclass(frozen=True, kw_only=True)
class PairedT:
    """The two-sided p-value of a paired t-test, and the same as Nadeau and Bengio correct it."""

    p_value: float
    corrected_p: float


def paired_t(a: Sequence[float], b: Sequence[float], ratio: float) -> PairedT:
    """The paired t-test of two models' results on the same n folds (XFlow, section 3.2).

    The training sets of folds overlap, so fold results are not independent, and the plain test finds differences
    too readily. `ratio`, test rows over training rows, corrects for it (Nadeau and Bengio, Machine Learning 52, 2003,
    page 239): the variance of the mean is s^2 (1 / n + ratio), not s^2 / n.
    If all differences are zero, p = 1. If all are equal and not zero, there is no deviation to hold the mean against:
    both p-values are NaN, and nothing may be called significant.
    Raises InputError unless a and b have one length n >= 2 and are finite.
    """
    first, second = finite(a, "a paired t-test"), finite(b, "a paired t-test")
    if len(first) != len(second) or len(first) < 2:
        raise InputError(f"a paired t-test needs 2 pairs at least, got {len(first)} and {len(second)} values")
    differences = first - second
    n, mean = len(differences), abs(float(differences.mean()))
    rounding = 8 * float(np.finfo(np.float64).eps * np.abs([first, second]).max())
    if np.ptp(differences) <= rounding:
        p_value = math.nan if mean > rounding else 1.0
        return PairedT(p_value=p_value, corrected_p=p_value)
    from scipy.stats import t

    variances = differences.var(ddof=1) * np.array([1 / n, 1 / n + ratio])
    p_value, corrected = (2 * t.sf(mean / np.sqrt(variances), n - 1)).tolist()
    return PairedT(p_value=p_value, corrected_p=corrected)


def mean_p(differences: Sequence[float]) -> float:
    """The two-sided p-value of differences (n,) whose mean is to be 0, n >= 2: the paired t-test's.

    Where all are alike there is no spread to go by, and their sign alone counts.
    """
    from scipy.stats import ttest_1samp

    found = np.asarray(differences, np.float64)
    if not found.any():
        return 1.0
    if found.std() <= 1e-9 * np.abs(found).max():
        return least_sign_flip_p(len(found))
    return float(ttest_1samp(found, 0.0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (Scandinavian Journal of Statistics 6, 1979, page 65), in the order given.

    Compared with a level alpha they keep the chance of any false claim among all tests below alpha, whatever
    their dependence. NaN, a test that could not be made, counts as a test with p = 1 and stays NaN.
    """
    p = np.nan_to_num(np.asarray(p_values, dtype=np.float64), nan=1.0)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return np.where(np.isnan(p_values), np.nan, adjusted).tolist()

"""What validation rows say of a model's probabilities: how often one is wrong, and which classes to name beside it.

Rows of one unit, such as the pairs that share a recording, are one piece of evidence: shares are of rows, what they are
worth is counted in units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmtune.train.metrics import BINS

POINTS = 400
"""So many confidences, and as many scores, stand for those of all rows."""
SURE = 0.9
"""How sure a bound on an error is."""
LEAST_KEPT = 0.1
"""A threshold that lets fewer rows through is not looked for: of so few, chance decides how many are wrong."""


@dataclass(frozen=True, kw_only=True)
class Risk:
    """By confidence, rising: of the rows with at least that, how many there are, are wrong, and their units."""

    confidence: tuple[float, ...]
    rows: tuple[int, ...]
    wrong: tuple[int, ...]
    units: tuple[int, ...]

    def threshold(self, error: float) -> float:
        """The least confidence with which at most the share `error` of answers is wrong; infinity where there is none.

        Selective classification (Geifman and El-Yaniv 2017) with Clopper and Pearson's upper bound, of as many
        independent answers as there are units. From the highest confidence that has units enough, and LEAST_KEPT of the
        rows, it goes down for as long as the bound keeps to the error, so that one is SURE of the whole search
        (fixed-sequence testing: Angelopoulos et al., "Learn then test", 2021), and not of each threshold alone.
        """
        from scipy.special import betaincinv

        units = np.array(self.units, np.float64)
        wrong = units * np.array(self.wrong) / np.array(self.rows)
        right = units - wrong
        bound = np.where(right > 0, betaincinv(wrong + 1, np.maximum(right, 1e-9), SURE), 1.0)
        many = np.array(self.rows) >= LEAST_KEPT * self.rows[0]
        enough = int(np.sum(many & (betaincinv(1.0, units, SURE) <= error)))
        failed = np.flatnonzero(bound[:enough] > error)
        least = failed[-1] + 1 if len(failed) else 0
        return self.confidence[least] if least < enough else math.inf

    def kept(self, error: float) -> float:
        """The share of rows that `threshold` lets through."""
        least = self.threshold(error)
        return self.rows[self.confidence.index(least)] / self.rows[0] if least in self.confidence else 0.0


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """Scores 1 - p(true class) of rows, rising, and how many rows have at most that."""

    score: tuple[float, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Bins:
    """By confidence in bins of equal width: rows, how many of them are right, and their summed confidence."""

    rows: tuple[int, ...]
    right: tuple[int, ...]
    confidence: tuple[float, ...]

    @property
    def error(self) -> float:
        """The expected calibration error (`mmtune.train.metrics.calibration_error`)."""
        return float(np.abs(np.array(self.right) - np.array(self.confidence)).sum() / sum(self.rows))


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How the probabilities of a network, or of one bank of it, are to be taken.

    temperature: what its logits are divided by. units: how many the validation rows have. before: reliability without
    the temperature; after: with one that was fitted on other rows, None where all rows are one unit.
    """

    temperature: float
    units: int
    risk: Risk
    ranks: Ranks
    before: Bins
    after: Bins | None

    @property
    def rows(self) -> int:
        """How many rows validated."""
        return self.ranks.rows[-1]

    @property
    def accuracy(self) -> float:
        """The share of them that is right."""
        return 1 - self.risk.wrong[0] / self.rows

    def least(self, coverage: float) -> float:
        """The least probability of a class that belongs to the set which holds the true one with such a coverage.

        0, which all classes have, where the units are too few to say. Split conformal prediction with the score
        1 - p (Vovk et al. 2005; Sadinle et al. 2019, LAC): the ceil((n + 1) coverage) / n quantile, n the units.
        """
        level = math.ceil((self.units + 1) * coverage) / self.units
        if level > 1:
            return 0.0
        place = int(np.searchsorted(self.ranks.rows, level * self.rows * (1 - 1e-12)))
        return 1 - self.ranks.score[place]


def risk_of(confidence: NDArray[np.float64], right: NDArray[np.bool_], units: NDArray[np.int64]) -> Risk:
    """Risk from the confidence of rows (N,), whether they are right, and their units."""
    order = np.argsort(-confidence, kind="stable")
    falling = confidence[order]
    wrong = np.cumsum(~right[order])
    first = np.zeros(len(order), np.int64)
    first[np.unique(units[order], return_index=True)[1]] = 1
    points = spread_points(confidence)
    last = np.searchsorted(-falling, -points, side="right") - 1
    return Risk(
        confidence=tuple(points.tolist()),
        rows=tuple((last + 1).tolist()),
        wrong=tuple(wrong[last].tolist()),
        units=tuple(np.cumsum(first)[last].tolist()),
    )


def ranks_of(score: NDArray[np.float64]) -> Ranks:
    """Ranks from the scores of rows (N,), the greatest among them."""
    points = spread_points(score)
    counts = np.searchsorted(np.sort(score), points, side="right")
    return Ranks(score=tuple(points.tolist()), rows=tuple(counts.tolist()))


def spread_points(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """At most POINTS of the values (N,), different and rising, evenly spread over their ranks, both ends among them."""
    ranks = np.linspace(0, len(values) - 1, min(POINTS, len(values))).round().astype(np.int64)
    return np.unique(np.sort(values)[ranks])


def bins_of(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> Bins:
    """Bins from the confidence of rows (N,) and whether they are right; a bin has its upper end."""
    place = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)
    counts = np.bincount(place, minlength=BINS)
    hits, sums = (np.bincount(place, weights, BINS) for weights in (right.astype(np.float64), confidence))
    return Bins(rows=tuple(counts.tolist()), right=tuple(hits.astype(int).tolist()), confidence=tuple(sums.tolist()))

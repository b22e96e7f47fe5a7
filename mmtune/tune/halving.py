"""Asynchronous successive halving: which trials are worth going on with after a few epochs.

Of the trials that have come to a rung, the best third and one more go on (Li et al., "A System for Massively Parallel
Hyperparameter Tuning", section 3.2; the one more because a third of the first few is nobody). At the first rung, where
scores say least and an epoch costs least, it is the best half and one more.
"""

from __future__ import annotations

import bisect
from collections.abc import Collection

REDUCTION = 3
RUNGS = 3
FIRST = 2
"""Of so many trials one goes on at the first rung."""


def rungs(epochs: int) -> list[int]:
    """The epochs after which a trial may be ended: a 27th of the budget, a ninth, a third; at least 1, at most half."""
    first = max(1, epochs // REDUCTION**RUNGS)
    steps = [first * REDUCTION**n for n in range(RUNGS)]
    return [step for step in steps if 2 * step <= epochs]


def places(arrived: int, is_first: bool) -> int:
    """How many of the trials that have come to a rung go on from it; is_first: whether it is the first one."""
    return arrived // (FIRST if is_first else REDUCTION) + 1


class Halving:
    """The scores that trials had at each rung, in ascending order; the higher a score, the better."""

    def __init__(self, rungs: Collection[int]) -> None:
        self.scores: dict[int, list[float]] = {rung: [] for rung in rungs}
        self.first = min(rungs, default=0)

    def add(self, rung: int, score: float) -> None:
        """Add the score that a trial had at a rung."""
        bisect.insort(self.scores[rung], score)

    def goes_on(self, rung: int, score: float) -> bool:
        """Whether a trial with this score, which was added, is among those that go on."""
        scores = self.scores[rung]
        better = len(scores) - bisect.bisect_right(scores, score)
        return better < places(len(scores), rung == self.first)

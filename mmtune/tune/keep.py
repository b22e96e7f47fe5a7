"""Of which trials the files are kept: weights and embeddings take a hundred times the room of metrics."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Iterable, Mapping

from mmtune.tracking import COMPLETE
from mmtune.tune.search import Attempt


class Keeper:
    """The best trials of a study, complete ones first, and those that lead at a rung.

    most: how many best ones, None for all. always: indices that are kept whatever happens.
    """

    def __init__(self, most: int | None, always: Collection[int] = ()) -> None:
        self.most, self.always = most, frozenset(always)
        self.ranked: list[tuple[bool, float, int]] = []
        self.leaders: dict[int, tuple[float, int]] = {}

    def wants(self, index: int) -> bool:
        """Whether the files of a trial that was noted are to be kept."""
        if self.most is None or index in self.always:
            return True
        return index in self._best() or any(index == leader for _, leader in self.leaders.values())

    def note(self, index: int, state: str, score: float, reports: Mapping[int, float]) -> set[int]:
        """Note a trial that has ended well; returns the ones that were kept until now and no longer are."""
        before = self._near()
        bisect.insort(self.ranked, (state == COMPLETE, score, -index))
        for rung, reported in reports.items():
            self.leaders[rung] = max(self.leaders.get(rung, (reported, index)), (reported, index))
        return {own for own in before if not self.wants(own)}

    def rebuild(self, attempts: Iterable[Attempt]) -> None:
        """Note everything that ended well before."""
        for attempt in attempts:
            if attempt.ended_well:
                # What a pruned trial had last is what it is ranked by.
                last = attempt.reports[max(attempt.reports)] if attempt.reports else 0.0
                score = last if attempt.score is None else attempt.score
                self.note(attempt.index, attempt.state, score, attempt.reports)

    def _best(self) -> set[int]:
        return {-index for _, _, index in self.ranked[-(self.most or 0) :]}

    def _near(self) -> set[int]:
        """All that are kept: the best, and the leaders."""
        return self._best() | {leader for _, leader in self.leaders.values()} if self.most else set()

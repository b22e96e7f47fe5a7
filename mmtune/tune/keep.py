"""Of which trials the files are kept: weights and embeddings take a hundred times the room of metrics."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Iterable, Mapping, Sequence

from mmtune.networks.card import FINAL, HELD, MAPS, MODEL, VALIDATION
from mmtune.tracking import COMPLETE, Recorder
from mmtune.tracking.recorder import Tracked
from mmtune.tune.search import Attempt

# What takes room.
KEPT = (MODEL, FINAL, VALIDATION, HELD, MAPS)


class Keeper:
    """The best trials of a study, complete ones first, and those that lead at a rung; the others lose their files.

    most: how many best ones, None for all. always: indices that are kept whatever happens.
    """

    def __init__(self, most: int | None, recorder: Recorder, always: Collection[int] = ()) -> None:
        self.most, self.recorder, self.always = most, recorder, frozenset(always)
        self.ranked: list[tuple[bool, float, int]] = []
        self.leaders: dict[int, tuple[float, int]] = {}
        self.runs: dict[int, Sequence[Tracked]] = {}

    def rebuild(self, attempts: Iterable[Attempt], runs: Mapping[int, Sequence[Tracked]]) -> None:
        """Take in everything that ended well before; runs: by index, those of which files were kept until now."""
        for attempt in attempts:
            if attempt.ended_well:
                # What a pruned trial had last is what it is ranked by.
                last = attempt.reports[max(attempt.reports)] if attempt.reports else 0.0
                score = last if attempt.score is None else attempt.score
                self._note(attempt.index, attempt.state, score, attempt.reports)
        self.runs = dict(runs)
        self._drop(index for index in runs if not self._wants(index))

    def keeps(
        self, index: int, state: str, score: float, reports: Mapping[int, float], runs: Sequence[Tracked]
    ) -> bool:
        """Whether the files of a trial that has just ended well are to be kept; runs: its own, then its parts'."""
        before = self._near()
        self._note(index, state, score, reports)
        self._drop(own for own in before if not self._wants(own))
        if self._wants(index):
            self.runs[index] = runs
            return True
        # Its own are not brought to the store at all.
        self.recorder.drop(runs[1:], KEPT)
        return False

    def _note(self, index: int, state: str, score: float, reports: Mapping[int, float]) -> None:
        bisect.insort(self.ranked, (state == COMPLETE, score, -index))
        for rung, reported in reports.items():
            self.leaders[rung] = max(self.leaders.get(rung, (reported, index)), (reported, index))

    def _drop(self, indices: Iterable[int]) -> None:
        for index in list(indices):
            self.recorder.drop(self.runs.pop(index, ()), KEPT)

    def _wants(self, index: int) -> bool:
        return self.most is None or index in self.always or index in self._near()

    def _near(self) -> set[int]:
        """All that are kept for what they reached: the best, and the leaders."""
        if not self.most:
            return set()
        return {-index for _, _, index in self.ranked[-self.most :]} | {own for _, own in self.leaders.values()}

"""Of which trials the files are kept: weights and embeddings take a hundred times the room of metrics."""

from __future__ import annotations

import bisect
import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from mmtune.networks.card import CALIBRATION, FINAL, HELD, MAPS, MODEL, VALIDATION
from mmtune.tracking import COMPLETE, Recorder
from mmtune.tracking.recorder import Tracked
from mmtune.train.objective import MACRO_F1, Objective, front
from mmtune.tune.search import Attempt

# What takes room.
KEPT = (MODEL, FINAL, VALIDATION, CALIBRATION, HELD, MAPS)


class Keeper:
    """The best trials of a study, complete ones first, those that lead at a rung, and the front of several metrics.

    The others lose their files. most: how many best ones, None for all. always: indices that are kept whatever happens.
    """

    def __init__(
        self, most: int | None, recorder: Recorder, always: Collection[int] = (), objective: Objective = MACRO_F1
    ) -> None:
        self.most, self.recorder, self.always, self.objective = most, recorder, frozenset(always), objective
        self.front: dict[int, tuple[float, ...]] = {}
        self.ranked: list[tuple[bool, float, int]] = []
        self.leaders: dict[int, tuple[float, int]] = {}
        self.runs: dict[int, Sequence[Tracked]] = {}

    def rebuild(self, attempts: Iterable[Attempt], runs: Mapping[int, Sequence[Tracked]]) -> None:
        """Take in everything that ended well before; runs: by index, those of which files were kept until now."""
        for attempt in attempts:
            if attempt.ended_well:
                self._note(attempt.index, attempt.state, attempt.scores, attempt.reports)
        self.runs = {} if self.most is None else dict(runs)
        self._drop(index for index in runs if not self._wants(index))

    def keeps(
        self,
        index: int,
        state: str,
        scores: Sequence[float],
        reports: Mapping[int, float],
        runs: Sequence[Tracked],
    ) -> bool:
        """Whether the files of a trial that has just ended well are to be kept; runs: its own, then its parts'."""
        before = self._near()
        self._note(index, state, scores, reports)
        self._drop(own for own in before if not self._wants(own))
        if self.most is None:
            return True
        if self._wants(index):
            self.runs[index] = runs
            return True
        # Its own are not brought to the store at all.
        self.recorder.drop(runs[1:], KEPT)
        return False

    def _note(self, index: int, state: str, scores: Sequence[float], reports: Mapping[int, float]) -> None:
        rank = self.objective.first.rank
        if state != COMPLETE:
            # What a pruned trial had last is what it is ranked by, in this call and in the next.
            scores = (reports[max(reports)],) if reports else ()
        bisect.insort(self.ranked, (state == COMPLETE, rank(scores[0]) if scores else -math.inf, -index))
        for rung, reported in reports.items():
            own = (rank(reported), index)
            self.leaders[rung] = max(self.leaders.get(rung, own), own)
        if self.objective.several and state == COMPLETE:
            ranks = {**self.front, index: self.objective.ranks(scores)}
            self.front = {own: ranks[own] for own in front(ranks)}

    def _drop(self, indices: Iterable[int]) -> None:
        for index in list(indices):
            self.recorder.drop(self.runs.pop(index, ()), KEPT)

    def _wants(self, index: int) -> bool:
        return self.most is None or index in self.always or index in self._near()

    def _near(self) -> set[int]:
        """All that are kept for what they reached: the best, the leaders, and the front."""
        if not self.most:
            return set()
        best = {-index for _, _, index in self.ranked[-self.most :]}
        return best | {own for _, own in self.leaders.values()} | self.front.keys()

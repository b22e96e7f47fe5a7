"""How long a study will take yet, by how its trainings went so far and by how they are stopped early."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from mmtune.tune.halving import places

PRIOR = 3.0
"""What is expected of a rung beforehand, that scores come in any order, counts like so many trainings."""
MOST_COUNTED = 300
"""Of so many trainings to come each is counted for itself; later ones go on in nearly the same share."""
TAIL = 0.5
"""The share of a whole training for which, at the end, one worker is busy and the others have nothing to do."""


@dataclass(kw_only=True)
class Pace:
    """A training: when it began, its last epoch, when that ended, and how many it had made before it began."""

    began: float
    epoch: int = 0
    told: float = 0.0
    before: int = 0

    @property
    def made(self) -> int:
        """How many epochs it has made since it began."""
        return self.epoch - self.before

    @property
    def seconds(self) -> float:
        """Of an epoch of it."""
        return (self.told - self.began) / max(1, self.made)


class Forecast:
    """Seconds left, of trainings of `epochs` each that may end at `rungs`.

    arrived: by rung, how many had come to it before. How often a training goes on from a rung is what halving would let
    it, and what was seen; how many epochs it makes where it is not stopped, and what one of them takes, is learnt.
    Clocks are the caller's, in seconds.
    """

    def __init__(self, epochs: int, rungs: Collection[int] = (), arrived: Mapping[int, int] = {}) -> None:
        self.epochs, self.rungs = epochs, tuple(sorted(rungs))
        self.arrived = {rung: arrived.get(rung, 0) for rung in self.rungs}
        self.passed = dict.fromkeys(self.rungs, 0.0)
        self.expected = dict.fromkeys(self.rungs, 0.0)
        self.whole: list[int] = []
        self.running: dict[int, Pace] = {}
        self.ended: list[float] = []
        self.endings: list[float] = []
        self.workers = 1

    def begin(self, number: int, now: float) -> None:
        """A training has begun."""
        self.running[number] = Pace(began=now)
        self.workers = max(self.workers, len(self.running))

    def advance(self, number: int, epoch: int, now: float, new: bool = True) -> None:
        """A training has come to the end of an epoch; new: whether just now, and not before it was cut short."""
        own = self.running[number]
        if not own.epoch:
            # Of a training that goes on, what its checkpoint had is not told again.
            own.before = epoch - 1
        own.epoch, own.told = epoch, now
        if not new:
            own.began, own.before = now, epoch
            return
        if epoch in self.arrived:
            self.arrived[epoch] += 1
            self.expected[epoch] += self._share(epoch, self.arrived[epoch])
        if epoch - 1 in self.passed:
            self.passed[epoch - 1] += 1

    def finish(self, number: int, now: float) -> None:
        """A training has ended: at a rung it was stopped, elsewhere it was whole."""
        own = self.running.pop(number)
        if own.made:
            self.ended.append(own.seconds)
            self.endings.append(now - own.told)
        if own.epoch and own.epoch not in self.arrived:
            self.whole.append(own.epoch)

    def drop(self, number: int) -> None:
        """A training has come to nothing, or waits to go on."""
        del self.running[number]

    def soonest(self, parts: int = 1) -> float:
        """Seconds in which a trial of so many trainings can be told from others, at its first rung or its end."""
        usual = self._usual()
        if usual is None:
            return 0.0
        if self.rungs:
            return usual * self.rungs[0]
        return math.ceil(parts / self.workers) * (usual * self._length() + self._ending())

    def left(self, fresh: int, now: float) -> float | None:
        """Seconds until `fresh` trainings and those under way have ended; None before the first epoch of any."""
        usual = self._usual()
        if usual is None:
            return None
        work, last = self._epochs(fresh) * usual + fresh * self._ending(), 0.0
        for own in list(self.running.values()):
            pace = own.seconds if own.made else usual
            more = self._epochs_of(own.epoch) * pace + self._ending() - (now - own.told if own.made else 0.0)
            work, last = work + max(0.0, more), max(last, more)
        tail = TAIL * (1 - 1 / self.workers) * self._length() * usual if fresh else 0.0
        return max(work / self.workers + tail, last)

    def _usual(self) -> float | None:
        """The mean over trainings of the seconds that an epoch takes; None before the first epoch of any."""
        paces = [*self.ended, *(own.seconds for own in list(self.running.values()) if own.made)]
        return sum(paces) / len(paces) if paces else None

    def _ending(self) -> float:
        """The usual seconds from a training's last epoch to its end, but for each worker's first, which loads more."""
        return statistics.median(self.endings[self.workers :] or [0.0])

    def _epochs(self, fresh: int) -> float:
        """That so many trainings will make."""
        coming, found, last = float(fresh), 0.0, 0.0
        for rung in self.rungs:
            found += coming * (rung - last)
            coming, last = self._going_on(rung, coming), rung
        return found + coming * max(0.0, self._length() - last)

    def _epochs_of(self, epoch: int) -> float:
        """That a training will make yet which has come to an epoch."""
        chance, found, last = 1.0, 0.0, float(epoch)
        for rung in self.rungs:
            if rung > epoch:
                found += chance * (rung - last)
                chance, last = chance * self._going_on(rung, 1), rung
        return found + chance * max(0.0, self._length() - last)

    def _share(self, rung: int, place: int) -> float:
        """How likely the training that comes to a rung as number `place` goes on, had scores no order."""
        return min(1.0, places(place, rung == self.rungs[0]) / place)

    def _going_on(self, rung: int, coming: float) -> float:
        """Of so many trainings that will come to a rung, how many will go on."""
        before = self.arrived[rung]
        near = min(round(coming), MOST_COUNTED)
        usual = sum(self._share(rung, before + n) for n in range(1, near + 1))
        usual += (coming - near) * self._share(rung, before + near + 1)
        learnt = (self.passed[rung] + PRIOR) / (self.expected[rung] + PRIOR)
        return min(coming, usual * learnt)

    def _length(self) -> float:
        """Of those that are stopped at no rung, the mean length in epochs."""
        return (sum(self.whole) + self.epochs) / (len(self.whole) + 1)

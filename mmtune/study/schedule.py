"""What the trials of a study are: in what order they are made, what each may vary, what each waits for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mmtune.base.fields import replace_paths
from mmtune.study.space import Categorical, Integer, Real, Space, Value, grid
from mmtune.train.objective import MACRO_F1, Metric
from mmtune.train.recipe import TrialConfig

if TYPE_CHECKING:
    from mmtune.tune.search import Attempt

TRY = "try"


@dataclass(frozen=True, kw_only=True)
class Draw:
    """How a trial gets its values: those that are `given`, and the rest from the sampler of that name."""

    given: Mapping[str, Value] = field(default_factory=dict)
    sampler: str = ""


class Trials:
    """What schedules share: as it stands here, trials that neither wait for nor build on each other."""

    def needs(self, index: int) -> Sequence[int]:
        """The trials that must have ended before this one begins."""
        return ()

    def resumes(self, index: int) -> int | None:
        """The trial whose last epoch this one goes on from."""
        return None

    def place(self, index: int) -> int:
        """The number that the seed of a trial follows from."""
        return index

    def configure(self, base: TrialConfig, values: Mapping[str, Value]) -> TrialConfig:
        """The configuration that drawn values make of a base."""
        return replace_paths(base, values)

    def lines(self) -> list[str]:
        """What the trials are beside the space, a line each: a study whose lines have changed is another study."""
        return []


@dataclass(frozen=True, kw_only=True)
class Enumerated(Trials):
    """Given points of a space, each once."""

    space: Space
    points: tuple[Mapping[str, Value], ...]

    @property
    def trials(self) -> int:
        return len(self.points)

    def draw(self, index: int, attempts: Sequence[Attempt]) -> Draw:
        return Draw(given=self.points[index])


@dataclass(frozen=True, kw_only=True)
class Sampled(Trials):
    """As many points as asked for, drawn by one sampler. first: the first ones, or parts of them."""

    space: Space
    trials: int
    sampler: str
    first: tuple[Mapping[str, Value], ...] = ()

    def draw(self, index: int, attempts: Sequence[Attempt]) -> Draw:
        given = self.first[index] if index < len(self.first) else {}
        return Draw(given=given, sampler=self.sampler)


@dataclass(frozen=True, kw_only=True)
class Tries(Trials):
    """Configurations that a report lists by name. going_on: by name, the one whose last epoch it goes on from.

    seeds_from: the number that the first one's seed follows from.
    """

    tries: Mapping[str, Mapping[str, Value]]
    going_on: Mapping[str, str] = field(default_factory=dict)
    seeds_from: int = 0

    @property
    def trials(self) -> int:
        return len(self.tries)

    def first(self, count: int) -> Tries:
        """The same list while it was so long."""
        tries = dict(list(self.tries.items())[:count])
        return replace(self, tries=tries, going_on={n: own for n, own in self.going_on.items() if n in tries})

    @property
    def space(self) -> Space:
        return (Categorical(path=TRY, values=tuple(self.tries), source="the report's list"),)

    def place(self, index: int) -> int:
        return self.seeds_from + index

    def needs(self, index: int) -> Sequence[int]:
        earlier = self.resumes(index)
        return () if earlier is None else (earlier,)

    def resumes(self, index: int) -> int | None:
        names = list(self.tries)
        before = self.going_on.get(names[index])
        return None if before is None else names.index(before)

    def draw(self, index: int, attempts: Sequence[Attempt]) -> Draw:
        return Draw(given={TRY: list(self.tries)[index]})

    def configure(self, base: TrialConfig, values: Mapping[str, Value]) -> TrialConfig:
        return super().configure(base, self.tries[str(values[TRY])])

    def lines(self) -> list[str]:
        told = [
            f"{name}: {', '.join(f'{path}={value}' for path, value in own.items())}" for name, own in self.tries.items()
        ]
        return [*told, *(f"{later} goes on from {earlier}" for later, earlier in self.going_on.items())]


@dataclass(frozen=True, kw_only=True)
class GridPhase:
    """Every combination of listed values, the last path varying fastest."""

    values: Mapping[str, tuple[Value, ...]]

    @property
    def trials(self) -> int:
        return enumerated(self.values).trials

    @property
    def varied(self) -> Mapping[str, tuple[Value, ...]]:
        return self.values

    def without(self, fixed: Mapping[str, Value]) -> GridPhase:
        return GridPhase(values={path: values for path, values in self.values.items() if path not in fixed})

    def draw(self, place: int, best: Mapping[str, Value], space: Space) -> Draw:
        return Draw(given={**best, **enumerated(self.values).points[place]})


@dataclass(frozen=True, kw_only=True)
class RandomPhase:
    """The choices at `paths` at random, everything else as in the best trial so far."""

    paths: tuple[str, ...]
    trials: int

    @property
    def varied(self) -> Mapping[str, tuple[Value, ...]]:
        return dict.fromkeys(self.paths, ())

    def without(self, fixed: Mapping[str, Value]) -> RandomPhase:
        left = tuple(path for path in self.paths if path not in fixed)
        return replace(self, paths=left, trials=self.trials if left else 0)

    def draw(self, place: int, best: Mapping[str, Value], space: Space) -> Draw:
        return Draw(given={path: value for path, value in best.items() if path not in self.paths}, sampler="random")


@dataclass(frozen=True, kw_only=True)
class RefinePhase:
    """The best trial so far, with numbers multiplied: a trial for each of `factors`, by path, kept in their ranges."""

    factors: tuple[Mapping[str, float], ...]

    @property
    def trials(self) -> int:
        return len(self.factors)

    @property
    def varied(self) -> Mapping[str, tuple[Value, ...]]:
        return {path: () for own in self.factors for path in own}

    def without(self, fixed: Mapping[str, Value]) -> RefinePhase:
        left = [{path: factor for path, factor in own.items() if path not in fixed} for own in self.factors]
        return RefinePhase(factors=tuple(own for own in left if own))

    def draw(self, place: int, best: Mapping[str, Value], space: Space) -> Draw:
        choices = {choice.path: choice for choice in space}
        moved = {path: scaled(choices[path], best[path], factor) for path, factor in self.factors[place].items()}
        return Draw(given={**best, **moved})


Phase = GridPhase | RandomPhase | RefinePhase


def scaled(choice: Categorical | Integer | Real, value: Value, factor: float) -> Value:
    """A number times `factor`, kept in the range of its choice; among listed values the nearest one."""
    wanted = float(value) * factor
    if isinstance(choice, Categorical):
        return min(choice.values, key=lambda listed: abs(float(listed) - wanted))
    kept = min(max(wanted, choice.low), choice.high)
    return round(kept) if isinstance(choice, Integer) else kept


@dataclass(frozen=True, kw_only=True)
class Phased(Trials):
    """Phases one after the other, each around the best trial of those before it.

    base: the configuration's values by path, for the first phase. metric: what the best trial is the best by.
    """

    space: Space
    phases: tuple[Phase, ...]
    base: Mapping[str, Value]
    metric: Metric = MACRO_F1.first

    @property
    def trials(self) -> int:
        return sum(phase.trials for phase in self.phases)

    def needs(self, index: int) -> Sequence[int]:
        return range(self._locate(index)[1])

    def lines(self) -> list[str]:
        return [str(phase) for phase in self.phases]

    def draw(self, index: int, attempts: Sequence[Attempt]) -> Draw:
        phase, first = self._locate(index)
        return phase.draw(index - first, self._best(attempts, first), self.space)

    def _locate(self, index: int) -> tuple[Phase, int]:
        """The phase of a trial, and that phase's first trial."""
        first = 0
        for phase in self.phases:
            if index < first + phase.trials:
                return phase, first
            first += phase.trials
        raise IndexError(index)

    def _best(self, attempts: Sequence[Attempt], before: int) -> Mapping[str, Value]:
        """The values of the best complete trial before a number, the base's where there is none."""
        scored = [(self.metric.rank(a.score), a) for a in attempts if a.index < before and a.score is not None]
        _, best = max(scored, key=lambda own: (own[0], -own[1].index), default=(0.0, None))
        # Of every choice, those of options that are not chosen too: a phase may choose one.
        start = {choice.path: self.base[choice.path] for choice in self.space if choice.path in self.base}
        return start if best is None else {**start, **best.values}


Schedule = Enumerated | Sampled | Tries | Phased
"""The trials 0 to `trials` - 1 of a study. `space` is everything that any of them may vary; `draw` says how one gets
its values, given every attempt so far."""


def enumerated(values: Mapping[str, tuple[Value, ...]]) -> Enumerated:
    """Every combination of listed values by path, the last path varying fastest."""
    axes = tuple(Categorical(path=path, values=own, source="the report's grid") for path, own in values.items())
    return Enumerated(space=axes, points=tuple(grid(axes, {})))

"""Search spaces as data.

A space is a tuple of choices, each naming a field by its dotted path: it can be listed, printed, hashed,
enumerated and narrowed; drawing from it is the only thing that needs Optuna.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any, cast

from mmtune.base.errors import InputError

if TYPE_CHECKING:
    import optuna

Value = str | int | float | bool
When = tuple[str, Value]
Drawn = tuple[Mapping[str, Any], float]
"""What a trial was drawn, by path, and what came of it."""
TREES, FEW_TREES = 64, 16
HALVES, FEWEST_HALVED = 10, 12
MOST_COMBINATIONS = 100_000


@dataclass(frozen=True, kw_only=True)
class Categorical:
    """One of `values`. Here as below: `source` is the report, `when` the (path, value) that makes it apply."""

    path: str
    values: tuple[Value, ...]
    source: str = ""
    when: When | None = None

    def __post_init__(self) -> None:
        if isinstance(self.values, str) or not isinstance(self.values, Iterable) or not list(self.values):
            raise InputError(f"{self.path}: values must be one or more, such as (8, 16), got {self.values!r}")
        values = tuple(map(as_drawn, self.values))
        for value in values:
            if not isinstance(value, Value):
                rule = f"{self.path}: values must be texts, numbers or truth values, which runs and commands can tell"
                raise InputError(f"{rule}, got {value!r:.80}")
        if len({(type(value), value) for value in values}) < len(values):
            raise InputError(f"{self.path}: values must differ, got {', '.join(map(repr, values))}")
        object.__setattr__(self, "values", values)

    def suggest(self, trial: optuna.Trial) -> Value:
        return cast(Value, trial.suggest_categorical(self.path, self.values))

    def admits(self, value: object) -> bool:
        return any(value == v and type(value) is type(v) for v in self.values)

    def __str__(self) -> str:
        return "{" + ", ".join(map(str, self.values)) + "}"


@dataclass(frozen=True, kw_only=True)
class Real:
    """A real number from `low` to `high`."""

    path: str
    low: float
    high: float
    source: str = ""
    log: bool = False
    when: When | None = None

    def __post_init__(self) -> None:
        kind, named = (int, "a whole number") if isinstance(self, Integer) else (int | float, "a number")
        for name in ("low", "high"):
            value = as_drawn(getattr(self, name))
            if not isinstance(value, kind) or isinstance(value, bool):
                raise InputError(f"{self.path}: {name} must be {named}, got {value!r:.80}")
            object.__setattr__(self, name, value)
        if not -math.inf < self.low <= self.high < math.inf:
            raise InputError(f"{self.path}: low must be at most high, both finite, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise InputError(f"{self.path}: low must be above 0 where log=True, got {self.low}")

    def suggest(self, trial: optuna.Trial) -> Value:
        return trial.suggest_float(self.path, self.low, self.high, log=self.log)

    def admits(self, value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}{' (log)' if self.log else ''}"


@dataclass(frozen=True, kw_only=True)
class Integer(Real):
    """A whole number from `low` to `high`."""

    low: int
    high: int

    def suggest(self, trial: optuna.Trial) -> Value:
        return trial.suggest_int(self.path, self.low, self.high, log=self.log)

    def admits(self, value: object) -> bool:
        return isinstance(value, int) and super().admits(value)

    def __str__(self) -> str:
        return f"{self.low}..{self.high}{' (log)' if self.log else ''}"


Choice = Categorical | Integer | Real
Space = tuple[Choice, ...]


def as_drawn(value: Any) -> Any:
    """A number of numpy's or torch's as Python's, which it is read as again; anything else as it is."""
    return value.item() if callable(getattr(value, "item", None)) and getattr(value, "ndim", None) == 0 else value


def under(prefix: str, space: Space) -> Space:
    """The same choices for fields below `prefix`, conditions included."""

    def moved(choice: Choice) -> Choice:
        when = (f"{prefix}.{choice.when[0]}", choice.when[1]) if choice.when else None
        return replace(choice, path=f"{prefix}.{choice.path}", when=when)

    return tuple(map(moved, space))


def one_of(path: str, spaces: Mapping[str, Space], source: str = "") -> Space:
    """The choices of a `OneOf` at a path: which of its options, and of the chosen one those of its space.

    spaces: by option; a choice that has a condition of its own keeps it, and is drawn for other options too unless that
    is on a choice beside it.
    """
    chosen = f"{path}.chosen"
    own = [
        replace(choice, when=choice.when or (chosen, name))
        for name, space in spaces.items()
        for choice in under(f"{path}.options.{name}", space)
    ]
    return (Categorical(path=chosen, values=tuple(spaces), source=source), *own)


def pin(space: Space, fixed: Mapping[str, Value]) -> Space:
    """The space without the choices in `fixed`, with values that need not be among those it would draw."""
    return tuple(choice for choice in space if choice.path not in fixed)


def draw(space: Space, base: Mapping[str, Any], pick: Callable[[Choice], Value]) -> dict[str, Value]:
    """Values by path for the choices that apply, `base` standing for whatever the space leaves open.

    What hangs on a choice that does not apply itself does not apply either.
    """
    drawn: dict[str, Value] = {}
    paths = {choice.path for choice in space}
    for choice in space:
        if choice.when is None or (drawn if choice.when[0] in paths else base).get(choice.when[0]) == choice.when[1]:
            drawn[choice.path] = pick(choice)
    return drawn


def point_at(space: Space, base: Mapping[str, Any]) -> dict[str, Value]:
    """Of the choices that apply to a base, its values for those that may have them."""
    known = {choice.path: choice for choice in space}
    drawn = draw(space, base, lambda choice: base.get(choice.path))  # type: ignore[return-value, arg-type]
    return {path: value for path, value in drawn.items() if known[path].admits(value)}


def sample(space: Space, base: Mapping[str, Any], trial: optuna.Trial) -> dict[str, Value]:
    """Values drawn by an Optuna trial."""
    return draw(space, base, lambda choice: choice.suggest(trial))


def combinations(space: Space) -> float:
    """How many combinations there are at most, without an end where a choice is a real number."""
    return math.prod(math.inf if own is None else len(own) for own in map(listed, space))


def distinct(space: Space, base: Mapping[str, Any]) -> float:
    """How many different draws there are; of too many to list them, or without conditions, the combinations."""
    most = combinations(space)
    return len(grid(space, base)) if most <= MOST_COMBINATIONS and any(choice.when for choice in space) else most


def listed(choice: Choice) -> Sequence[Value] | None:
    """The values of a choice, None for a real number."""
    if isinstance(choice, Categorical):
        return choice.values
    return range(choice.low, choice.high + 1) if isinstance(choice, Integer) else None


def grid(space: Space, base: Mapping[str, Any]) -> list[dict[str, Value]]:
    """Every combination exactly once, the last choice varying fastest; InputError for a real number, or too many."""
    endless = [choice.path for choice in space if listed(choice) is None]
    if endless:
        raise InputError(f"a grid takes listed values and whole numbers, {', '.join(endless)} is a real number")
    if combinations(space) > MOST_COMBINATIONS:
        raise InputError(f"a grid takes {MOST_COMBINATIONS} combinations at most, got {combinations(space):,.0f}")
    axes = [[(choice.path, value) for value in listed(choice) or ()] for choice in space]
    drawn = [draw(space, base, lambda choice, c=dict(c): c[choice.path]) for c in itertools.product(*axes)]  # type: ignore[misc]
    return [*{tuple(values.items()): values for values in drawn}.values()]


def describe(space: Space) -> list[str]:
    """A line for each choice: path, range, condition, source."""
    width = max((len(choice.path) for choice in space), default=0)
    conditions = [f"  when {c.when[0]}={c.when[1]}" if c.when else "" for c in space]
    return [
        f"{c.path:<{width}}  {c}{w}{f'  [{c.source}]' if c.source else ''}"
        for c, w in zip(space, conditions, strict=True)
    ]


def exact(space: Space) -> list[str]:
    """A line for each choice on what can be drawn, to the last digit; sources do not count."""

    def drawn(choice: Choice) -> str:
        if isinstance(choice, Categorical):
            return f"one of {choice.values!r}"
        kind = "whole number" if isinstance(choice, Integer) else "number"
        return f"a {kind} from {choice.low!r} to {choice.high!r}{' (log)' if choice.log else ''}"

    return [f"{c.path} is {drawn(c)}{f' when {c.when[0]} is {c.when[1]!r}' if c.when else ''}" for c in space]


def importances(space: Space, trials: Sequence[Drawn], trees: int = TREES) -> dict[str, float]:
    """How much each choice by itself moved the objective, the largest first; {} where too few trials tell.

    trials: of the complete ones what was drawn, and the objective. By fANOVA (Hutter et al., 2014): shares of the
    variance over the whole space of what a forest of so many `trees` has learnt of the trials; what choices do only
    together is in none of them. Choices that not every trial has, or of which a trial has a value that the space has
    not, are left out. 200 trials take seconds.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    usual = [c for c in space if c.when is None]
    everywhere = [c for c in usual if all(c.path in values and c.admits(values[c.path]) for values, _ in trials)]
    varied = [c for c in everywhere if len({values[c.path] for values, _ in trials}) > 1]
    if len(trials) < 4 or not varied or len({value for _, value in trials}) < 2:
        return {}
    study = optuna.create_study(direction="maximize")
    distributions = {c.path: distribution(c) for c in varied}
    for values, objective in trials:
        params = {path: values[path] for path in distributions}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=objective))
    evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=trees, seed=0)
    # What makes shares of these that add up to 1 would make all of noise.
    return dict(evaluator.evaluate(study))


def importance_spread(space: Space, trials: Sequence[Drawn], seed: int) -> dict[str, tuple[float, float]]:
    """By choice its lowest and highest importance over HALVES random halves of the trials; {} where they are too few.

    What another search might have said, as far as these trials tell: halves say it with more noise than the whole.
    """
    if len(trials) < FEWEST_HALVED:
        return {}
    rng = Random(seed)
    found = [importances(space, rng.sample(trials, len(trials) // 2), FEW_TREES) for _ in range(HALVES)]
    # In a half in which a choice never differed, or nothing did, it made no difference.
    over = {path: [own.get(path, 0.0) for own in found] for path in dict.fromkeys(itertools.chain(*found))}
    return {path: (float(min(own)), float(max(own))) for path, own in over.items()}


def distribution(choice: Choice) -> optuna.distributions.BaseDistribution:
    """A choice in Optuna's terms."""
    from optuna import distributions

    if isinstance(choice, Categorical):
        return distributions.CategoricalDistribution(choice.values)
    if isinstance(choice, Integer):
        return distributions.IntDistribution(choice.low, choice.high, log=choice.log)
    return distributions.FloatDistribution(choice.low, choice.high, log=choice.log)

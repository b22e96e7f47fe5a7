"""What a study searches for: metrics with their directions, and what an epoch and a run call them. Free of torch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError

Function = Callable[[NDArray[np.int64], NDArray[np.float64]], float]
Key = TypeVar("Key", bound=Hashable)
MOST = 4
COSTS = ("parameters", "milliseconds")
"""What a model takes, whatever it answers."""
ROBUSTNESS = "robustness"
ONCE = (*COSTS, ROBUSTNESS)
"""What is measured once, when a trial ends: it cannot pick an epoch."""
MOST_RANKED = 200
"""Of more classes there is no AUROC: each costs a sorting of all rows."""
MILLISECONDS_SPREAD = "milliseconds_iqr"
"""How far the middle half of the answers lie apart, of which the median is what counts."""
SHARES = ("accuracy", "macro_f1", "balanced_accuracy", "auroc", "calibration_error", ROBUSTNESS)
WORDS = {"macro_f1": "macro-F1", "auroc": "AUROC"}
# What else a run has by names of this form.
TAKEN = r"f1_\d+|accuracy_.+_alone|calibration_error_.+|(ari|nmi|purity|silhouette)(_.+)?|.+_(at_best|sd|low|high)"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that says how good a model is, and whether more of it is better.

    function: of a metric of your own, of labels (N,) int64 and probabilities (N, C) float64 of the validation rows;
    None for those that are known by their name. Two of one name and direction are the same.
    """

    name: str
    function: Function | None = field(default=None, compare=False)
    maximise: bool = True

    @property
    def validates(self) -> bool:
        """Whether validation rows tell it, after any epoch."""
        return self.name not in ONCE

    @property
    def curve(self) -> str:
        """What an epoch calls it."""
        return f"val_{self.name}" if self.validates else self.name

    @property
    def words(self) -> str:
        """Its name as it is read."""
        return WORDS.get(self.name, self.name.replace("_", " "))

    @property
    def label(self) -> str:
        """Its name with the rows that it is of."""
        return f"val {self.words}" if self.validates else self.words

    @property
    def is_share(self) -> bool:
        """Whether it is shown in percent where there is room for a unit."""
        return self.name in SHARES

    def show(self, value: float) -> str:
        """A value as text."""
        if self.name == "parameters":
            return f"{value:,.0f}"
        if self.name == "milliseconds":
            return f"{value:.3g}"
        return f"{value:.4f}" if self.is_share or self.name == "loss" else f"{value:.4g}"

    def rank(self, value: float) -> float:
        """The value, turned so that the higher is the better one."""
        return value if self.maximise else -value

    def better(self, value: float, than: float | None) -> bool:
        """Whether a value beats another one, or is the first."""
        return than is None or self.rank(value) > self.rank(than)


KNOWN = {
    name: Metric(name=name, maximise=up)
    for name, up in {
        "accuracy": True,
        "macro_f1": True,
        "balanced_accuracy": True,
        "auroc": True,
        "loss": False,
        "calibration_error": False,
        "parameters": False,
        "milliseconds": False,
        ROBUSTNESS: True,
    }.items()
}


def metric_of_score(score: str) -> Metric:
    """The metric that a score of a run is of, by the score's name."""
    plain = score.removeprefix("best_").removesuffix("_at_best").removeprefix("val_").removeprefix("held_")
    return KNOWN.get(plain, Metric(name=plain))


@dataclass(frozen=True)
class Objective:
    """What a study searches for: one metric, or several, of which the first one picks the epoch and the best trial."""

    metrics: tuple[Metric, ...] = (KNOWN["macro_f1"],)

    @property
    def first(self) -> Metric:
        return self.metrics[0]

    @property
    def several(self) -> bool:
        return len(self.metrics) > 1

    @property
    def name(self) -> str:
        """What a run calls the first metric."""
        return self.names[0]

    @property
    def names(self) -> tuple[str, ...]:
        """What a run calls each metric."""
        return tuple(self.at_best(own.curve) if own.validates else own.name for own in self.metrics)

    @property
    def words(self) -> str:
        """Its metrics as they are read."""
        *most, last = (own.words for own in self.metrics)
        return f"{', '.join(most)} and {last}" if most else last

    @property
    def slug(self) -> str:
        """Its metrics in a name of a file, each of a study's own with its direction."""
        own = {False: "=min", True: ""}
        return "-".join(one.name + ("" if one.name in KNOWN else own[one.maximise]) for one in self.metrics)

    @property
    def is_usual(self) -> bool:
        """Whether it is what every study searches for that says nothing of it."""
        return self == MACRO_F1

    def at_best(self, score: str) -> str:
        """What a run calls a score that holds at the best epoch; the first metric's comes first in a sorted list."""
        return f"best_{score}" if score == self.first.curve else f"{score}_at_best"

    def values(self, metrics: Mapping[str, float]) -> tuple[float, ...]:
        """The value of each metric of a run, () where the run lacks one, or has one that is no number."""
        found = tuple(metrics.get(name, math.nan) for name in self.names)
        return () if any(map(math.isnan, found)) else found

    def ranks(self, values: Sequence[float]) -> tuple[float, ...]:
        """Values turned so that the higher is the better one."""
        return tuple(own.rank(value) for own, value in zip(self.metrics, values, strict=True))

    def rank(self, metrics: Mapping[str, float]) -> float:
        """What a run is ranked by, the highest first; a run without the first metric comes last."""
        value = self.first.rank(metrics.get(self.name, math.nan))
        return -math.inf if math.isnan(value) else value

    def show(self, values: Sequence[float]) -> str:
        """Values with their names."""
        return ", ".join(f"{own.label} {own.show(value)}" for own, value in zip(self.metrics, values, strict=True))

    def told(self) -> list[tuple[str, bool]]:
        """Name and direction of each metric, for JSON."""
        return [(own.name, own.maximise) for own in self.metrics]

    @staticmethod
    def read(told: Any) -> Objective:
        """The inverse of `told`, of functions their names alone; ValueError or TypeError where it says none."""
        metrics = tuple(Metric(name=str(name), maximise=bool(maximise)) for name, maximise in told)
        if not metrics:
            raise ValueError(told)
        return Objective(metrics)


MACRO_F1 = Objective()


def objective_of(told: str | Metric | Sequence[str | Metric]) -> Objective:
    """What a study's file says of its objective; InputError where that is none."""
    given = (told,) if isinstance(told, str | Metric) else told
    if not isinstance(given, tuple | list) or not 1 <= len(given) <= MOST:
        raise InputError(f"objective must be a metric, or a tuple of 1 to {MOST} of them, got {told!r}")
    metrics = tuple(map(metric_of, given))
    names = [own.name for own in metrics]
    if len(set(names)) < len(names):
        raise InputError(f"objective must have each metric once, got {', '.join(names)}")
    if not metrics[0].validates:
        raise InputError(f"objective must have one first that picks the best epoch, {names[0]} is measured once")
    return Objective(metrics)


def metric_of(told: object) -> Metric:
    """One metric of an objective; InputError where it is none, or one of a study's own breaks a rule."""
    if isinstance(told, str) and told in KNOWN:
        return KNOWN[told]
    if not isinstance(told, Metric):
        raise InputError(f"objective must be one of {', '.join(KNOWN)}, or a Metric of the study's own, got {told!r}")
    name = told.name
    fits = isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) and not re.fullmatch(TAKEN, name)
    if not fits or name in KNOWN:
        raise InputError(f"a Metric must have a name of its own such as cost_of_errors, got {name!r}")
    if not callable(told.function):
        rule = f"function of metric {name} must take labels (N,) and probabilities (N, C)"
        raise InputError(f"{rule}, got {told.function!r:.80}")
    if not isinstance(told.maximise, bool):
        raise InputError(f"maximise of metric {name} must be True or False, got {told.maximise!r}")
    return told


def front(ranks: Mapping[Key, Sequence[float]]) -> list[Key]:
    """Of what is ranked by several numbers, each the higher the better, what nothing else dominates, the first first.

    One dominates another that is as good in all and better in one (Pareto); equals stand together.
    """
    found: list[Key] = []
    # In this order nothing is dominated by what comes later.
    for key in sorted(ranks, key=lambda own: tuple(ranks[own]), reverse=True):
        if not any(dominates(ranks[other], ranks[key]) for other in found):
            found.append(key)
    return found


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether one is as good as another in all and better in some, the higher the better."""
    return tuple(one) != tuple(other) and all(a >= b for a, b in zip(one, other, strict=True))

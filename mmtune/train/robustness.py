"""Scores of a trained network against what may go wrong with one of its banks, while the others are as they are.

As in MultiBench (Liang et al., "MultiBench: Multiscale benchmarks for multimodal representation learning", 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from statistics import fmean

import torch
from torch import Tensor, nn

from mmtune.analysis.embeddings import sample_rows
from mmtune.data.dataset import Progress, quiet
from mmtune.train.batches import Held, Rows
from mmtune.train.corruptions import OUTLIER, Corruption, corrupted, corruptions_of
from mmtune.train.evaluate import evaluate
from mmtune.train.metrics import accuracy, macro_f1
from mmtune.train.objective import ROBUSTNESS, Objective

MISSING = "missing"
OBJECTIVE_ROWS, OBJECTIVE_SEED = 1_000, 0
"""Of every trial, so that all meet the same noise."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """What a network says of rows.

    alone: of a fusion, by bank, the accuracy of that bank's own answer, of the rows that have a value of it. beside:
    by bank that some rows lack, the accuracy of the fusion on those that have it.
    """

    accuracy: float
    macro_f1: float
    alone: Mapping[str, float]
    beside: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The scores (L,) while one bank goes wrong in one way, at levels (L,) in `unit`, mild to strong.

    at: the bank whose values went wrong and were then made into this one's; its own name where it did so itself.
    """

    bank: str
    corruption: str
    unit: str
    at: str
    levels: tuple[float, ...]
    scores: tuple[Score, ...]


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """clean: the score while nothing goes wrong."""

    clean: Score
    curves: tuple[Curve, ...]

    @property
    def mean(self) -> float:
        """The mean macro-F1 over all that goes wrong, at all levels; NaN where nothing can."""
        found = [score.macro_f1 for curve in self.curves for score in curve.scores]
        return fmean(found) if found else float("nan")


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """What goes wrong: `held`, of the rows that are measured, is made into values of a bank by `remake`. name: its."""

    name: str
    held: Held
    remake: Callable[[Tensor], Tensor] = lambda values: values

    def after(self, own: Corruption, level: float, seed: int) -> Held:
        """The bank after that has gone wrong: of every distinct value once, whatever rows have it."""
        values, index = used(self.held)
        return replace(self.held, values=self.remake(corrupted(values, own, level, seed)), index=index)


def used(held: Held) -> tuple[Tensor, Tensor]:
    """The stored values (m, ...) that rows have, and of each row which one (N,), -1 for none."""
    there = held.index >= 0
    kept, places = held.index[there].unique(return_inverse=True)
    index = torch.full_like(held.index, -1)
    index[there] = places
    return held.values[kept.to(held.values.device)], index


def robustness_of(
    model: nn.Module,
    rows: Rows,
    seed: int,
    sources: Mapping[str, Source] = {},
    advance: Progress = quiet,
) -> Robustness:
    """Scores of a network over rows for every way in which each of its banks may go wrong.

    sources: for banks that are made from another one, what that is; the others go wrong at the network's input. Where
    it reads several, each has nothing but outliers once, and is missing once, which is zeros. One seed gives the same
    numbers; a random state that others draw from is left as it is.
    """
    curves: list[Curve] = []
    several = (OUTLIER,) if len(rows.banks) > 1 else ()
    for name, held in rows.banks.items():
        source = sources.get(name, Source(name=name, held=held))
        values, _ = used(source.held)
        ways = (*corruptions_of(values), *several) if len(values) else ()
        for done, own in enumerate(ways):
            advance(name, done, len(ways))
            curves.append(wrong(model, rows, source, name, own, seed))
        advance(name, len(ways), len(ways))
    return Robustness(clean=score(model, rows), curves=(*curves, *missing(model, rows)))


def wrong(model: nn.Module, rows: Rows, source: Source, bank: str, own: Corruption, seed: int) -> Curve:
    """The scores while a bank goes wrong in one way."""
    scores = tuple(score(model, with_bank(rows, bank, source.after(own, level, seed))) for level in own.levels)
    return Curve(bank=bank, corruption=own.name, unit=own.unit, at=source.name, levels=own.levels, scores=scores)


def missing(model: nn.Module, rows: Rows) -> Iterator[Curve]:
    """Each bank missing in all rows, where there are several."""
    for name, held in rows.banks.items() if len(rows.banks) > 1 else ():
        none = replace(held, index=torch.full_like(held.index, -1), gaps=True)
        scores = (score(model, with_bank(rows, name, none)),)
        yield Curve(bank=name, corruption=MISSING, unit="%", at=name, levels=(100.0,), scores=scores)


def with_bank(rows: Rows, name: str, held: Held) -> Rows:
    """Rows with another bank in the place of one."""
    return replace(rows, banks={**rows.banks, name: held})


def score(model: nn.Module, rows: Rows) -> Score:
    """What a network says of rows."""
    found = evaluate(model, rows)
    alone, right = found.right_alone(), (found.predictions == found.labels).double()
    beside = {bank: float(right[there].mean()) for bank, there in found.there.items() if bank in alone and there.any()}
    return Score(accuracy=accuracy(found.counts), macro_f1=macro_f1(found.counts), alone=alone, beside=beside)


def robustness(objective: Objective, model: nn.Module, rows: Rows) -> dict[str, float]:
    """The metric of that name where an objective asks for it: the mean over OBJECTIVE_ROWS of the rows at most."""
    if all(own.name != ROBUSTNESS for own in objective.metrics):
        return {}
    chosen = torch.from_numpy(sample_rows(len(rows), OBJECTIVE_ROWS, OBJECTIVE_SEED)).to(rows.labels.device)
    return {ROBUSTNESS: robustness_of(model, rows.take(chosen), OBJECTIVE_SEED).mean}

"""How robust a trial is, as a table and lines of the command line, and as a section of the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from rich.table import Table

from mmtune.analysis.figures.robustness import CLEAN, falling
from mmtune.base.errors import InputError
from mmtune.report.summary import unbroken
from mmtune.report.tables import percent
from mmtune.serve.measured import FILES, Group, Measured, read_measured
from mmtune.tracking import MlflowTracker, TrialRun
from mmtune.train.robustness import MISSING, Curve, Robustness, Score

FUSED, ALONE = "fused", "best alone"
TOLERATED = 0.003
"""Of accuracy a fusion may lie below its best part before that is said: less is within the noise of 2,000 rows."""


class Fall(NamedTuple):
    """By how much a fusion lies below the best of its parts, `bank` alone, and under what.

    some: whether that is of the rows that have a value of the bank, as others have none.
    """

    points: float
    under: str
    fused: float
    best: float
    bank: str
    some: bool


def robustness_table(measured: Measured) -> Table:
    """A row for each way in which a bank goes wrong, a column for each level: accuracy in percent, and at what level.

    Of a fusion there is a second row each, of the best that any bank says alone.
    """
    found = measured.robustness
    fused, most = bool(found.clean.alone), max((len(curve.levels) for curve in found.curves), default=0)
    levels = [f"level {n}" for n in range(1, most + 1)]
    table = unbroken("bank", "goes wrong", *(["answer"] if fused else []), CLEAN, *levels)
    for curve in found.curves:
        scores, blank = (found.clean, *curve.scores), [""] * (most - len(curve.levels))
        what, at = (curve.bank, f"{curve.corruption} ({curve.unit})"), ["", *(f" at {x:g}" for x in curve.levels)]
        cells = [percent(own.accuracy) + level for own, level in zip(scores, at, strict=True)]
        table.add_row(*what, *([FUSED] if fused else []), *cells, *blank)
        if fused:
            best = [f"{percent(accuracy)} {bank}" for bank, accuracy in map(best_alone, scores)]
            table.add_row(*what, ALONE, *best, *blank)
    return table


def best_alone(score: Score) -> tuple[str, float]:
    """The bank that alone is right most often, and how often."""
    return max(score.alone.items(), key=lambda own: own[1])


def robustness_lines(measured: Measured) -> list[str]:
    """What the curves come to, and the groups, in a line each."""
    found = measured.robustness
    lines = [f"mean macro-F1 over all that goes wrong: {percent(found.mean)} % ({where(found)})"]
    lines = lines if found.curves else ["nothing is known to go wrong with values of these kinds"]
    return [*lines, *([fusion_line(found)] if found.clean.alone else []), *map(group_line, measured.groups)]


def where(found: Robustness) -> str:
    """At what each bank goes wrong, in words."""
    at = {curve.bank: curve.at for curve in found.curves if curve.corruption != MISSING}
    told = {bank: "at the network's input" if own == bank else f"at the bank {own}" for bank, own in at.items()}
    return ", ".join(f"{bank} {own}" for bank, own in told.items())


def fusion_line(found: Robustness) -> str:
    """Whether a fusion is ever worse than the best that one of its banks says alone."""
    below = [own for own in falls(found) if own.points > TOLERATED]
    if not below:
        return f"fused is nowhere more than {100 * TOLERATED:g} points below its best part"
    worst = max(below, key=lambda own: own.points)
    return (
        f"fused falls below its best part {len(below)} times in {len([*falls(found)])}, "
        f"by up to {100 * worst.points:.2f} points: {worst.under}, "
        f"{percent(worst.fused)} % against {percent(worst.best)} % of {worst.bank} alone"
        f"{', both of the rows that have it' if worst.some else ''}"
    )


def falls(found: Robustness) -> Iterator[Fall]:
    """How far a fusion lies below its best part, clean and at every level of every curve.

    Of two banks one that is missing is left out: the other one's own answer is then what is predicted.
    """
    curves = [own for own in found.curves if own.corruption != MISSING or len(found.clean.alone) > 2]
    for words, score in [(CLEAN, found.clean), *(pair for curve in curves for pair in points(curve))]:
        fused = {bank: score.beside.get(bank, score.accuracy) for bank in score.alone}
        bank = max(fused, key=lambda own: score.alone[own] - fused[own])
        best = score.alone[bank]
        yield Fall(best - fused[bank], words, fused[bank], best, bank, bank in score.beside)


def points(curve: Curve) -> Iterator[tuple[str, Score]]:
    """Each level of a curve, in words, with its score."""
    for level, score in zip(curve.levels, curve.scores, strict=True):
        yield f"{curve.bank} {curve.corruption} {level:g} {curve.unit}", score


def group_line(own: Group) -> str:
    """Accuracy over the members of a group."""
    known = "all" if own.trained == own.members else "none" if not own.trained else f"{own.trained}"
    return (
        f"{own.name}: {own.members} of them, {known} known from training; mean accuracy {percent(own.mean)} %, "
        f"worst {percent(own.worst)} % ({own.member}, {own.rows} rows)"
    )


def robustness_section(tracker: MlflowTracker, trial: TrialRun) -> list[dict[str, Any]]:
    """For each kind of rows on which a trial's robustness was measured, its curves and lines; empty without any."""
    return [section(own) for name in FILES.values() if (own := kept(tracker, trial, name)) is not None]


def kept(tracker: MlflowTracker, trial: TrialRun, name: str) -> Measured | None:
    """What a trial's run keeps by that name; InputError where it is damaged."""
    try:
        path = tracker.artifact(trial.run_id, name)
    except InputError:
        return None
    return read_measured(path)


def section(measured: Measured) -> dict[str, Any]:
    """The curves of one kind of rows, each with its heading, and the lines."""
    found = measured.robustness
    every = [found.clean, *(score for curve in found.curves for score in curve.scores)]
    low = min(min(score.accuracy, *score.alone.values(), 1.0) for score in every)
    return {
        "on": measured.on,
        "rows": measured.rows,
        "lines": robustness_lines(measured),
        "curves": [(f"{own.bank}: {own.corruption}", drawn(found.clean, own, low)) for own in found.curves],
    }


def drawn(clean: Score, curve: Curve, low: float) -> Any:
    """A curve, and by its name what each bank says alone."""
    scores = (clean, *curve.scores)
    alone = {bank: [own.alone.get(bank, 0.0) for own in scores] for bank in clean.alone}
    fused = [own.accuracy for own in scores]
    return falling({FUSED if alone else "accuracy": fused, **alone}, curve.levels, curve.unit, low)

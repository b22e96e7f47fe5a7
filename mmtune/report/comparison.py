"""Tables that hold a study against itself over folds, and against published models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmtune.analysis.figures import DASH, shown
from mmtune.analysis.statistics import summary
from mmtune.report.tables import interval, percent
from mmtune.tracking import TrialRun


def fold_table(folds: Sequence[Mapping[str, object]]) -> dict[str, Any]:
    """A line for each fold, then mean, deviation and 95 % interval of what was measured.

    folds: by name, what tells a fold apart (int or str, such as "fold": 1) and what was measured in it (float);
    accuracies and F1 are fractions. A value that a fold has not is a dash, and the summary is over the others.
    """
    names = list(dict.fromkeys(name for fold in folds for name in fold))
    measured = [name for name in names if any(isinstance(fold.get(name), float) for fold in folds)]
    columns = [column(name, name in measured) for name in names]
    lines = [[cell(name, fold.get(name), name in measured) for name in names] for fold in folds]
    summaries = {name: summary_cells(name, [fold[name] for fold in folds if name in fold]) for name in measured}
    words = ("mean", "standard deviation", "95\N{NARROW NO-BREAK SPACE}% interval")
    foot = [[summaries[name][i] if name in measured else "" for name in names] for i in range(3)]
    for word, line in zip(words, foot, strict=True):
        line[0] = line[0] if names[0] in measured else word
    return {"columns": columns, "lines": lines, "foot": foot, "folds": len(folds)}


def column(name: str, measured: bool) -> dict[str, Any]:
    """A heading with its unit."""
    heading = name.replace("macro_f1", "macro-F1").replace("_", " ")
    return {"heading": heading, "unit": "%" if in_percent(name) else "", "numeric": measured}


def in_percent(name: str) -> bool:
    """Whether a metric is a share, by its name."""
    return name.endswith(("accuracy", "f1"))


def cell(name: str, value: Any, measured: bool) -> str:
    """A value of a fold as text."""
    if value is None or not measured:
        return shown(value)
    return percent(value) if in_percent(name) else f"{value:.4g}"


def summary_cells(name: str, values: Sequence[Any]) -> list[str]:
    """Mean, deviation and interval of a metric as text, with dashes where one value has none."""
    found = summary(values)
    if found.n == 1:
        return [cell(name, found.mean, True), DASH, DASH]
    low, high = (cell(name, value, True) for value in (found.low, found.high))
    return [cell(name, found.mean, True), cell(name, found.deviation, True), f"{low} to {high}"]


def published_table(
    best: TrialRun, published: Mapping[str, float], name: str, rows: int, test_rows: int
) -> dict[str, Any]:
    """Published accuracies (shares) and this study's, on test rows if it was scored there, the highest first."""
    tested = "test_accuracy" in best.metrics
    own = best.metrics.get("test_accuracy", best.metrics.get("best_val_accuracy"))
    split, count = ("test", test_rows) if tested else ("validation", rows)
    found = [(value, model, "", False) for model, value in published.items()]
    ours = [] if own is None else [(own, f"{name}, {split} accuracy", interval(own, count), True)]
    order = sorted([*found, *ours], key=lambda line: (-line[0], not line[3]))
    lines = [{"name": line[1], "value": percent(line[0]), "interval": line[2], "own": line[3]} for line in order]
    return {"lines": lines if published else [], "split": split}

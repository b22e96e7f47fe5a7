"""The table of a trial's folds, or repeats: what was measured in each, and what they say together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmtune.analysis.figures.look import DASH
from mmtune.analysis.statistics import summary
from mmtune.report.tables import percent
from mmtune.study import StudyKey
from mmtune.tracking import UNIT, MlflowTracker, TrialRun
from mmtune.train.objective import metric_of_score
from mmtune.tune.parts import summarised

WORDS = ("mean", "standard deviation", "95\N{NARROW NO-BREAK SPACE}% interval")


def fold_table(tracker: MlflowTracker, key: StudyKey, trial: TrialRun) -> dict[str, Any] | None:
    """A line for each fold, or repeat, then mean, deviation and 95 % interval of each metric; None without any."""
    names = tuple(f"{UNIT}{name}" for name in summarised(key.objective))
    found = tracker.curves(trial.run_id, names) if key.division else {}
    measured = {name.removeprefix(UNIT): points for name, points in found.items() if points}
    if not measured:
        return None
    numbers = [str(number) for number, _ in next(iter(measured.values()))]
    values = {name: [value for _, value in points] for name, points in measured.items()}
    cells = [[cell(name, value) for value in own] for name, own in values.items()]
    kind = "fold" if key.folds else "repeat"
    return {
        "columns": [{"heading": kind, "unit": "", "numeric": False}, *map(column, values)],
        "lines": list(zip(numbers, *cells, strict=True)),
        "foot": list(zip(WORDS, *(summary_cells(name, own) for name, own in values.items()), strict=True)),
        "folds": len(numbers),
    }


def column(name: str) -> dict[str, Any]:
    """A heading with its unit."""
    heading = name.replace("macro_f1", "macro-F1").replace("auroc", "AUROC").replace("_", " ")
    return {"heading": heading, "unit": "%" if in_percent(name) else "", "numeric": True}


def in_percent(name: str) -> bool:
    """Whether a metric is a share, by its name."""
    return metric_of_score(name).is_share


def cell(name: str, value: float) -> str:
    """A value of a metric as text."""
    return percent(value) if in_percent(name) else f"{value:,.4g}"


def summary_cells(name: str, values: Sequence[float]) -> tuple[str, str, str]:
    """Mean, deviation and interval of a metric as text, with dashes where one value has none."""
    found = summary(values, share=in_percent(name))
    if found.n == 1:
        return cell(name, found.mean), DASH, DASH
    return cell(name, found.mean), cell(name, found.deviation), f"{cell(name, found.low)} to {cell(name, found.high)}"

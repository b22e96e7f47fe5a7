"""The figures of a report: tracked runs and their artifacts to plotly figures and what is said beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.analysis.embeddings import sample_rows
from mmtune.analysis.figures.answers import bin_counts, confusion, per_class, reliability, risk
from mmtune.analysis.figures.look import FAINT, FEW, plain, shown, value_colours
from mmtune.analysis.figures.trials import close_range, curves, front, importance_bars, rank_colours, strip
from mmtune.base.fields import short_names
from mmtune.report.tables import differing, title
from mmtune.study import StudyKey
from mmtune.study.space import HALVES, Space, importance_spread, importances
from mmtune.tracking import MlflowTracker, TrialRun
from mmtune.train.calibration import Calibration
from mmtune.train.objective import Metric, Objective
from mmtune.train.scale import SURE, Scale
from mmtune.train.temperature import at_limit

# Importances are estimated from so many complete trials at most; more take seconds and tell little.
MOST_STRIP, MOST_IMPORTANCE = 500, 200
# A matrix of more classes is megabytes of cells that nobody can tell apart.
MOST_MATRIX = 500
# The share of answers that may be wrong where the page says how many rows are answered.
ERROR = 0.01


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One metric over the epochs, drawn as scale * value."""

    metric: str
    heading: str
    unit: str
    scale: float = 1.0
    log: bool = False


PANELS = (
    Panel(metric="val_macro_f1", heading="Validation macro-F1", unit="macro-F1 (%)", scale=100),
    Panel(metric="val_accuracy", heading="Validation accuracy", unit="accuracy (%)", scale=100),
    Panel(metric="val_loss", heading="Validation loss", unit="cross-entropy (nats), log axis", log=True),
    Panel(metric="train_loss", heading="Training loss", unit="cross-entropy (nats), log axis", log=True),
)


def axis_of(metric: Metric) -> tuple[str, float]:
    """A metric's name with its unit, and by what its values are multiplied."""
    return (f"{metric.label} (%)", 100) if metric.is_share else (metric.label, 1)


def panels_of(metric: Metric) -> list[Panel]:
    """What is drawn over the epochs, the metric that picks the best one first."""
    unit, scale = axis_of(metric)
    new = Panel(metric=metric.curve, heading=f"Validation {metric.words}", unit=unit, scale=scale)
    own = next((panel for panel in PANELS if panel.metric == metric.curve), new)
    return [own, *(panel for panel in PANELS if panel != own)]


def curve_section(
    tracker: MlflowTracker, trials: Sequence[TrialRun], choices: Sequence[str], metric: Metric
) -> dict[str, Any]:
    """The panels of curves, and the ways to colour them: by rank and by each choice."""
    names, drawn = short_names(choices), panels_of(metric)
    tracked = tracker.curves_of([t.run_id for t in trials], tuple(p.metric for p in drawn))
    found = [(t, tracked[t.run_id]) for t in trials if any(tracked[t.run_id].values())]
    titles = [title(t, choices) for t, _ in found]
    series = {p: list(zip(titles, [own[p.metric] for _, own in found], strict=True)) for p in drawn}
    panels = [(p, curves(own, p.unit, p.scale, p.log)) for p, own in series.items()]
    colourings = [colouring(names[p], [t.params.get(p) for t, _ in found]) for p in choices]
    close = {f"curve-{p.metric}": close_range(own, p.scale, p.log) for p, own in series.items()}
    controls = {"colourings": [by_rank(titles), *colourings], "close": close}
    return {"panels": panels, "controls": controls, "shown": len(found)}


def by_rank(titles: Sequence[str]) -> dict[str, Any]:
    """The way to colour the curves that a reader sees first: the best ones apart, the others faint."""
    colours = rank_colours(len(titles))
    legend = [[colour, text] for colour, text in zip(colours, titles, strict=True) if colour != FAINT]
    more = len(titles) - len(legend)
    rest = [[FAINT, f"{more} more"]] if more else []
    return {"name": "rank, the five best", "colours": colours, "legend": legend + rest}


def colouring(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """A way to colour the curves: by the value of one choice; a long legend shows its ends and its middle."""
    keys = [plain(v) for v in values]
    by_value = value_colours(keys)
    legend = [[colour, shown(value)] for value, colour in by_value.items() if colour != FAINT]
    legend = legend if len(legend) <= FEW else [legend[0], legend[len(legend) // 2], legend[-1]]
    rest = [[FAINT, "other"]] if FAINT in by_value.values() else []
    return {"name": name, "colours": [by_value[k] for k in keys], "legend": legend + rest}


def importance_section(
    space: Space, complete: Sequence[TrialRun], choices: Sequence[str], objective: Objective, seed: int
) -> dict[str, Any]:
    """The bar chart of importances, or None where too few trials tell, the same by path, and how many were asked."""
    # In the order of time, so that evenly spaced ones stand for early and late ones alike.
    in_time = sorted(complete, key=lambda trial: trial.number)
    some = in_time[:: -(-len(in_time) // MOST_IMPORTANCE)]
    drawn = [(trial.params, objective.rank(trial.metrics)) for trial in some]
    shares = importances(space, drawn)
    spread = importance_spread(space, drawn, seed) if shares else {}
    names = short_names(list(dict.fromkeys([*choices, *shares])))
    ranges = {names[path]: spread[path] for path in shares if path in spread}
    bars = importance_bars({names[path]: share for path, share in shares.items()}, ranges) if shares else None
    left_out = [names[path] for path in choices if path not in shares] if shares else []
    told = {"estimated_from": len(some), "halves": HALVES if ranges else 0, "unweighed": left_out}
    return {"importances": bars, "weights": shares, "spread": spread, **told}


def strip_section(
    complete: Sequence[TrialRun], choices: Sequence[str], seed: int, objective: Objective
) -> list[tuple[str, Any]]:
    """By name, the first metric over each choice that differs among complete trials, at most MOST_STRIP of them."""
    chosen = [complete[i] for i in sample_rows(len(complete), MOST_STRIP, seed)]
    unit, scale = axis_of(objective.first)
    scores = [scale * t.metrics[objective.name] for t in chosen]
    titles, names, own = [title(t, choices) for t in chosen], short_names(choices), set(differing(chosen))
    values = {p: [plain(t.params.get(p)) for t in chosen] for p in choices if p in own}
    return [(names[p], strip(v, scores, titles, names[p], unit)) for p, v in values.items()]


def front_section(
    complete: Sequence[TrialRun], chosen: Sequence[TrialRun], choices: Sequence[str], key: StudyKey
) -> list[tuple[str, Any]]:
    """By its name, each further metric of the objective against the first; `chosen` is the front, {} for one metric.

    Of the other trials at most MOST_STRIP are drawn.
    """
    objective, best = key.objective, {trial.run_id for trial in chosen}
    others = [trial for trial in complete if trial.run_id not in best]
    some = [*(others[i] for i in sample_rows(len(others), MOST_STRIP, key.seed)), *chosen]
    values = [objective.values(trial.metrics) for trial in some]
    titles, is_own = [title(trial, choices) for trial in some], [trial.run_id in best for trial in some]
    axes = [axis_of(metric) for metric in objective.metrics]
    y, up = axes[0]
    return [
        (metric.words, front([(scale * own[n], up * own[0]) for own in values], is_own, titles, (x, y)))
        for n, (metric, (x, scale)) in enumerate(zip(objective.metrics, axes, strict=True))
        if n
    ]


def calibration_section(found: Calibration) -> dict[str, Any]:
    """Reliability before and after the temperature, and a line of the network's scale and of each bank's own."""
    bins = {"before": found.fused.before} | ({} if found.fused.after is None else {"after": found.fused.after})
    scales = {"all together": found.fused, **{f"{bank} alone": own for bank, own in found.alone.items()}}
    return {
        "reliability": reliability({name: (own.rows, own.right, own.confidence) for name, own in bins.items()}),
        "counts": bin_counts({name: own.rows for name, own in bins.items()}),
        "risk": risk({name: (own.risk.rows, own.risk.wrong) for name, own in scales.items()}),
        "lines": [scale_line(name, own) for name, own in scales.items()],
        "at_limit": [name for name, own in scales.items() if at_limit(own.temperature)],
        "never_wrong": [name for name, own in scales.items() if not own.risk.wrong[0]],
        "rows": found.fused.rows,
        "units": found.fused.units,
        "agreement": found.agreement,
        "sure": SURE,
        "error": ERROR,
    }


def scale_line(name: str, scale: Scale) -> dict[str, Any]:
    """What a scale says of validation rows; kept: the share that is answered where ERROR of answers may be wrong."""
    kept = scale.risk.kept(ERROR)
    return {
        "name": name,
        "accuracy": scale.accuracy,
        "temperature": scale.temperature,
        "before": scale.before.error,
        "after": None if scale.after is None else scale.after.error,
        "threshold": scale.risk.threshold(ERROR),
        "kept": kept,
    }


def class_section(validation: Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, Any]:
    """F1 by class and the confusion matrix of the best trial, on validation rows; of too many classes no matrix."""
    from sklearn.metrics import f1_score

    labels, predictions = validation["label"], validation["prediction"]
    classes = list(range(len(names)))
    f1 = f1_score(labels, predictions, labels=classes, average=None, zero_division=0.0)
    # A class that has no row here has no F1; the mean over classes knows of none either.
    f1[np.bincount(labels, minlength=len(names))[: len(names)] == 0] = np.nan
    matrix = confusion(labels, predictions, names) if len(names) <= MOST_MATRIX else None
    return {"f1": per_class(f1.tolist(), names), "confusion": matrix, "count": len(names)}

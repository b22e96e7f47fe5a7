"""The figures of a report: tracked runs and their artifacts to plotly figures and what is said beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mmtune.analysis import figures
from mmtune.analysis.embeddings import sample_rows
from mmtune.report.tables import differing, short_names, title
from mmtune.study.space import Space, importances
from mmtune.tracking import OBJECTIVE, MlflowTracker, TrialRun

# Importances are estimated from so many complete trials at most; more take seconds and tell little.
MOST_STRIP, MOST_IMPORTANCE = 500, 500
# A matrix of more classes is megabytes of cells that nobody can tell apart.
MOST_MATRIX = 500


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


def curve_section(tracker: MlflowTracker, trials: Sequence[TrialRun], choices: Sequence[str]) -> dict[str, Any]:
    """The panels of curves, and the ways to colour them: by rank and by each choice."""
    names = short_names(choices)
    tracked = tracker.curves_of([t.run_id for t in trials], tuple(p.metric for p in PANELS))
    found = [(t, tracked[t.run_id]) for t in trials if any(tracked[t.run_id].values())]
    titles = [title(t, choices) for t, _ in found]
    series = {p: list(zip(titles, [curves[p.metric] for _, curves in found], strict=True)) for p in PANELS}
    panels = [(p, figures.curves(own, p.unit, p.scale, p.log)) for p, own in series.items()]
    colourings = [colouring(names[p], [t.params.get(p) for t, _ in found]) for p in choices]
    close = {f"curve-{p.metric}": figures.close_range(own, p.scale, p.log) for p, own in series.items()}
    controls = {"colourings": [by_rank(titles), *colourings], "close": close}
    return {"panels": panels, "controls": controls, "shown": len(found)}


def by_rank(titles: Sequence[str]) -> dict[str, Any]:
    """The way to colour the curves that a reader sees first: the best ones apart, the others faint."""
    colours = figures.rank_colours(len(titles))
    legend = [[colour, text] for colour, text in zip(colours, titles, strict=True) if colour != figures.FAINT]
    more = len(titles) - len(legend)
    rest = [[figures.FAINT, f"{more} more"]] if more else []
    return {"name": "rank, the five best", "colours": colours, "legend": legend + rest}


def colouring(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """A way to colour the curves: by the value of one choice; a long legend shows its ends and its middle."""
    keys = [figures.plain(v) for v in values]
    by_value = figures.value_colours(keys)
    legend = [[colour, figures.shown(value)] for value, colour in by_value.items() if colour != figures.FAINT]
    legend = legend if len(legend) <= figures.FEW else [legend[0], legend[len(legend) // 2], legend[-1]]
    rest = [[figures.FAINT, "other"]] if figures.FAINT in by_value.values() else []
    return {"name": name, "colours": [by_value[k] for k in keys], "legend": legend + rest}


def importance_section(space: Space, complete: Sequence[TrialRun], choices: Sequence[str]) -> dict[str, Any]:
    """The bar chart of importances, or None where too few trials tell, and how many trials were asked."""
    # In the order of time, so that evenly spaced ones stand for early and late ones alike.
    in_time = sorted(complete, key=lambda trial: trial.number)
    some = in_time[:: -(-len(in_time) // MOST_IMPORTANCE)]
    shares = importances(space, [(trial.params, trial.metrics[OBJECTIVE]) for trial in some])
    names = short_names(list(dict.fromkeys([*choices, *shares])))
    bars = figures.importances({names[path]: share for path, share in shares.items()}) if shares else None
    return {"importances": bars, "estimated_from": len(some)}


def strip_section(complete: Sequence[TrialRun], choices: Sequence[str], seed: int) -> list[tuple[str, Any]]:
    """By name, the objective over each choice that differs among complete trials, at most MOST_STRIP of them."""
    chosen = [complete[i] for i in sample_rows(len(complete), MOST_STRIP, seed)]
    scores = [100 * t.metrics[OBJECTIVE] for t in chosen]
    titles, names, own = [title(t, choices) for t in chosen], short_names(choices), set(differing(chosen))
    values = {p: [figures.plain(t.params.get(p)) for t in chosen] for p in choices if p in own}
    return [(names[p], figures.strip(v, scores, titles, names[p], "val macro-F1 (%)")) for p, v in values.items()]


def class_section(validation: Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, Any]:
    """F1 by class and the confusion matrix of the best trial, on validation rows; of too many classes no matrix."""
    from sklearn.metrics import f1_score

    labels, predictions = validation["label"], validation["prediction"]
    classes = list(range(len(names)))
    f1 = f1_score(labels, predictions, labels=classes, average=None, zero_division=0.0).tolist()
    matrix = figures.confusion(labels, predictions, names) if len(names) <= MOST_MATRIX else None
    return {"f1": figures.per_class(f1, names), "confusion": matrix, "count": len(names)}

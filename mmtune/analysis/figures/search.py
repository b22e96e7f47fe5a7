"""Plotly figures of a search: what was tried when, on which worker, with what, and what it cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from mmtune.analysis.figures.look import (
    ACCENT,
    FAINT,
    FEW,
    PALETTE,
    far_apart,
    figure,
    is_number,
    jitter,
    label,
    ordered,
    plain,
    shown,
)

SCALE = "Viridis"
MOST_CELLS = 12
"""A choice of more values than these is an axis of numbers, not of cells."""
APART, LOWEST = 0.2, 0.12


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A trial as it is drawn. score: None where it has none; start and seconds: since the first one, and of training.

    whole: whether it is complete.
    """

    name: str
    number: int
    score: float | None
    start: float
    seconds: float
    whole: bool

    @property
    def colour(self) -> str:
        """Complete, or not."""
        return ACCENT if self.whole else FAINT


def history(trials: Sequence[Tried], unit: str, maximise: bool) -> go.Figure:
    """The score of each trial in the order of their numbers, and the best so far of those that are complete."""
    in_order = sorted((own for own in trials if own.score is not None), key=lambda own: own.number)
    fig = figure({"title": "trial"}, {"title": unit}, showlegend=True, legend={"orientation": "h", "y": 1.14})
    whole_ones = [own for own in in_order if own.whole]
    scores = np.array([own.score for own in whole_ones], np.float64)
    fig.add_scatter(
        x=[own.number for own in whole_ones],
        y=(np.maximum if maximise else np.minimum).accumulate(scores).tolist(),
        mode="lines",
        line={"color": PALETTE[5], "width": 1.5, "shape": "hv"},
        name="best so far",
        hoverinfo="skip",
    )
    for name, whole in (("complete", True), ("stopped early", False)):
        some = [own for own in in_order if own.whole == whole]
        if some:
            fig.add_scatter(
                x=[own.number for own in some],
                y=[own.score for own in some],
                mode="markers",
                marker={"color": some[0].colour, "size": 7, "symbol": "circle" if whole else "circle-open"},
                name=name,
                text=[label(own.name) for own in some],
                hovertemplate="%{text}<br>%{y:.4~f}<extra></extra>",
            )
    return fig


def lanes(trials: Sequence[Tried]) -> list[int]:
    """For each trial a lane in which no other one is under way, the lowest that is free when it starts."""
    free_from: list[float] = []
    found = dict.fromkeys(range(len(trials)), 0)
    for place in sorted(found, key=lambda place: trials[place].start):
        own = trials[place]
        # What a clock says of an end is later than a start by what telling it takes.
        lane = next((n for n, end in enumerate(free_from) if end <= own.start + 0.5), len(free_from))
        free_from[lane:] = [own.start + own.seconds, *free_from[lane + 1 :]]
        found[place] = lane
    return list(found.values())


def timeline(trials: Sequence[Tried]) -> go.Figure:
    """A bar for each trial from its start for as long as it trained, side by side where they overlap."""
    longest = max((own.start + own.seconds for own in trials), default=0.0)
    size, unit = next(((s, u) for s, u in ((3600, "hours"), (60, "minutes")) if longest >= 3 * s), (1, "seconds"))
    rows = lanes(trials)
    count = max(rows, default=0) + 1
    y = {"title": "trials at once", "range": [count - 0.4, -0.6], "showgrid": False, "tickvals": []}
    fig = figure({"title": f"{unit} since the first trial"}, y, bargap=0.25)
    return fig.add_bar(
        x=[own.seconds / size for own in trials],
        base=[own.start / size for own in trials],
        y=rows,
        orientation="h",
        marker={"color": [own.colour for own in trials], "line": {"color": "rgba(128,128,128,0.9)", "width": 0.5}},
        text=[label(own.name) for own in trials],
        textposition="none",
        hovertemplate="%{text}<br>%{x:.3~g} " + unit + "<extra></extra>",
    )


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis of parallel coordinates: where each trial stands on it, from 0 to 1, and ticks, places and texts."""

    name: str
    places: Sequence[float]
    ticks: Sequence[tuple[float, str]]


def parallel(
    choices: Sequence[tuple[str, Sequence[object]]],
    scores: Sequence[float],
    titles: Sequence[str],
    unit: str,
    maximise: bool,
) -> dict[str, Any]:
    """A line for each trial across an axis of each choice and the score at the right, for a page to draw.

    choices: by name the value of each trial; titles: of the trials.
    """
    axes = [placed(name, values) for name, values in choices] + [placed(unit, scores, few=0)]
    order = axes[-1].places if maximise else [1 - place for place in axes[-1].places]
    return {
        "axes": [asdict(axis) for axis in axes],
        "colours": sample_colorscale(SCALE, [0.92 * place for place in order]),
        "titles": list(titles),
    }


def placed(name: str, values: Sequence[object], few: int = FEW) -> Axis:
    """An axis of values: of numbers, logarithmic where they are far apart, or of at most `few` or of names.

    Nothing, among numbers, has a place of its own below them.
    """
    own = [plain(value) for value in values]
    different = ordered(own)
    if None in own and len(different) > few + 1 and all(is_number(value) for value in different if value is not None):
        others = placed(name, [value for value in own if value is not None], few)
        rest = iter(others.places)
        places = [0.0 if value is None else round(LOWEST + (1 - LOWEST) * next(rest), 4) for value in own]
        ticks = [(round(LOWEST + (1 - LOWEST) * place, 4), text) for place, text in others.ticks]
        return Axis(name=name, places=places, ticks=[(0.0, shown(None)), *ticks])
    if len(different) <= few or not all(is_number(value) for value in different):
        spread = [0.5] if len(different) == 1 else np.linspace(0, 1, len(different)).round(4).tolist()
        place = dict(zip(different, spread, strict=True))
        # Lines through one value would hide each other.
        apart = [round(place[value] + APART * jitter(trial), 4) for trial, value in enumerate(own)]
        return Axis(name=name, places=apart, ticks=[(place[value], shown(value)) for value in different])
    numbers, wide = np.array(own, np.float64), far_apart(different)
    at = np.log10(numbers) if wide else numbers
    low, span = float(at.min()), float(at.max() - at.min()) or 1.0
    steps = round_steps(low, low + span) if not wide else list(range(math.ceil(low), math.floor(low + span) + 1))
    ticks = [(round((step - low) / span, 4), f"{10.0**step if wide else step:g}") for step in steps]
    return Axis(name=name, places=((at - low) / span).round(4).tolist(), ticks=ticks)


def round_steps(low: float, high: float) -> list[float]:
    """Three to seven round numbers from `low` to `high`, which differ."""
    most = (high - low) / 3 * (1 + 1e-9)
    power = 10.0 ** math.floor(math.log10(most))
    step = max(power * times for times in (1, 2, 5) if power * times <= most)
    return [
        round(number * step, 12) for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    ]


def pair(two: Sequence[tuple[str, Sequence[object]]], scores: Sequence[float], unit: str) -> go.Figure | None:
    """The score over two choices: the median of each cell where both have few values, else a dot for each trial.

    None where one has many values that are no numbers.
    """
    names = [name for name, _ in two]
    values = [[plain(value) for value in own] for _, own in two]
    different = [ordered(own) for own in values]
    bar = {"title": {"text": label(unit), "side": "right"}, "thickness": 10, "outlinewidth": 0}
    if all(len(own) <= MOST_CELLS for own in different):
        cells: dict[tuple[int, int], list[float]] = {}
        for x, y, score in zip(*values, scores, strict=True):
            cells.setdefault((different[1].index(y), different[0].index(x)), []).append(score)
        medians = np.full((len(different[1]), len(different[0])), np.nan)
        for cell, own in cells.items():
            medians[cell] = np.median(own)
        ticks = [
            {"tickvals": list(range(len(own))), "ticktext": [label(shown(value)) for value in own], "showgrid": False}
            for own in different
        ]
        fig = figure({"title": label(names[0]), **ticks[0]}, {"title": label(names[1]), **ticks[1]})
        counts = [[len(cells.get((y, x), ())) for x in range(len(different[0]))] for y in range(len(different[1]))]
        return fig.add_heatmap(
            z=[[None if math.isnan(value) else value for value in row] for row in medians.tolist()],
            text=counts,
            texttemplate="%{z:.4~g}",
            colorscale=SCALE,
            colorbar=bar,
            xgap=2,
            ygap=2,
            hovertemplate="median %{z:.4~f} of %{text} trials<extra></extra>",
        )
    if not all(is_number(value) for own in different for value in own):
        return None
    kinds = ["log" if far_apart(own) else "linear" for own in different]
    axes = [{"title": label(name), "type": kind} for name, kind in zip(names, kinds, strict=True)]
    return figure(*axes).add_scatter(
        x=values[0],
        y=values[1],
        mode="markers",
        marker={"color": list(scores), "colorscale": SCALE, "size": 9, "showscale": True, "colorbar": bar},
        text=[f"{score:.4g}" for score in scores],
        hovertemplate="%{x}, %{y}<br>%{text}<extra></extra>",
    )

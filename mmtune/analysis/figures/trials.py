"""How trials went, and what their choices do to their scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

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
    shown,
)

Curve = tuple[str, Sequence[tuple[int, float]]]
"""One trial's name and its values of one metric: (epoch, value) pairs, none where it never logged it."""


def curves(series: Sequence[Curve], unit: str = "", scale: float = 1.0, log: bool = False) -> go.Figure:
    """A metric over the epochs, a line for each trial, the first one uppermost; colours are `rank_colours`."""
    longest = last_epoch(series)
    x = {"title": "epoch", **({"dtick": 1} if longest <= 12 else {})}
    y = {"type": "log", "dtick": "D2", "tickformat": "~g"} if log else {}
    fig = figure(x, {"title": unit, **y})
    colours = rank_colours(len(series))
    for (name, points), colour in reversed(list(zip(series, colours, strict=True))):
        fig.add_scatter(
            x=[epoch for epoch, _ in points],
            y=[scale * value for _, value in points],
            name=label(name),
            mode="lines+markers" if longest <= 30 else "lines",
            line={"color": colour, "width": 1.0 if colour == FAINT else 2.0},
            marker={"size": 4},
            hovertemplate="%{fullData.name}<br>epoch %{x}: %{y:.4~f}<extra></extra>",
        )
    return fig


def last_epoch(series: Sequence[Curve]) -> int:
    """The last epoch that any curve has, 0 without any."""
    return max((epoch for _, points in series for epoch, _ in points), default=0)


def close_range(series: Sequence[Curve], scale: float = 1.0, log: bool = False) -> list[float] | None:
    """The axis range that holds the second half of the epochs of the better half of the trials, first ones best."""
    longest, better = last_epoch(series), series[: math.ceil(len(series) / 2)]
    late = [scale * value for _, points in better for epoch, value in points if 2 * epoch > longest]
    late = [math.log10(v) for v in late if v > 0] if log else late
    if not late or min(late) == max(late):
        return None
    pad = 0.05 * (max(late) - min(late))
    return [min(late) - pad, max(late) + pad]


def rank_colours(count: int) -> list[str]:
    """A colour for each of the five best, the faint one for the others."""
    return [PALETTE[rank] if rank < 5 else FAINT for rank in range(count)]


def importance_bars(shares: Mapping[str, float], ranges: Mapping[str, tuple[float, float]] = {}) -> go.Figure:
    """A bar for each choice, the weightiest uppermost, with a whisker over its range; all are fractions."""
    names = sorted(shares, key=lambda name: shares[name])
    values = [100 * shares[name] for name in names]
    ends = [[100 * end for end in ranges.get(name, (shares[name], shares[name]))] for name in names]
    longest = max(1, *values, *(high for _, high in ends))
    room = 1.3 if ranges else 1.15
    x = {"title": "share of the variance (%)", "range": [0, room * longest]}
    fig = figure(x, {"type": "category"}, bargap=0.5)
    for place, (low, high) in enumerate(ends if ranges else ()):
        fig.add_shape(type="line", x0=low, x1=high, y0=place, y1=place, line={"color": PALETTE[5], "width": 2})
    fig.add_bar(
        x=values,
        y=[label(name) for name in names],
        orientation="h",
        marker={"color": ACCENT},
        hoverinfo="skip",
    )
    return fig.add_scatter(
        x=[max(value, high) for value, (_, high) in zip(values, ends, strict=True)],
        y=[label(name) for name in names],
        mode="text",
        text=[
            f"\N{NO-BREAK SPACE}{value:.1f}" + (f" ({low:.1f} to {high:.1f})" if ranges else "")
            for value, (low, high) in zip(values, ends, strict=True)
        ],
        textposition="middle right",
        cliponaxis=False,
        hoverinfo="skip",
    )


def strip(values: Sequence[object], scores: Sequence[float], names: Sequence[str], title: str, unit: str) -> go.Figure:
    """The score of each trial over the value of one choice; many different numbers get an axis of numbers.

    Few values, or names, get a column each, with a bar at the column's median.
    """
    points = {
        "mode": "markers",
        "text": [label(n) for n in names],
        "hovertemplate": "%{text}<br>%{y:.2f}<extra></extra>",
    }
    marker = {"color": ACCENT, "size": 8, "opacity": 0.75}
    different = ordered(values)
    if len(different) > FEW and all(is_number(v) for v in different):
        fig = figure({"title": label(title), "type": "log" if far_apart(different) else "linear"}, {"title": unit})
        return fig.add_scatter(x=list(values), y=list(scores), marker=marker, **points)
    place = {value: i for i, value in enumerate(different)}
    ticks = {"tickvals": list(place.values()), "ticktext": [label(shown(v)) for v in different]}
    fig = figure(
        {"title": label(title), "range": [-0.6, len(place) - 0.4], "showgrid": False, **ticks}, {"title": unit}
    )
    medians = [float(np.median([s for v, s in zip(values, scores, strict=True) if v == d])) for d in different]
    fig.add_scatter(x=[place[v] + jitter(i) for i, v in enumerate(values)], y=list(scores), marker=marker, **points)
    bar = {"symbol": "line-ew-open", "size": 44, "line": {"width": 2.5}, "color": PALETTE[5]}
    return fig.add_scatter(
        x=list(place.values()), y=medians, mode="markers", marker=bar, hovertemplate="median %{y:.2f}<extra></extra>"
    )


def front(
    points: Sequence[tuple[float, float]], chosen: Sequence[bool], names: Sequence[str], titles: tuple[str, str]
) -> go.Figure:
    """Dots of two numbers each, (x, y), with those that are `chosen` apart; these have the number of their name.

    Where it would cover another one's, it is left out. names: such as `#3 kernel 5`. Numbers far apart get a
    logarithmic axis.
    """
    xs = [x for x, _ in points]
    wide = min(xs, default=0) > 0 and max(xs) >= 20 * min(xs)
    # k and M for large numbers; m for small ones would be read as another unit.
    scale = {"type": "log", "dtick": "D2", "tickformat": "~s" if min(xs) >= 1 else "~g"} if wide else {}
    fig = figure({"title": label(titles[0]), **scale}, {"title": label(titles[1])})
    looks: dict[bool, dict[str, Any]] = {
        False: {"mode": "markers", "marker": {"color": FAINT, "size": 7}},
        True: {
            "mode": "markers+text",
            "marker": {"color": PALETTE[5], "size": 10, "symbol": "diamond"},
            "textposition": "top center",
            "cliponaxis": False,
        },
    }
    clear = clear_of_others([(math.log(x) if wide else x, y) for x, y in points], chosen)
    told = [label(name.partition(" ")[0]) if is_clear else "" for name, is_clear in zip(names, clear, strict=True)]
    for own, look in looks.items():
        every = zip(points, names, told, chosen, strict=True)
        some = [(x, y, name, text) for (x, y), name, text, is_own in every if is_own == own]
        fig.add_scatter(
            x=[x for x, *_ in some],
            y=[y for _, y, *_ in some],
            text=[text for *_, text in some],
            customdata=[label(name) for _, _, name, _ in some],
            hovertemplate="%{customdata}<br>%{x:.5~g}, %{y:.5~g}<extra></extra>",
            **look,
        )
    return fig


def clear_of_others(points: Sequence[tuple[float, float]], chosen: Sequence[bool]) -> list[bool]:
    """Which of the chosen dots (x, y) are so far from those above them with a label that they may have one too."""
    places = np.array(points, np.float64).reshape(-1, 2)
    spans = np.ptp(places, axis=0) if len(places) else np.ones(2)
    shares = places / np.where(spans > 0, spans, 1)
    labelled: list[int] = []
    for place in sorted(np.flatnonzero(chosen).tolist(), key=lambda place: -points[place][1]):
        if all((np.abs(shares[place] - shares[other]) > (0.06, 0.08)).any() for other in labelled):
            labelled.append(place)
    return [place in labelled for place in range(len(points))]

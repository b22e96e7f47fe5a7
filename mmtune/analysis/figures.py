"""Plotly figures of a study: small pure functions from plain numbers to a figure.

Backgrounds are transparent and text has no colour of its own, so that a page gives both for light and dark.
Every string that a figure shows passes through `label`, because plotly reads mark-up in text.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.colors import sample_colorscale

from mmtune.analysis.clusters import counted

# Okabe and Ito's colours, told apart in all common forms of colour blindness, on white and on black.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
# More classes than these have no names on an axis.
MOST_NAMES, LONGEST_NAME = 30, 16
# Petroff's ten, chosen by the same test (arXiv:2107.02270).
CLASS_COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
ACCENT = "#2f86c8"
FAINT = "rgba(128,128,128,0.55)"
GRID = "rgba(128,128,128,0.22)"
FEW = len(PALETTE)
DASH = "\N{EN DASH}"


# The look that all figures share.
LOOK = {
    "template": go.layout.Template(),
    "paper_bgcolor": "rgba(0,0,0,0)",
    "plot_bgcolor": "rgba(0,0,0,0)",
    "font": {"size": 12},
    "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
}

Curve = tuple[str, Sequence[tuple[int, float]]]
"""One trial's name and its values of one metric: (epoch, value) pairs, none where it never logged it."""


def label(text: object, most: int = 60) -> str:
    """Text that plotly shows as it is, whatever is in it; at most so many characters. It shows &quot; as it is."""
    plain = str(text)
    return html.escape(plain if len(plain) <= most else f"{plain[: most - 1]}\N{HORIZONTAL ELLIPSIS}", quote=False)


def figure(x: Mapping[str, Any], y: Mapping[str, Any], **layout: Any) -> go.Figure:
    """An empty figure with axes and the look that all share."""
    own = {"showlegend": False, "hovermode": "closest", "xaxis": axis(x), "yaxis": axis(y)}
    return go.Figure(layout={**LOOK, **own, **layout})


def axis(own: Mapping[str, Any]) -> dict[str, Any]:
    """An axis with settings of its own; a title is given as plain text."""
    title = {"standoff": 8} | ({"text": own["title"]} if own.get("title") else {})
    return {"gridcolor": GRID, "linecolor": GRID, "zeroline": False, "automargin": True, **own, "title": title}


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


def value_colours(values: Sequence[object]) -> dict[object, str]:
    """A colour for each different value: from the palette for few, light to dark for many numbers, else faint."""
    different = ordered(values)
    if len(different) <= FEW:
        return dict(zip(different, PALETTE, strict=False))
    if all(is_number(v) for v in different):
        steps = np.linspace(0.2, 0.9, len(different)).tolist()
        return dict(zip(different, sample_colorscale("Plasma", steps), strict=True))
    return dict.fromkeys(different, FAINT) | dict(zip(different, PALETTE, strict=False))


def ordered(values: Sequence[object]) -> list[Any]:
    """The different values: numbers by size, then the rest by name."""
    return sorted(dict.fromkeys(values), key=lambda v: (0, v, "") if is_number(v) else (1, 0, str(v)))


def is_number(value: object) -> bool:
    """Whether a value is a finite int or float, and no bool."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def far_apart(numbers: Sequence[float]) -> bool:
    """Whether rising numbers want a logarithmic axis."""
    return numbers[0] > 0 and numbers[-1] >= 100 * numbers[0]


def importances(shares: Mapping[str, float], ranges: Mapping[str, tuple[float, float]] = {}) -> go.Figure:
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


def plain(value: object) -> object:
    """A value that can be compared and hashed: itself where it is a number, text or nothing, else as text."""
    return value if value is None or isinstance(value, int | float | str) else str(value)


def shown(value: object) -> str:
    """A parameter's value as a reader writes it."""
    if value is None:
        return DASH
    return f"{value:g}" if isinstance(value, float) else str(value)


def jitter(index: int) -> float:
    """A fixed small offset, so that equal scores do not hide each other: multiples of the golden ratio in ±0.15."""
    return 0.3 * ((index * 0.618033988749895) % 1.0) - 0.15


def named_axis(title: str, names: Sequence[str]) -> dict[str, Any]:
    """An axis of classes, each by its name as long as there is room for all."""
    told = {"title": title, "showgrid": False}
    if len(names) > MOST_NAMES:
        return told
    return {**told, "tickvals": list(range(len(names))), "ticktext": [shortened(name) for name in names]}


def shortened(name: str) -> str:
    """A name that fits beside a figure; what plotly would take for a tag is none."""
    return label(name, LONGEST_NAME)


def per_class(f1: Sequence[float], names: Sequence[str]) -> go.Figure:
    """F1 of each class as a dot, the first uppermost; fractions in, percent out; none where one is not a number."""
    percent = [None if math.isnan(v) else 100 * v for v in f1]
    low = min((v for v in percent if v is not None), default=100.0)
    span = max(100 - low, 0.5)
    own = {**named_axis("class", names), "autorange": "reversed"}
    # The axis runs past 100 to make room for the numbers, its ticks do not.
    ticks = np.linspace(100 - span, 100, 6).round(2).tolist()
    shares = {"title": "validation F1 (%)", "range": [low - 0.1 * span, 100 + 0.22 * span], "tickvals": ticks}
    fig = figure(shares, own)
    # Among many dots a line to each is a grey area, and plotly takes seconds to draw them.
    for place, value in enumerate(percent if len(names) <= MOST_NAMES else ()):
        # Of a class without rows the whole line, and no dot.
        end = 100 if value is None else value
        fig.add_shape(type="line", x0=low - 0.1 * span, x1=end, y0=place, y1=place, line={"color": GRID, "width": 2})
    return fig.add_scatter(
        x=percent,
        y=list(range(len(percent))),
        mode="markers+text" if len(names) <= MOST_NAMES else "markers",
        text=["" if v is None else f"{v:.2f}" for v in percent],
        textposition="middle right",
        cliponaxis=False,
        marker={"color": ACCENT, "size": 9},
        hoverinfo="skip",
    )


def reliability(series: Mapping[str, tuple[Sequence[int], Sequence[int], Sequence[float]]]) -> go.Figure:
    """The share that is right against the mean confidence of each bin, a line a name, beside the diagonal.

    series: by name rows, right rows and summed confidence of each bin; bins without a row are left out.
    """
    fig = figure(
        {"title": "mean confidence of the bin (%)", "range": [0, 102]},
        {"title": "right (%)", "range": [0, 102]},
        showlegend=True,
        legend={"x": 0.02, "y": 0.98},
    )
    diagonal = {"color": FAINT, "width": 1, "dash": "dot"}
    fig.add_scatter(x=[0, 100], y=[0, 100], mode="lines", line=diagonal, hoverinfo="skip", showlegend=False)
    for colour, (name, bins) in zip(PALETTE, series.items(), strict=False):
        some = [(count, right, total) for count, right, total in zip(*bins, strict=True) if count]
        fig.add_scatter(
            x=[100 * total / count for count, _, total in some],
            y=[100 * right / count for count, right, _ in some],
            name=label(name),
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"size": 7},
            text=[f"{count:,}" for count, _, _ in some],
            hovertemplate="%{text} rows, confidence %{x:.2f} %<br>right %{y:.2f} %<extra>%{fullData.name}</extra>",
        )
    return fig


def risk(series: Mapping[str, tuple[Sequence[int], Sequence[int]]]) -> go.Figure:
    """The share of answers that is wrong over the share of rows that is answered, the surest first, a line a name.

    series: by name, for rising confidence, how many rows have at least that and how many of them are wrong.
    """
    fig = figure(
        {"title": "rows answered, the surest first (%)", "range": [0, 102]},
        {"title": "wrong (%)", "rangemode": "tozero"},
        showlegend=True,
        legend={"x": 0.02, "y": 0.98},
    )
    for colour, (name, (rows, wrong)) in zip(PALETTE, series.items(), strict=False):
        fig.add_scatter(
            x=[round(100 * count / rows[0], 3) for count in rows],
            y=[round(100 * own / count, 4) for own, count in zip(wrong, rows, strict=True)],
            name=label(name),
            mode="lines",
            line={"color": colour, "width": 2},
            hovertemplate="%{x:.1f} % answered, %{y:.2f} % wrong<extra>%{fullData.name}</extra>",
        )
    return fig


def bin_counts(series: Mapping[str, Sequence[int]]) -> go.Figure:
    """How many rows each bin of confidence has, a bar a name, by powers of ten, as most are in the last."""
    fig = figure(
        {"title": "confidence (%)", "range": [0, 100]},
        {"title": "rows, log axis", "type": "log", "dtick": 1},
        showlegend=True,
        legend={"x": 0.02, "y": 0.98},
        bargap=0.15,
    )
    for colour, (name, counts) in zip(PALETTE, series.items(), strict=False):
        ends = np.linspace(0, 100, len(counts) + 1)
        fig.add_bar(
            x=((ends[1:] + ends[:-1]) / 2).tolist(),
            y=[count or None for count in counts],
            name=label(name),
            marker={"color": colour},
            hovertemplate="%{y:,} rows about %{x:.1f} %<extra>%{fullData.name}</extra>",
        )
    return fig


def confusion(labels: NDArray[np.int64], predictions: NDArray[np.int64], names: Sequence[str]) -> go.Figure:
    """Counts by label and prediction; errors are coloured by their share of the label's rows, hits are not."""
    counts = counted(labels, predictions, least=len(names))
    share = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    errors = np.where(np.eye(len(counts), dtype=bool), np.nan, share)
    x = {**named_axis("predicted class", names), "constrain": "domain"}
    y = {**named_axis("true class", names), "autorange": "reversed", "scaleanchor": "x"}
    fig = figure({**x, "ticks": ""}, {**y, "constrain": "domain", "ticks": ""})
    scale = [[0, "rgba(213,94,0,0)"], [1, "rgba(213,94,0,0.75)"]]
    # With no error at all an automatic range would have no width, and zero would get the full colour.
    top = max(float(np.nanmax(errors, initial=0.0)), 1.0)
    fig.add_heatmap(
        z=errors.tolist(), zmin=0, zmax=top, colorscale=scale, showscale=False, hoverinfo="skip", xgap=1, ygap=1
    )
    true, predicted = np.nonzero(counts)
    percent = "%{text} rows of class %{y} taken for %{x}, %{customdata:.2f} %<extra></extra>"
    return fig.add_scatter(
        x=predicted.tolist(),
        y=true.tolist(),
        text=[str(c) for c in counts[true, predicted]],
        customdata=share[true, predicted].tolist(),
        mode="text" if len(names) <= MOST_NAMES else "markers",
        marker={"opacity": 0},
        hovertemplate=percent,
    )

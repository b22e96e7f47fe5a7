"""What a model answers, class by class, and how far its confidence is right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from mmtune.analysis.clusters import counted
from mmtune.analysis.figures.look import (
    ACCENT,
    FAINT,
    GRID,
    MOST_NAMES,
    PALETTE,
    figure,
    label,
    named_axis,
)


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

"""Plotly figures of how accuracy falls while one bank goes wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from mmtune.analysis.figures.look import PALETTE, figure, label

CLEAN = "as it is"


def falling(lines: Mapping[str, Sequence[float]], levels: Sequence[float], unit: str, low: float) -> go.Figure:
    """Accuracies (1 + L,) by name as lines, the first one full, over nothing and then levels (L,), evenly spaced.

    Fractions in, percent out; low: the lowest that is to be seen, as a fraction.
    """
    places = list(range(1 + len(levels)))
    ticks = {"tickvals": places, "ticktext": [CLEAN, *(f"{level:g}" for level in levels)], "showgrid": False}
    x = {"title": label(unit), "range": [-0.3, len(levels) + 0.3], **ticks}
    y = {"title": "accuracy (%)", "range": [100 * low - 3, 103]}
    fig = figure(x, y, showlegend=len(lines) > 1, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"})
    for place, (name, values) in enumerate(lines.items()):
        fig.add_scatter(
            x=places,
            y=[round(100 * value, 2) for value in values],
            name=label(name),
            mode="lines+markers",
            line={"color": PALETTE[place % len(PALETTE)], "width": 2, "dash": "dot" if place else "solid"},
            marker={"size": 6},
            hovertemplate="%{fullData.name}<br>%{x}: %{y:.2f}<extra></extra>",
        )
    return fig

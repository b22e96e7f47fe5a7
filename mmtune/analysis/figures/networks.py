"""Plotly figures of what a model makes of single rows: embeddings in the plane, and maps over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from mmtune.analysis.figures.look import CLASS_COLOURS, FAINT, GRID, LOOK, PALETTE, figure, label, shortened

COLUMNS, MOST_STEPS = 6, 12
# Blue below 0, orange above, and the page itself at 0, so that one scale serves light and dark.
SIGNED = ((0.0, "rgb(0,114,178)"), (0.5, "rgba(128,128,128,0)"), (1.0, "rgb(213,94,0)"))


def embedding(
    points: NDArray[np.float64],
    groups: NDArray[np.int64],
    titles: Sequence[str],
    hover: NDArray[np.str_],
    names: Sequence[str],
    numbers: NDArray[np.int64],
) -> go.Figure:
    """Rows (N, 2) in the plane, coloured by group, with the group's name at its median.

    titles: of the axes; numbers (N,): what a page knows a point by. Of rows (N, 3) the third value is a trace's `meta`,
    and its title the figure's, by which a page turns them.
    """
    fig = figure({"title": titles[0]}, {"title": titles[1], "scaleanchor": "x"}, meta=titles[2:])
    for group in np.unique(groups).tolist():
        inside = np.flatnonzero(groups == group)
        fig.add_scatter(
            x=points[inside, 0].round(4).tolist(),
            y=points[inside, 1].round(4).tolist(),
            name=label(names[group]),
            mode="markers",
            marker={"color": CLASS_COLOURS[group % len(CLASS_COLOURS)], "size": 5, "opacity": 0.7},
            text=hover[inside].tolist(),
            customdata=numbers[inside].tolist(),
            hovertemplate="%{text}<extra></extra>",
            meta=points[inside, 2].round(4).tolist() if points.shape[1] > 2 else None,
        )
        x, y = np.median(points[inside, :2], axis=0)
        fig.add_annotation(x=x, y=y, text=f"<b>{shortened(names[group])}</b>", showarrow=False, font={"size": 17})
    return fig


def step_changes(frames: NDArray[np.float32]) -> NDArray[np.float64]:
    """The Euclidean norm of the difference between each step of (T, ...) and the next, (T - 1,)."""
    differences = np.diff(frames.reshape(len(frames), -1).astype(np.float64), axis=0)
    return np.asarray(np.linalg.norm(differences, axis=1))


def dynamics(changes: Mapping[str, NDArray[np.float64]]) -> go.Figure:
    """Changes from step to step (T - 1,) by name as lines, each over its own greatest, the first one dotted."""
    fig = figure({"title": "time step"}, {"title": "change / greatest change", "range": [0, 1.05]}, showlegend=True)
    for place, (name, values) in enumerate(changes.items()):
        line = {"color": FAINT if place == 0 else PALETTE[(place - 1) % len(PALETTE)], "width": 2}
        fig.add_scatter(
            x=list(range(2, len(values) + 2)),
            y=(values / (float(values.max()) or 1.0)).round(4).tolist(),
            name=label(name),
            mode="lines",
            line={**line, "dash": "dot" if place == 0 else "solid"},
        )
    return fig.update_layout(legend={"orientation": "h", "y": 1.12})


def shown_steps(count: int) -> list[int]:
    """At most MOST_STEPS of the steps 0..count-1, evenly spread from the first to the last."""
    return sorted({int(step) for step in np.linspace(0, count - 1, min(count, MOST_STEPS)).round()})


def maps(frames: NDArray[np.float32]) -> go.Figure:
    """Maps (T, H, W) over time as small pictures, six in a line, under one scale that is even about 0."""
    from plotly.subplots import make_subplots

    steps = shown_steps(len(frames))
    lines = -(-len(steps) // COLUMNS)
    titles = [f"step {step + 1}" for step in steps] if len(frames) > 1 else []
    fig = make_subplots(lines, COLUMNS, subplot_titles=titles, horizontal_spacing=0.015, vertical_spacing=0.2 / lines)
    top = float(np.abs(frames).max()) or 1.0
    for place, step in enumerate(steps):
        values = frames[step].astype(np.float64)
        cell = go.Heatmap(z=np.vectorize(lambda v: float(f"{v:.3g}"))(values).tolist(), zmin=-top, zmax=top)
        cell.update(colorscale=SIGNED, showscale=False, hovertemplate="row %{y}, column %{x}: %{z}<extra></extra>")
        row, column = place // COLUMNS + 1, place % COLUMNS + 1
        fig.add_trace(cell, row=row, col=column)
        fig.update_yaxes(scaleanchor=f"x{place + 1}" if place else "x", row=row, col=column)
    hidden = {"showticklabels": False, "showgrid": False, "zeroline": False, "ticks": "", "linecolor": GRID}
    fig.update_xaxes(**hidden, mirror=True, constrain="domain")
    fig.update_yaxes(**hidden, mirror=True, constrain="domain", autorange="reversed")
    fig.update_annotations(font_size=11)
    return fig.update_layout(LOOK | {"margin": {"l": 4, "r": 4, "t": 22, "b": 4}})

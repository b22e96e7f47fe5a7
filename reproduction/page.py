"""Reported against measured as one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go

from mmtune.analysis.figures.look import PALETTE, figure, label
from mmtune.base.files import make_folder, write_whole
from mmtune.data.protocols import PROTOCOLS
from mmtune.report.page import protocol_note, render
from reproduction.table import CROSSED, METRICS, PLAIN, Line

# What stands in a column's small print, and what under the line.
SMALL = {"study": "paper", "test_accuracy": "interval", "held_accuracy": "held_interval"}
BELOW = {*SMALL.values(), "remarks", "command"}
BOLD = ("test_accuracy", "held_accuracy")
SYMBOLS = ("circle", "square", "triangle-up")
REPORTED = "#808080"


def write_page(
    path: Path,
    name: str,
    caption: Mapping[str, str],
    statements: Sequence[str],
    lines: Sequence[Line],
    notes: Sequence[str],
) -> None:
    """Write the page of a data set, whole or not at all."""
    plain, crossed = [own for own in lines if not own.task.folds], [own for own in lines if own.task.folds]
    values = {
        "name": name,
        "caption": caption,
        "statements": statements,
        "notes": notes,
        "protocols": {own: protocol_note(own) for own in dict.fromkeys(line.task.protocol for line in lines)},
        "tables": [("Reported and measured", shown(PLAIN), plain), ("Cross-validated", shown(CROSSED), crossed)],
        "small": SMALL,
        "bold": BOLD,
        "studies": len({line.task.study for line in plain}),
        "dots": dots(plain),
    }
    make_folder(path.parent)
    write_whole(path, render("reproduction", values, "reproduction").encode())


def shown(columns: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    """The columns that are not small print of another one."""
    return {name: own for name, own in columns.items() if name not in BELOW}


def metric_of(line: Line) -> str:
    """The metric that a line is drawn by: accuracy, unless its report gives the other one alone."""
    return next(iter(line.study.reported), "accuracy")


def dots(lines: Sequence[Line]) -> go.Figure | None:
    """A row for each study: what its report says, and what was measured under each protocol, in percent."""
    chosen = [line for line in lines if line.weights == "best" and f"{line.split}_{metric_of(line)}" in line.scores]
    if not chosen:
        return None
    rows = {line.task.study: f"{line.task.study} ({METRICS[metric_of(line)]})" for line in reversed(chosen)}
    drawn = figure(
        {"title": "%"},
        {"categoryorder": "array", "categoryarray": [label(row) for row in rows.values()]},
        showlegend=True,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    reported = {line.task.study: line.study.reported[metric_of(line)] for line in chosen if line.study.reported}
    drawn.add_scatter(
        x=[100 * value for value in reported.values()],
        y=[label(rows[name]) for name in reported],
        name="reported",
        mode="markers",
        marker={"symbol": "line-ns-open", "size": 20, "color": REPORTED, "line": {"width": 3}},
        hovertemplate="%{y}<br>reported %{x:.2f} %<extra></extra>",
    )
    for place, protocol in enumerate(PROTOCOLS):
        own = [line for line in chosen if line.task.protocol == protocol]
        if own:
            add_dots(drawn, protocol, place, own, rows)
    return drawn


def add_dots(drawn: go.Figure, protocol: str, place: int, lines: Sequence[Line], rows: Mapping[str, str]) -> None:
    """The dots of one protocol, with the deviation over seeds where there are several."""
    found = [line.scores[f"{line.split}_{metric_of(line)}"] for line in lines]
    wide = [100 * own.deviation if own.n > 1 else 0.0 for own in found]
    drawn.add_scatter(
        x=[100 * own.mean for own in found],
        y=[label(rows[line.task.study]) for line in lines],
        name=protocol,
        mode="markers",
        marker={"symbol": SYMBOLS[place], "size": 10, "opacity": 0.85, "color": PALETTE[(0, 1, 2)[place]]},
        error_x={"type": "data", "array": wide, "visible": any(wide)},
        text=[label(f"{line.split}, {line.task.epochs or line.study.base.train.epochs} epochs") for line in lines],
        hovertemplate="%{y}<br>%{fullData.name}: %{x:.2f} % (%{text})<extra></extra>",
    )

"""Studies held against each other as one HTML page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import plotly.graph_objects as go

from mmtune.analysis.figures.look import ACCENT, FAINT, PALETTE, figure, label
from mmtune.analysis.statistics import share_interval
from mmtune.base.files import make_folder, write_named
from mmtune.report.comparing import Answers, Comparison, p_text
from mmtune.report.page import protocol_note, render
from mmtune.report.tables import percent, signed

LONGEST = 32
"""Letters of a name beside a figure, which a phone has room for too."""


def write_comparison(path: Path, reference: Answers, found: Sequence[Comparison]) -> None:
    """Write the page of comparisons with one reference, whole or not at all."""
    everyone = [reference, *(own.own for own in found)]
    intervals = [share_interval(own.right, own.unit) for own in everyone]
    values = {
        "reference": reference,
        "found": found,
        "everyone": everyone,
        "intervals": intervals,
        "protocol_note": protocol_note(reference.key.protocol),
        "accuracies": accuracies(everyone, intervals),
        "alone": alone(found),
        "percent": percent,
        "signed": signed,
        "p_text": p_text,
        "written": datetime.now(UTC),
    }
    make_folder(path.parent)
    write_named(path, render("compare", values).encode())


def accuracies(everyone: Sequence[Answers], intervals: Sequence[tuple[float, float]]) -> go.Figure:
    """A row for each: its accuracy with its interval, low and high, and that of each fold."""
    drawn = figure({"title": "accuracy (%)"}, rows_of(everyone))
    for place, own in enumerate(everyone):
        if own.folds:
            drawn.add_scatter(
                x=[100 * value for value in own.folds],
                y=[place] * len(own.folds),
                mode="markers",
                marker={"color": FAINT, "size": 7, "symbol": "line-ns-open"},
                hovertemplate="a fold: %{x:.2f} %<extra></extra>",
            )
    middle = [own.accuracy for own in everyone]
    return drawn.add_scatter(
        x=[100 * value for value in middle],
        y=list(range(len(everyone))),
        mode="markers",
        marker={"color": [PALETTE[5], *[ACCENT] * (len(everyone) - 1)], "size": 10},
        error_x={
            "type": "data",
            "symmetric": False,
            "array": [100 * max(0.0, high - value) for (_, high), value in zip(intervals, middle, strict=True)],
            "arrayminus": [100 * max(0.0, value - low) for (low, _), value in zip(intervals, middle, strict=True)],
            "color": FAINT,
        },
        hovertemplate="%{x:.2f} %<extra></extra>",
    )


def rows_of(everyone: Sequence[Answers]) -> dict[str, object]:
    """An axis with a row for each, the first one uppermost; two may have one name."""
    names = [label(own.name, LONGEST) for own in everyone]
    return {"tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.4, -0.6]}


def alone(found: Sequence[Comparison]) -> go.Figure:
    """A row for each comparison: to the right the rows that it alone has right, to the left those of the reference."""
    x = {"title": "rows right alone"}
    drawn = figure(x, rows_of([own.own for own in found]), barmode="relative", bargap=0.4)
    sides = ((-1, PALETTE[5], [own.rows.only_b for own in found]), (1, ACCENT, [own.rows.only_a for own in found]))
    for sign, colour, counts in sides:
        drawn.add_bar(
            x=[sign * count for count in counts],
            y=list(range(len(found))),
            orientation="h",
            marker={"color": colour},
            text=[str(count) for count in counts],
            hovertemplate="%{text} rows<extra></extra>",
        )
    # Rows are counted to both sides: nothing is below zero.
    most = max((count for _, _, counts in sides for count in counts), default=0)
    step = max(1, int(round(most / 4, 1 - len(str(most // 4)))))
    ticks = [place * step for place in range(-(most // step), most // step + 1)]
    drawn.update_xaxes(tickvals=ticks, ticktext=[f"{abs(tick):,}" for tick in ticks])
    return drawn.add_vline(x=0, line={"color": FAINT, "width": 1})

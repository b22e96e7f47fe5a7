"""Pictures of a study as PNG, for wherever no page can be looked at."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mmtune.analysis.clusters import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_NUMBERS, LONGEST_NAME, LONGEST_TITLE = 20, 16, 80
"""A matrix of more classes has no numbers in its cells, and longer names of classes and figures are cut."""


def confusion_picture(
    labels: NDArray[np.int64], predictions: NDArray[np.int64], names: Sequence[str], title: str
) -> bytes:
    """Rows (N,) by true and predicted class: shares of each true class as colours, counts as numbers; a PNG."""
    counts = counted(labels, predictions, least=len(names))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = new_figure(6.4, 5.6)
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, label="share of the true class")
    if len(counts) <= MOST_NUMBERS:
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
        short = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..." for name in names]
        axes.set_xticks(range(len(counts)), short, rotation=90 if max(map(len, short)) > 2 else 0, parse_math=False)
        axes.set_yticks(range(len(counts)), short, parse_math=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(shorten(title, LONGEST_TITLE), parse_math=False)
    return as_png(figure)


def curves_picture(curves: Mapping[str, Sequence[tuple[int, float]]], best: str, label: str, title: str) -> bytes:
    """By trial, its (epoch, value) pairs as lines, the best one in front; a PNG."""
    figure = new_figure(8.0, 4.5)
    axes = figure.subplots()
    for name, points in curves.items():
        if name != best and points:
            axes.plot(*zip(*points, strict=True), color="0.75", linewidth=1)
    if curves.get(best):
        axes.plot(*zip(*curves[best], strict=True), color="#0072B2", linewidth=2, label=shorten(best, LONGEST_TITLE))
        for text in axes.legend(loc="best").get_texts():
            text.set_parse_math(False)
    axes.set(xlabel="epoch", ylabel=label)
    axes.set_title(shorten(title, LONGEST_TITLE), parse_math=False)
    axes.grid(alpha=0.3)
    return as_png(figure)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, without any state that pyplot would share."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def as_png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG."""
    buffer = BytesIO()
    with warnings.catch_warnings():
        # Names are in any script, and a letter that the font has not is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()

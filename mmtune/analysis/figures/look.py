"""What all figures share: their look, their axes, and how values are named and coloured.

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
from plotly.colors import sample_colorscale

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

"""A picture of some rows of a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.dataset import RECORDING, SPEAKER, Dataset


def draw_rows(dataset: Dataset, path: Path, count: int = 8) -> None:
    """Write a PNG of `count` training rows, class by class, with what each has in every bank."""
    from matplotlib.figure import Figure

    train, path = dataset.train, Path(path)
    order = np.argsort(train.labels, kind="stable")
    by_class = np.split(order, np.flatnonzero(np.diff(train.labels[order])) + 1)
    rows = [int(own[turn]) for turn in range(count) for own in by_class[:count] if turn < len(own)][:count]
    figure = Figure(figsize=(1.6 * count, 1.9 * len(train.banks)), layout="constrained")
    axes = figure.subplots(len(train.banks), len(rows), squeeze=False)
    for column, row in zip(axes.T, rows, strict=True):
        names = [str(train.groups[group][row]) for group in (SPEAKER, RECORDING) if group in train.groups]
        shown = [dataset.classes[train.labels[row]], *[name for name in names if name][:1]]
        # A name may hold signs that would be read as a formula.
        column[0].set_title("\n".join(text[:24] for text in shown), fontsize=7, parse_math=False)
        for place, bank in zip(column, train.banks.values(), strict=True):
            place.tick_params(labelsize=6)
            if bank.index[row] < 0:
                place.set_axis_off()
            else:
                draw_value(place, bank.values[bank.index[row]])
    for place, name in zip(axes[:, 0], train.banks, strict=True):
        place.set_ylabel(name, fontsize=7, parse_math=False)
    figure.suptitle(f"{dataset.name}: rows of the training partition", parse_math=False)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        figure.savefig(temporary, format="png", dpi=110)
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path}: the picture could not be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def draw_value(place: Any, value: NDArray[Any]) -> None:
    """One value: a picture as seen, a waveform over its samples, a vector as bars, anything else as a map."""
    if value.ndim == 1:
        draw = place.plot if len(value) > 64 else place.bar
        draw(np.arange(len(value)), value, linewidth=0.4)
        return
    colour = value.ndim == 3 and len(value) == 3 and value.dtype == np.uint8
    while value.ndim > 2 and not colour:  # of a sequence what is in its middle
        value = value[len(value) // 2]
    if value.dtype == np.uint8:
        place.imshow(np.moveaxis(value, 0, -1) if colour else value, cmap="gray", vmin=0, vmax=255)
        place.set_xticks([])
        place.set_yticks([])
    else:
        place.imshow(value.T, aspect="auto", origin="lower")

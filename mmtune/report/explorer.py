"""What a point of an embedding shows when one points at it, and other ways to colour the points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.analysis.figures import CLASS_COLOURS, PALETTE
from mmtune.base.errors import InputError
from mmtune.data.dataset import RECORDING, Dataset
from mmtune.networks.card import MODEL
from mmtune.networks.storage import load_model
from mmtune.report.rows import Media, same_data
from mmtune.tracking import MlflowTracker, StudyRun, TrialRun

MOST_BYTES = 1_200_000
"""Of the pictures and sounds of all points; those that come after have none."""


def explorer(
    tracker: MlflowTracker,
    run: StudyRun,
    trial: TrialRun,
    validation: Mapping[str, NDArray[Any]],
    places: Sequence[int],
    names: Sequence[str],
    dataset: Dataset | None,
) -> dict[str, Any]:
    """By row what can be seen and heard of it, and colourings: a colour for each row, and what the colours mean.

    places: of the validation rows that are drawn, those that matter most first. Where the data are not at hand, or the
    model is of a network that is not known here, nothing is seen and heard.
    """
    drawn = np.array(places, np.int64)
    rows, labels, predictions = (validation[name][drawn] for name in ("row", "label", "prediction"))
    told = {
        "predicted class": [names[own] for own in predictions],
        "right or wrong": np.where(labels == predictions, "right", "wrong").tolist(),
    }
    shown: dict[str, dict[str, list[str]]] = {}
    if dataset is not None and not same_data(dataset, run, validation):
        part = dataset.train.take(rows)
        told |= {name: list(map(str, own)) for name, own in part.groups.items() if name != RECORDING}
        with suppress(InputError):
            banks = load_model(tracker.artifact(trial.run_id, MODEL)).config.reads
            media = Media(part, banks, dataset.forms, MOST_BYTES)
            shown = {
                str(row): {"pictures": [*media.pictures(place).values()], "sounds": [*media.sounds(place).values()]}
                for place, row in enumerate(rows.tolist())
                if not media.full
            }
    return {"shown": shown, "colourings": [colouring(name, rows.tolist(), own) for name, own in told.items()]}


def colouring(name: str, rows: Sequence[int], values: Sequence[str]) -> dict[str, Any]:
    """A colour for each row by its value."""
    different = list(dict.fromkeys(sorted(values)))
    palette = (PALETTE[0], PALETTE[5]) if different == ["right", "wrong"] else CLASS_COLOURS
    colours = {value: palette[place % len(palette)] for place, value in enumerate(different)}
    by_row = {str(row): colours[value] for row, value in zip(rows, values, strict=True)}
    return {"name": name, "colours": by_row, "values": dict(zip(map(str, rows), values, strict=True))}

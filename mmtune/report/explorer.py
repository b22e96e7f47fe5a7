"""What a point of an embedding shows when one points at it, and other ways to colour the points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.analysis.figures.look import CLASS_COLOURS, PALETTE
from mmtune.analysis.rows import Media
from mmtune.base.errors import InputError
from mmtune.data.dataset import RECORDING, Dataset
from mmtune.networks.card import MODEL, read_card
from mmtune.networks.kinds import model_from_json
from mmtune.report.gallery import same_data
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
    """By row what can be seen and heard of it, in words what was left out, and colourings.

    places: of the validation rows that are drawn, those that matter most first. Where the data are not at hand, or the
    model is of a network that is not known here, nothing is seen and heard.
    """
    drawn = np.array(places, np.int64)
    rows, labels, predictions = (validation[name][drawn] for name in ("row", "label", "prediction"))
    keys = [str(row) for row in rows.tolist()]
    right = np.where(labels == predictions, 0, 1).tolist()
    colourings = [
        colouring("predicted class", names, CLASS_COLOURS, dict(zip(keys, predictions.tolist(), strict=True))),
        colouring("right or wrong", ("right", "wrong"), (PALETTE[0], PALETTE[5]), dict(zip(keys, right, strict=True))),
    ]
    found: dict[str, Any] = {"pictures": {}, "sounds": {}, "left_out": ""}
    if dataset is not None and len(drawn) and not same_data(dataset, run, validation):
        part = dataset.train.take(rows)
        for name, own in part.groups.items():
            if name != RECORDING:
                values, numbers = np.unique(own, return_inverse=True)
                by_row = dict(zip(keys, numbers.tolist(), strict=True))
                colourings.append(colouring(name, values.tolist(), CLASS_COLOURS, by_row, of_row=True))
        with suppress(InputError):
            banks = model_from_json(read_card(tracker.artifact(trial.run_id, MODEL))["model"]).reads
            media = Media(part, banks, dataset.forms, MOST_BYTES)
            # A picture is small, so that as good as all have one before the first sound takes up room.
            for kind, made in (("pictures", media.pictures), ("sounds", media.sounds)):
                found[kind] = {
                    key: kept for place, key in enumerate(keys) if not media.full and (kept := [*made(place).values()])
                }
                if media.full:
                    found["left_out"] = f"{len(found[kind]):,} of {len(keys):,} dots have {kind}"
                    break
    return {**found, "colourings": colourings}


def colouring(
    name: str, values: Sequence[str], palette: Sequence[str], rows: Mapping[str, int], of_row: bool = False
) -> dict[str, Any]:
    """A colour for each value, and by row the number of its value. of_row: whether it is told of a row by itself."""
    colours = [palette[place % len(palette)] for place in range(len(values))]
    return {"name": name, "values": list(values), "colours": colours, "rows": rows, "ofRow": of_row}

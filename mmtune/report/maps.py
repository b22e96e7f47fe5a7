"""The section on the maps that 1D-to-2D connections make of an utterance (XFlow, section 3.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.analysis.figures.networks import dynamics, maps, shown_steps, step_changes
from mmtune.base.errors import InputError
from mmtune.data.media.archives import read_npz
from mmtune.networks.card import MAPS, SOUND
from mmtune.tracking import MlflowTracker, TrialRun
from mmtune.train.answers import as_numbers

MOST_ROWS = 2
MOST_MAPS, WIDEST_MAP = 32, 256  # each value is drawn


def map_section(tracker: MlflowTracker, trial: TrialRun, names: Sequence[str]) -> list[dict[str, Any]]:
    """For each of the first rows in the trial's `maps.npz`, a picture of each map; empty where it has no such file.

    The file: `row` and `label` (R,) int64, and by name of the connection (R, T, H, W) or (R, H, W) float32; for maps
    over time also `sound` (R, T, K), which they were made from.
    Raises InputError where the file is damaged or other arrays stand in it.
    """
    try:
        path = tracker.artifact(trial.run_id, MAPS)
    except InputError:
        return []
    found = load_maps(path)
    rows, labels, sound = found.pop("row"), found.pop("label"), found.pop(SOUND, None)
    return [
        {
            "row": int(rows[i]),
            "label": names[int(labels[i])] if labels[i] < len(names) else str(labels[i]),
            "maps": [map_picture(name, series[i]) for name, series in found.items()],
            "dynamics": None
            if sound is None or sound.shape[1] < 2
            else dynamics_of({name: own[i] for name, own in found.items()}, sound[i]),
        }
        for i in range(min(len(rows), MOST_ROWS))
    ]


def load_maps(path: Path) -> dict[str, NDArray[Any]]:
    """`row`, `label` (R,), and each map as (R, T, H, W), T = 1 where it has no time."""
    found = read_npz(path, None)
    if not {"row", "label"} <= found.keys() or len(found) > MOST_MAPS:
        raise InputError(f"{path} must hold row, label and maps, {MOST_MAPS} arrays at most, has {len(found)}")
    rows, labels = (as_numbers(path, name, found.pop(name)) for name in ("row", "label"))
    for name, array in found.items():
        if max(array.shape[-2:], default=0) > WIDEST_MAP and name != SOUND:
            raise InputError(f"{path} must hold maps of at most {WIDEST_MAP} values a side, {name} is {array.shape}")
        fits = array.ndim in (3, 4) and array.size and rows.shape == labels.shape == array.shape[:1]
        if not fits or array.dtype.kind != "f" or not np.isfinite(array).all():
            said = f"{array.shape} {array.dtype} for rows {rows.shape} and labels {labels.shape}"
            raise InputError(f"{path} must hold finite maps (R, T, H, W) or (R, H, W), {name} is {said}")
    timed = {name: array[:, None] if array.ndim == 3 and name != SOUND else array for name, array in found.items()}
    return {"row": rows, "label": labels, **timed}


def dynamics_of(maps: Mapping[str, NDArray[np.float32]], sound: NDArray[np.float32]) -> dict[str, Any]:
    """How much each map, and the sound, changes from step to step, and how closely a map follows the sound."""
    heard = step_changes(sound)
    changes = {name: step_changes(frames) for name, frames in maps.items() if len(frames) == len(sound)}
    # What does not change follows nothing, nor does anything follow it.
    moving = {name: own for name, own in changes.items() if np.ptp(own) > 0 and np.ptp(heard) > 0}
    follows = {name: float(np.corrcoef(own, heard)[0, 1]) for name, own in moving.items()}
    return {"picture": dynamics({"sound": heard, **changes}), "follows": follows}


def map_picture(name: str, frames: NDArray[np.float32]) -> dict[str, Any]:
    """One map (T, H, W) of one row; over time, its deviation from its mean over the utterance."""
    frames = frames - frames.mean(axis=0) if len(frames) > 1 else frames
    steps = shown_steps(len(frames))
    return {
        "name": name,
        "steps": len(frames),
        "shown": len(steps),
        "shape": f"{frames.shape[1]} x {frames.shape[2]}",
        "top": f"{float(np.abs(frames).max()):.3g}",
        "lines": 1 if len(steps) <= 6 else 2,
        "picture": maps(frames),
    }

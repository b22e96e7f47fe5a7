"""How far the scores of a trial may be off, by what is one piece of evidence among its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.analysis.statistics import macro_f1_interval, share_interval


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Rows that a trial was scored on, none where it was not: validation or test.

    units: how many pieces of evidence they are, such as recordings, 0 where that is not known, as of answers
    that an earlier version wrote. intervals: by metric the 95 % one over these, of accuracy and macro-F1.
    """

    split: str
    rows: int = 0
    units: int = 0
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def scored(split: str, answers: Mapping[str, NDArray[Any]], seed: int) -> Scored:
    """What stored answers are of: label, prediction and, where it is known, unit (N,). seed: of the bootstrap."""
    label, prediction = answers["label"], answers["prediction"]
    if "unit" not in answers:
        return Scored(split=split, rows=len(label))
    unit, classes = answers["unit"], int(max(label.max(), prediction.max())) + 1
    intervals = {
        "accuracy": share_interval(label == prediction, unit),
        "macro_f1": macro_f1_interval(label, prediction, unit, classes, seed),
    }
    return Scored(split=split, rows=len(label), units=len(np.unique(unit)), intervals=intervals)

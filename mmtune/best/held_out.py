"""What a model is worth on rows that chose nothing, with intervals over what is independent among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmtune.analysis.statistics import macro_f1_interval, share_interval
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import independent
from mmtune.train.answers import read_answers
from mmtune.train.metrics import confusion, f1_per_class, macro_f1

MOST_CONFUSED = 5
Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Scores of N test rows. unit: what is independent among them, in words, of which there are `units`.

    accuracy, macro_f1: value, and the 95 % interval from low to high. weakest: (class, F1) below 1, the lowest first;
    confused: (true class, predicted class, rows), the most first. missed: the classes with test rows of which none is
    answered rightly; constant: the only class that is ever answered, "" where there are several.
    """

    rows: int
    unit: str
    units: int
    accuracy: tuple[float, float, float]
    macro_f1: tuple[float, float, float]
    weakest: Sequence[tuple[str, float]]
    confused: Sequence[tuple[str, str, int]]
    missed: Sequence[str]
    constant: str


def held_out(path: Path, dataset: Dataset, protocol: str, seed: int) -> HeldOut:
    """The scores of a trial's stored answers to the test partition."""
    stored = read_answers(path, ("label", "prediction"))
    return told_of(stored["label"], stored["prediction"], dataset, protocol, seed)


def told_of(label: Numbers, prediction: Numbers, dataset: Dataset, protocol: str, seed: int) -> HeldOut:
    """The scores of predictions (N,) of the test partition, whose classes are (N,). seed: of the bootstrap."""
    count = len(dataset.classes)
    unit, of_row = independent(dataset.require_test(), protocol, dataset.train)
    counts = confusion(torch.from_numpy(label), torch.from_numpy(prediction), count)
    f1, seen = f1_per_class(counts).numpy(), np.unique(label)
    weak = [own for own in seen[np.argsort(f1[seen], kind="stable")] if f1[own] < 1]
    wrong = counts.numpy() * ~np.eye(count, dtype=bool)
    order = np.argsort(-wrong, axis=None)[:MOST_CONFUSED]
    pairs = [divmod(int(place), count) for place in order if wrong.flat[place]]
    right = label == prediction
    return HeldOut(
        rows=len(label),
        unit=unit,
        units=int(of_row.max()) + 1,
        accuracy=(float(right.mean()), *share_interval(right, of_row)),
        macro_f1=(macro_f1(counts), *macro_f1_interval(label, prediction, of_row, count, seed)),
        weakest=[(dataset.classes[own], float(f1[own])) for own in weak[:MOST_CONFUSED]],
        missed=[dataset.classes[own] for own in seen if not counts[own, own]],
        constant=dataset.classes[prediction[0]] if len(np.unique(prediction)) == 1 else "",
        confused=[(dataset.classes[true], dataset.classes[said], int(wrong[true, said])) for true, said in pairs],
    )

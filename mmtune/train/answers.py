"""What a trial said of rows, read back from `validation.npz`, `held.npz` and `test.npz`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.checks import require_names
from mmtune.data.media.archives import read_npz

NUMBERS = ("row", "label", "prediction", "unit")
MOST_CLASSES = 4096  # a confusion matrix has their square


def read_answers(path: Path, names: Collection[str], optional: Collection[str] = ()) -> dict[str, NDArray[Any]]:
    """Arrays of such a file: row, label, prediction, unit (N,) int64, N >= 1; embedding (N, E) floats; and the
    names and widths of its parts (P,).

    names: those that must be there; optional: those that may be. Raises InputError where the file is missing or
    damaged, or an array is another.
    """
    found = read_npz(path, names, optional)
    for name in set(found).intersection(NUMBERS):
        found[name] = as_numbers(path, name, found[name])
    lengths = {len(found[name]) for name in (*NUMBERS, "embedding") if name in found}
    if len(lengths) != 1:
        raise InputError(f"{path} must have as many values of each kind, has {sorted(lengths)}")
    require_embedding(path, found)
    return found


def as_numbers(path: Path, name: str, array: NDArray[Any]) -> NDArray[np.int64]:
    """Whole numbers from 0 as int64; of classes, MOST_CLASSES at most."""
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
        raise InputError(f"{path} must hold {name} as whole numbers (N,), N >= 1, got {array.shape} {array.dtype}")
    most = MOST_CLASSES - 1 if name in ("label", "prediction") else 2**62
    if array.min() < 0 or array.max() > most:
        raise InputError(f"{path}: {name} must lie in 0..{most}, got {array.min()}..{array.max()}")
    return array.astype(np.int64)


def require_embedding(path: Path, found: Mapping[str, NDArray[Any]]) -> None:
    """Raise InputError unless an embedding, and what names its parts, have their shapes and types."""
    for name, axes, kinds in (("embedding", 2, "f"), ("parts", 1, "U"), ("widths", 1, "iu")):
        array = found.get(name)
        if array is not None and (array.ndim != axes or array.dtype.kind not in kinds):
            raise InputError(f"{path}: {name} must have {axes} axes, got {array.shape} {array.dtype}")
    if "parts" in found:
        require_names(found["parts"], f"{path}: parts")

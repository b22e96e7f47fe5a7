"""A test partition for sources that have none of their own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.base.rules import CLASSES
from mmtune.data.naming import WORDS

TEST_SHARE = 1 / 7  # as MNIST: one of seven


def drawn(labels: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """A seventh of every digit at random, at least one, (N,) bool."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for digit in range(CLASSES):
        rows = rng.permutation(np.flatnonzero(labels == digit))
        chosen[rows[: max(1, round(len(rows) * TEST_SHARE))]] = True
    return chosen


def require_digits(folder: Path, digits: Sequence[int], what: str) -> None:
    missing = sorted(set(range(CLASSES)) - set(digits))
    if missing:
        raise InputError(f"{folder}: every digit must have {what}, {missing[0]} ({WORDS[missing[0]]}) has none")

"""Digits by their names, and a test partition for sources that have none of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.base.rules import CLASSES

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAMES = {str(digit): digit for digit in range(CLASSES)} | {word: digit for digit, word in enumerate(WORDS)}
TEST_SHARE = 1 / 7  # as MNIST: one of seven


def folders(folder: Path) -> list[Path]:
    """The folders right in a folder, sorted, hidden ones left out."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def drawn(labels: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """A seventh of every digit at random, at least one, (N,) bool."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for digit in range(CLASSES):
        rows = rng.permutation(np.flatnonzero(labels == digit))
        chosen[rows[: max(1, round(len(rows) * TEST_SHARE))]] = True
    return chosen


def require_digits(where: Path | str, labels: NDArray[np.int64], what: str) -> None:
    missing = np.setdiff1d(np.arange(CLASSES), labels)
    if len(missing):
        raise InputError(f"{where}: every digit must have {what}, {missing[0]} ({WORDS[missing[0]]}) has none")

"""A test partition for sources that have none of their own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.dataset import Partition, Rows
from mmtune.data.protocols import CONTENT, DISJOINT, best_groups, label_of, units

TEST_SHARE = 1 / 7  # as MNIST: one of seven


def hold_out(partition: Partition, share: float, group: str, seed: int) -> NDArray[np.bool_]:
    """Rows for the test, (N,) bool: a share of every class, no equal content and, if named, no group on both sides."""
    if not 0 <= share < 1:
        raise InputError(f"the share of the test must be from 0 to less than 1, got {share:g}")
    if not share:
        return np.zeros(len(partition), bool)
    unit = units(partition, f"{DISJOINT}{group or CONTENT}")
    if group:
        return best_groups(unit, partition.labels, seed, share)
    chosen: NDArray[np.bool_] = drawn(label_of(unit, partition.labels), seed, share)[unit]
    return chosen


def drawn(labels: Rows, seed: int, share: float = TEST_SHARE) -> NDArray[np.bool_]:
    """A share of every class at random, at least one, (N,) bool."""
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(labels), bool)
    for label in range(int(labels.max()) + 1):
        rows = rng.permutation(np.flatnonzero(labels == label))
        chosen[rows[: max(1, round(len(rows) * share))]] = True
    return chosen

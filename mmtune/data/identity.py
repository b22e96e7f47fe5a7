"""What is the same: equal values, equal rows, and the rows that a protocol must not part. Identity is content."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.data.dataset import Bank, Partition, Rows

NUMBERS = 16
"""Vectors of fewer numbers are often equal by chance, such as an age and a sex: alone they are nobody's identity."""


def content_ids(values: Iterable[NDArray[Any]]) -> list[bytes]:
    """Of each value what tells it from all others of its bank."""
    return [hashlib.blake2b(np.ascontiguousarray(value).data, digest_size=16).digest() for value in values]


def distinct(values: NDArray[Any], present: NDArray[np.bool_] | None = None) -> Bank:
    """The bank of N rows that have these values (N, ...), equal ones kept once, in order of their first row.

    present (N,): which rows have one at all.
    """
    known: dict[bytes, int] = {}
    first: list[int] = []
    index = np.full(len(values), -1, np.int64)
    rows = np.arange(len(values)) if present is None else np.flatnonzero(present)
    for row, own in zip(rows.tolist(), content_ids(values[row] for row in rows), strict=True):
        if own not in known:
            known[own] = len(first)
            first.append(row)
        index[row] = known[own]
    kept = values if len(first) == len(values) else values[np.array(first, np.int64)]
    return Bank(values=kept, index=index)


def is_identity(bank: Bank) -> bool:
    """Whether rows with an equal value in a bank are samples of one thing."""
    shape = bank.values.shape[1:]
    return len(shape) > 1 or shape[0] >= NUMBERS


def shared(ours: Partition, theirs: Partition) -> NDArray[np.bool_]:
    """Which rows of `ours`, (N,) bool, have a picture, a sound or an array that a row of `theirs` has too."""
    found = np.zeros(len(ours), bool)
    for name, bank in ours.banks.items():
        other = theirs.banks[name]
        if not is_identity(bank):
            continue
        if bank.values is other.values:
            found |= (bank.index >= 0) & np.isin(bank.index, other.index)
            continue
        there = set(content_ids(other.values))
        common = np.array([own in there for own in content_ids(bank.values)] + [False])
        found |= common[bank.index]
    return found


def equal_rows(partition: Partition) -> Rows:
    """Of each row a number (N,) that rows share which are equal in all banks, by order of their first row."""
    columns = [bank.index for bank in partition.banks.values()]
    if any(len(np.unique(column)) == len(partition) for column in columns):
        return np.arange(len(partition))
    _, first, of_row = np.unique(np.stack(columns), axis=1, return_index=True, return_inverse=True)
    return in_order(first)[of_row.reshape(-1)]


def in_order(first: Rows) -> Rows:
    """What place each has if all are sorted by `first`."""
    place = np.empty(len(first), np.int64)
    place[np.argsort(first, kind="stable")] = np.arange(len(first))
    return place


def joined(partition: Partition, own: Sequence[Any] | NDArray[Any]) -> Rows:
    """Of each row a number (N,) that rows share which must stay together: those of one group, and of equal content.

    own (N,): the groups. Numbers follow the order of the groups' names.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    _, group = np.unique(np.asarray(own), return_inverse=True)
    links = [group]
    for bank in partition.banks.values():
        if is_identity(bank):
            links.append(np.where(bank.index >= 0, bank.index, len(bank.values) + np.arange(len(partition))))
    rows, width = np.arange(len(partition)), len(partition)
    targets: list[Rows] = []
    for link in links:
        _, compact = np.unique(link, return_inverse=True)
        targets.append(compact + width)
        width += int(compact.max(initial=-1)) + 1
    edges = np.ones(len(rows) * len(targets), np.int8)
    graph = coo_matrix((edges, (np.tile(rows, len(targets)), np.concatenate(targets))), shape=(width, width))
    _, part = connected_components(graph, directed=False)
    part = part[: len(rows)]
    _, of_row = np.unique(part, return_inverse=True)
    first = np.full(of_row.max(initial=-1) + 1, len(rows))
    np.minimum.at(first, of_row, group)
    return in_order(first)[of_row]

"""Training and test: by what a source says itself, or drawn; no content of the test is left in training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.building.sources import Source
from mmtune.data.checks import content_digest, require_classes_present
from mmtune.data.dataset import SPEAKER, Dataset, Partition
from mmtune.data.identity import shared
from mmtune.data.protocols import CONTENT, DISJOINT, are_together, best_groups, drawn, label_of, require_units, units

TEST_SHARE = 1 / 7  # as MNIST: one of seven


def divided(
    source: Source, other: Source | None, keep_apart: str, seed: int
) -> tuple[Partition, Partition, dict[str, Any]]:
    """The training and the test rows of a source, and what is recorded of that.

    other: another source that is to be the test. keep_apart: a group for which the test is drawn, whatever the source
    says. Training rows whose picture, sound or array is in the test are left out.
    Raises InputError where nothing can be drawn so, `keep_apart` names a group that is not known of every row, or
    members of it are in both sources.
    """
    if other is not None:
        train, test, rule = source.rows, other.rows, "another source"
        require_apart(train, test, keep_apart)
    else:
        mask, rule = source.test, "its own"
        if mask is None or keep_apart in source.rows.groups:
            mask, rule = draw(source.rows, keep_apart, seed)
            rule += "" if source.test is None else "; the split that the source has is not followed"
        train, test = (source.rows.take(np.flatnonzero(side)) for side in (~mask, mask))
    train, facts = without_copies(train, test, rule)
    return train, test, facts


def require_apart(train: Partition, test: Partition, group: str) -> None:
    """Raise InputError where a member of a group, if there is such a group, is or may be on both sides."""
    there = group in train.groups or group in test.groups
    for what, side in (("training", train), ("test", test)):
        if there and not side.known(group):
            raise InputError(f"{group} must be known of every row to be kept apart, of the {what} rows it is not")
    if there:
        both = np.intersect1d(train.groups[group], test.groups[group])
        if len(both):
            count = len(np.unique(test.groups[group]))
            raise InputError(
                f"training and test must have no {group} in common, {len(both)} of the test's {count} are in both, "
                f"such as {both[0]}"
            )


def without_copies(train: Partition, test: Partition, rule: str) -> tuple[Partition, dict[str, Any]]:
    """Training rows whose picture, sound or array is not in the test, and what is recorded of how both came about."""
    again = shared(train, test)
    train = train.take(np.flatnonzero(~again))
    return train, {"partition": rule, "train": len(train), "test": len(test), "left_out": int(again.sum())}


def with_test(dataset: Dataset, seed: int) -> Dataset:
    """A data set without a test partition, in memory, with a seventh of its rows drawn for one.

    What it keeps apart, or speakers, where they are known and say every class, are on one side only, as is equal
    content. InputError where nothing can be drawn.
    """
    mask, rule = draw(dataset.train, dataset.keep_apart, seed)
    train, test = (dataset.train.take(np.flatnonzero(side)) for side in (~mask, mask))
    train, facts = without_copies(train, test, rule)
    train, test = train.compact(), test.compact()
    for what, part in (("training rows", train), ("test rows", test)):
        require_classes_present(f"{dataset.name}, {what}", part.labels, dataset.classes, "rows")
    told, digest = {**dataset.provenance, **facts}, content_digest(dataset.classes, train, test)
    return replace(dataset, folder=Path(), train=train, test=test, provenance=told, digest=digest)


def draw(rows: Partition, keep_apart: str, seed: int) -> tuple[NDArray[np.bool_], str]:
    """A test drawn from rows, (N,) bool, and by what rule: nobody of a named group on both sides, and no speaker.

    Where speakers are not known, or do not say every class often enough, they are not kept apart.
    """
    if keep_apart in rows.groups:
        return hold_out(rows, TEST_SHARE, keep_apart, seed), f"drawn, no {keep_apart} on both sides, seed {seed}"
    # Speakers of equal content are as one: where all share some, nobody can be held out.
    if rows.known(SPEAKER) and units(rows, f"{DISJOINT}{SPEAKER}").max(initial=0) > 0:
        mask = hold_out(rows, TEST_SHARE, SPEAKER, seed)
        if all(len(np.unique(rows.labels[side])) == len(np.unique(rows.labels)) for side in (mask, ~mask)):
            return mask, f"drawn, no {SPEAKER} on both sides, seed {seed}"
    return hold_out(rows, TEST_SHARE, "", seed), f"drawn, no equal content on both sides, seed {seed}"


def hold_out(partition: Partition, share: float, group: str, seed: int) -> NDArray[np.bool_]:
    """Rows for the test, (N,) bool: a share of every class, no equal content and, if named, no group on both sides."""
    if not 0 <= share < 1:
        raise InputError(f"the share of the test must be from 0 to less than 1, got {share:g}")
    if not share:
        return np.zeros(len(partition), bool)
    protocol = f"{DISJOINT}{group or CONTENT}"
    unit = units(partition, protocol)
    if are_together(unit, partition.labels, protocol, 2):
        require_units(partition, protocol, unit, 2)
        return best_groups(unit, partition.labels, seed, share)
    chosen: NDArray[np.bool_] = drawn(label_of(unit, partition.labels), seed, share)[unit]
    return chosen

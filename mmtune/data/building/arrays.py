"""A data set from arrays in memory."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.base.rules import require_count
from mmtune.data.building.drawing import TEST_SHARE, hold_out, require_apart, without_copies
from mmtune.data.checks import (
    check_partition,
    content_digest,
    require_bank_names,
    require_classes,
    require_classes_present,
    require_group_names,
    require_name,
)
from mmtune.data.classes import ordered
from mmtune.data.dataset import Bank, Dataset, Names, Partition, Rows
from mmtune.data.forms import Form, Ready
from mmtune.data.identity import distinct

COLOURS = (1, 3, 4)
SHORTEST = 1_600
"""Samples of a sound; a shorter row of whole numbers is a vector."""
LOG = logging.getLogger("mmtune")


def from_arrays(
    *,
    labels: Sequence[Any] | NDArray[Any],
    groups: Mapping[str, Sequence[Any]] | None = None,
    name: str = "arrays",
    test: Sequence[bool] | NDArray[np.bool_] | float = TEST_SHARE,
    keep_apart: str = "",
    forms: Mapping[str, Form] | None = None,
    seed: int = 0,
    **banks: NDArray[Any],
) -> Dataset:
    """A data set in memory from banks by name, (N, ...) each, and a label for each row: a number or a name.

    (N,) are one number a row, uint8 (N, H, W) or (N, C, H, W) pictures, int16 (N, samples) waveforms at 16 kHz of a
    tenth of a second or more; all other numbers become float32. A row that is all NaN in a bank has nothing there.
    groups: by name a text for each row, such as a speaker, None where it is not known.
    test: which rows are for the test (N,), whose pictures, sounds and arrays are left out of training; or what share
    of them is drawn, every class in proportion and no content on both sides. keep_apart: the group that is on one side
    only, of the test as of a study's usual split.
    `mmtune.run` keeps it beside its runs, `mmtune.data.save` in a folder of your choice.
    Raises InputError where shapes do not agree.
    """
    require_name(name, "name")
    require_bank_names(list(banks), "from_arrays")
    require_group_names(list(groups or {}), "from_arrays")
    require_count("seed", seed, 0)
    classes, numbers = numbered(labels)
    rows = len(numbers)
    made = {bank: bank_of(bank, values, rows) for bank, values in banks.items()}
    own = {group: members(group, texts) for group, texts in (groups or {}).items()}
    whole = Partition(banks=made, labels=numbers, groups=own)
    known = {bank: (forms or {}).get(bank, ready(own)) for bank, own in made.items()}
    check_partition(whole, known, classes, name)
    if keep_apart:
        require_known(whole, keep_apart)
    mask = hold_out(whole, float(test), keep_apart, seed) if isinstance(test, float | int) else np.asarray(test, bool)
    if mask.shape != (rows,):
        raise InputError(f"test must say of each of {rows} rows whether it is for the test, got shape {mask.shape}")
    train, held = (whole.take(np.flatnonzero(side)) for side in (~mask, mask))
    require_apart(train, held, keep_apart)
    train, facts = without_copies(train, held, "given")
    if facts["left_out"]:
        LOG.warning("%s: %s training rows are left out, as the test has their content", name, facts["left_out"])
    train, held = train.compact(), held.compact()
    parts = [train, held] if len(held) else [train]
    for what, part in zip(("training rows", "test rows"), parts, strict=False):
        require_classes_present(f"{name}, {what}", part.labels, classes, "rows")
    return Dataset(
        name=name,
        folder=Path(),
        classes=classes,
        forms=known,
        train=train,
        test=held if len(held) else None,
        digest=content_digest(classes, *parts),
        provenance={"source": "arrays in memory", "seed": seed},
        keep_apart=keep_apart,
    )


def require_known(whole: Partition, group: str) -> None:
    """Raise InputError unless it is a group of which every row is known."""
    if not whole.known(group):
        there = ", ".join(own for own in whole.groups if whole.known(own)) or "none"
        raise InputError(f"keep_apart must be a group that is known of every row ({there}), got {group!r:.80}")


def members(group: str, texts: Sequence[Any]) -> Names:
    """The member of a group that each row is, (N,) str, "" where it is not known."""
    if isinstance(texts, str) or not isinstance(texts, Iterable):
        raise InputError(f"groups: {group} must have a text for each row, got {texts!r:.80}")
    return np.array(["" if is_missing(one) else str(one) for one in texts])


def is_missing(value: object) -> bool:
    """Whether a value is None, not a number, or what pandas has for one that is not there."""
    try:
        return value is None or bool(value != value)
    except (TypeError, ValueError):  # pandas' NA is neither equal to itself nor not
        return True


def as_array(what: str, given: Any) -> NDArray[Any]:
    """An array of what is one; InputError where rows differ in shape, or a mask hides some, which would be used."""
    if isinstance(given, np.ma.MaskedArray):
        raise InputError(f"{what} must be an array without a mask, as what is hidden would be used")
    try:
        return np.asarray(given)
    except ValueError as error:
        raise InputError(f"{what} must be an array, its rows differ: {error}") from error


def numbered(labels: Sequence[Any] | NDArray[Any]) -> tuple[tuple[str, ...], Rows]:
    """The names of the classes, sorted (numbers as numbers), and the class of each row (N,)."""
    # Before it is an array, in which a missing one may be a name.
    for row, label in enumerate(labels if isinstance(labels, Iterable) else ()):
        if is_missing(label):
            raise InputError(f"labels must say a class for every row, row {row} has {label}")
    given = as_array("labels", labels)
    if given.ndim != 1 or not len(given) or given.dtype.kind not in "iubUO":
        raise InputError(f"labels must be whole numbers or names (N,), got {given.shape} {given.dtype}")
    found, index = np.unique(given.astype(str) if given.dtype.kind == "O" else given, return_inverse=True)
    names = tuple(map(str, found.tolist()))
    classes = ordered(names) if given.dtype.kind in "UO" else names
    require_classes(classes, "labels")
    return classes, np.array([classes.index(name) for name in names], np.int64)[index]


def bank_of(name: str, values: NDArray[Any], rows: int) -> Bank:
    """A bank of N rows; those that are all NaN have nothing in it."""
    given = as_array(name, values)
    given = given[:, None] if given.ndim == 1 else given
    if given.ndim < 2 or len(given) != rows or given.dtype.kind not in "fiub":
        raise InputError(f"{name} must be numbers ({rows}, ...), got {given.shape} {given.dtype}")
    if given.dtype == np.uint8 and given.ndim == 4 and given.shape[3] in COLOURS and given.shape[1] not in COLOURS:
        raise InputError(f"{name} must be pictures (N, C, H, W), got {given.shape}: move the channels to the front")
    # A copy, in this machine's order of bytes: what the caller does with theirs is not to change the data set.
    if (given.dtype == np.uint8 and given.ndim > 2) or is_sound(given):
        return distinct(given.astype(given.dtype.newbyteorder("=")))
    with np.errstate(over="ignore"):
        numbers = given.astype(np.float32)
    present = np.asarray(~np.isnan(numbers).reshape(rows, -1).all(axis=1))
    return distinct(numbers + np.float32(0), present)  # -0.0 and 0.0 are one value


def is_sound(given: NDArray[Any]) -> bool:
    """Whether an array is of waveforms."""
    return given.ndim == 2 and given.dtype.newbyteorder("=") == np.int16 and given.shape[1] >= SHORTEST


def ready(bank: Bank) -> Form:
    """What the values of an array are."""
    return Ready(sides=bank.values.shape[1:], of=str(bank.values.dtype))

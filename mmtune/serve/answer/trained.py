"""Which values a model was trained or chosen on, so that nobody takes a score of these for one of new rows.

A value is known by 64 bits of a digest of its content. Values of few numbers are often equal by chance
(`mmtune.data.identity`): where a row has nothing else, all of it together is looked for, unless training's own rows are
often equal.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from mmtune.base.bounds import MEBIBYTE, inside, read_bounded
from mmtune.base.errors import InputError
from mmtune.base.files import write_whole
from mmtune.data.dataset import Partition
from mmtune.data.identity import content_ids, is_identity
from mmtune.networks.vectors import TOGETHER

Ids = NDArray[np.int64]
Trained = Mapping[str, Ids]
"""By bank, or TOGETHER, the numbers (K,) of the values, in order, each once; {} where they are not known."""
Present = Mapping[str, NDArray[np.bool_]]
FILE, MOST_BYTES, WIDTH = "trained.safetensors", 512 * MEBIBYTE, 8
DIFFERENT = 0.99
"""So large a share of rows of few numbers must differ from each other, for equal ones to say anything."""


def trained_on(rows: Partition, reads: Iterable[str]) -> Trained:
    """What a model that reads some banks was trained and chosen on, where these rows were all."""
    banks = {name: rows.banks[name] for name in reads}
    used = {name: np.unique(bank.index[bank.index >= 0]) for name, bank in banks.items() if is_identity(bank)}
    found = {name: np.unique(ids(banks[name].values[place] for place in own)) for name, own in used.items()}
    lacking = np.ones(len(rows), np.bool_)
    for name in used:
        lacking &= banks[name].index < 0
    if lacking.any():
        part = rows.take(np.flatnonzero(lacking))
        values = {name: part.banks[name].of_rows(np.arange(len(part))) for name in banks}
        there = {name: part.banks[name].index >= 0 for name in banks}
        whole = np.unique(of_whole_rows(values, there, banks))
        found |= {TOGETHER: whole} if len(whole) >= DIFFERENT * len(part) else {}
    return found


def again(
    trained: Trained, values: Mapping[str, NDArray[Any]], there: Present, reads: Collection[str]
) -> dict[str, NDArray[np.bool_]]:
    """Which rows (B,) of `values` (B, *shape) have one of those, by bank that is given, or TOGETHER.

    there (B,): by bank which rows have a value, all if not given. reads: the banks of the model.
    """
    given = [name for name in trained if name in values]
    found = {name: np.isin(ids(values[name]), trained[name]) & there.get(name, True) for name in given}
    if TOGETHER in trained:
        # Of rows that have another of these the numbers are others, as the training rows had none.
        found[TOGETHER] = np.isin(of_whole_rows(values, there, reads), trained[TOGETHER])
    return found


def ids(values: Iterable[NDArray[Any]]) -> Ids:
    """A number for each value, the same for equal ones."""
    return np.frombuffer(b"".join(own[:WIDTH] for own in content_ids(values)), np.int64)


def of_whole_rows(values: Mapping[str, NDArray[Any]], there: Present, reads: Collection[str]) -> Ids:
    """A number (B,) for all values of each row together; a bank that is not given is one that the row lacks."""
    rows = np.full((len(next(iter(values.values()))), len(reads)), -1, np.int64)
    for place, name in enumerate(sorted(reads)):
        if name in values:
            rows[:, place] = np.where(there.get(name, True), ids(values[name]), -1)
    return ids(rows)


def save_trained(folder: Path, trained: Trained) -> str:
    """Write them into `folder`, and say what SHA-256 the file has; "" where there is nothing to write."""
    if not trained:
        return ""
    content = save(dict(trained))
    write_whole(folder / FILE, content)
    return hashlib.sha256(content).hexdigest()


def load_trained(folder: Path, digest: object, banks: Collection[str]) -> Trained:
    """The inverse of `save_trained`; InputError where the file is missing, changed, or of other banks."""
    if not digest:
        return {}
    path = inside(folder, FILE)
    content = read_bounded(path, MOST_BYTES)
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise InputError(f"{path} must have SHA-256 {digest!r:.80}, got {found}")
    try:
        arrays = load(content)
    except Exception as error:  # a header may name types that numpy has not
        raise InputError(f"{path} must hold arrays as safetensors: {error}") from error
    for name, own in arrays.items():
        if name not in {*banks, TOGETHER} or own.dtype != np.int64 or own.ndim != 1:
            raise InputError(
                f"{path} must have int64 (K,) of {', '.join(banks)}, got {own.dtype} {own.shape} of {name!r:.80}"
            )
    return arrays

"""The canonical data set that every source becomes and every consumer reads: banks by name, labels, groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.forms import Form

Progress = Callable[[str, int, int], None]
"""Told (what, done, total) while something long is under way."""
Names = NDArray[np.str_]
Rows = NDArray[np.int64]
RECORDING, SPEAKER = "recording", "speaker"
TRAIN, TEST = "train", "test"


def quiet(what: str, done: int, total: int) -> None:
    """A Progress that nobody sees."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Bank:
    """One modality of N rows, which share what is equal: row i has values[index[i]], or nothing where that is -1.

    values (M, ...): pictures uint8, sounds int16, anything else float32, no two of them equal; index (N,) int64.
    """

    values: NDArray[Any]
    index: Rows

    def of_rows(self, rows: Rows) -> NDArray[Any]:
        """The values of some rows, zeros where a row has none."""
        index = self.index[rows]
        if not len(self.values):
            return np.zeros((len(rows), *self.values.shape[1:]), self.values.dtype)
        found: NDArray[Any] = self.values[np.maximum(index, 0)]
        found[index < 0] = 0
        return found

    def compact(self) -> Bank:
        """The same rows over those values alone that they use, in their order."""
        kept, index = np.unique(self.index, return_inverse=True)
        missing = int(len(kept) > 0 and kept[0] < 0)
        used, index = kept[missing:], index.astype(np.int64) - missing
        together = len(used) > 0 and used[-1] - used[0] + 1 == len(used)
        return Bank(values=self.values[used[0] : used[-1] + 1] if together else self.values[used], index=index)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Partition:
    """N rows: what each has in every bank, its label (N,) int64 in 0..C-1, and its groups (N,) str, "" if unknown.

    groups: what protocols may keep apart, such as the recording, the speaker, the patient.
    """

    banks: Mapping[str, Bank]
    labels: Rows
    groups: Mapping[str, Names]

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        banks = (f"{name} {bank.values.shape[1:]} {bank.values.dtype}" for name, bank in self.banks.items())
        return f"Partition({len(self)} rows: {', '.join(banks)})"

    def take(self, rows: Rows) -> Partition:
        """Some rows, in the given order, over the same values."""
        return replace(
            self,
            banks={name: replace(bank, index=bank.index[rows]) for name, bank in self.banks.items()},
            labels=self.labels[rows],
            groups={name: own[rows] for name, own in self.groups.items()},
        )

    def compact(self) -> Partition:
        """The same rows over those values alone that they use."""
        return replace(self, banks={name: bank.compact() for name, bank in self.banks.items()})

    def known(self, group: str) -> bool:
        """Whether the group of every row is known."""
        return group in self.groups and bool(np.all(self.groups[group] != ""))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Dataset:
    """A training and a test partition, where they lie, and what they were made from.

    classes: the names of the labels. forms: by bank, what its values are and how a file becomes one.
    test: None where there is none, as for sequences, whose test are the folds that are held out.
    digest: SHA-256 over the content of both partitions, independent of how the files store it.
    keep_apart: the group that a study's usual split keeps apart, as a test that was drawn; "" for none.
    """

    name: str
    folder: Path
    classes: tuple[str, ...]
    forms: Mapping[str, Form]
    train: Partition
    test: Partition | None
    digest: str
    provenance: Mapping[str, Any]
    keep_apart: str = ""

    def __repr__(self) -> str:
        sizes = " + ".join(f"{len(rows)} {name}" for name, rows in self.partitions.items())
        banks = ", ".join(f"{name} {form.kind} {form.shape}" for name, form in self.forms.items())
        return f"Dataset({self.name}: {sizes} rows of {len(self.classes)} classes; {banks})"

    @property
    def partitions(self) -> dict[str, Partition]:
        """The partitions there are, by name."""
        return {TRAIN: self.train} | ({} if self.test is None else {TEST: self.test})

    def require_test(self) -> Partition:
        """The test partition; InputError where there is none."""
        if self.test is None:
            raise InputError(f"{self.name} must have a test partition for this, it has none: its folds are its test")
        return self.test

"""A partition as tensors that stay where training happens; a batch is an index into them."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmtune.data.checks import require_banks
from mmtune.data.dataset import Bank, Partition
from mmtune.data.protocols import independent
from mmtune.networks.shapes import Shapes, shapes_of

LOUDEST = 32768.0
GPU_SHARE = 0.5
"""Of a GPU's free memory one bank may take, or it stays with the host."""


@dataclass(frozen=True, eq=False)
class Held:
    """A bank as tensors: values (M, ...), and of each row which one (N,); gaps: whether some have none, which is -1.

    nothing: (1, ...), what a row is given that goes without it, if that is not zeros.
    """

    values: Tensor
    index: Tensor
    gaps: bool = False
    nothing: Tensor | None = None

    def take(self, rows: Tensor) -> Tensor:
        """The values of rows (B,), where the index is."""
        places = self.index[rows]
        used = places.clamp(min=0) if self.gaps else places
        found = self.values[used.to(self.values.device)].to(places.device, non_blocking=True)
        return found * (places >= 0).view(-1, *[1] * (found.ndim - 1)) if self.gaps else found


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """N rows over the banks that a network reads; labels (N,) int64. shapes: what a network for them is sized from."""

    banks: Mapping[str, Held]
    labels: Tensor
    shapes: Shapes

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> Rows:
        """The given rows, in the given order, over the same values."""
        banks = {name: replace(held, index=held.index[rows]) for name, held in self.banks.items()}
        return replace(self, banks=banks, labels=self.labels[rows])

    def batch(self, rows: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """What a network is given of rows (B,), by bank, and their labels."""
        return {name: as_input(held.take(rows)) for name, held in self.banks.items()}, self.labels[rows]

    def absent(self, rows: Tensor) -> dict[str, Tensor]:
        """By bank in which rows may have no value, which of rows (B,) have none, (B,) bool.

        Not what their values say: zeros may be a value.
        """
        known = {name: held for name, held in self.banks.items() if held.gaps or held.nothing is not None}
        return {name: held.index[rows] < 0 for name, held in known.items()}

    @property
    def whole(self) -> bool:
        """Whether all banks lie where the labels do."""
        return all(held.values.device == self.labels.device for held in self.banks.values())


class Training(Mapping[str, tuple[Tensor, Tensor]]):
    """By bank, the distinct values (m, ...) of rows as a network gets them, and how many rows use each (m,)."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def __getitem__(self, bank: str) -> tuple[Tensor, Tensor]:
        held = self.rows.banks[bank]
        used, counts = torch.unique(held.index[held.index >= 0], return_counts=True)
        return as_input(held.values[used.to(held.values.device)]).to(counts.device), counts

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows.banks)

    def __len__(self) -> int:
        return len(self.rows.banks)


def as_input(values: Tensor) -> Tensor:
    """Pictures as float32 in [0, 1], one in grey (B, H, W) as (B, 1, H, W); 16-bit samples in [-1, 1)."""
    if values.dtype == torch.int16:
        return values.float().div_(LOUDEST)
    if values.dtype != torch.uint8:
        return values
    return (values.unsqueeze(1) if values.ndim == 3 else values).float().div_(255)


class Resident:
    """A partition whose banks are put on `device` when they are first needed, and stay there.

    One that does not fit a GPU stays in the host's memory, or on its disk. classes: how many there are. missing: banks
    in which rows may have no value.
    """

    def __init__(self, partition: Partition, classes: int, device: torch.device, missing: Sequence[str] = ()) -> None:
        self.partition, self.device, self.missing = partition, device, missing
        self.shapes = shapes_of(partition, classes)
        self.labels = tensor_of(partition.labels).to(device)
        self.held: dict[str, Held] = {}
        self.evidence: dict[str, NDArray[np.int64]] = {}
        self.lock = threading.Lock()

    def bank(self, name: str) -> Held:
        """A bank of the partition."""
        with self.lock:
            if name not in self.held:
                self.held[name] = hold(self.partition.banks[name], self.device)
            return self.held[name]

    def units(self, protocol: str) -> NDArray[np.int64]:
        """What is one piece of evidence among the rows under a protocol, (N,): see `independent`."""
        if protocol not in self.evidence:
            self.evidence[protocol] = independent(self.partition, protocol)[1]
        return self.evidence[protocol]

    def rows(self, reads: Sequence[str]) -> Rows:
        """All rows, with the banks that a network reads; InputError where the partition lacks one."""
        require_banks(self.partition, reads, self.missing)
        return Rows(banks={name: self.bank(name) for name in reads}, labels=self.labels, shapes=self.shapes)


def tensor_of(array: NDArray[Any]) -> Tensor:
    """An array as a tensor over the same memory, which nobody writes to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def hold(bank: Bank, device: torch.device) -> Held:
    """A bank as tensors, on the device if they fit."""
    values, index = tensor_of(bank.values), tensor_of(bank.index)
    if not len(values):
        # What every row's gap is read from.
        values = values.new_zeros((1, *values.shape[1:]))
    if device.type != "cuda" or values.nbytes <= GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
        values = values.to(device)
    return Held(values, index.to(device), bool((index < 0).any()))


def rows_of(partition: Partition, classes: int, reads: Sequence[str], missing: Sequence[str] = ()) -> Rows:
    """`Resident.rows` of a partition that is needed once, on the CPU."""
    return Resident(partition, classes, torch.device("cpu"), missing).rows(reads)


def batch_sizes(count: int, size: int) -> list[int]:
    """How `count` rows are divided into batches of `size`.

    A last batch of a single row joins the one before it, because batch norm has no variance to divide by.
    """
    sizes = [size] * (count // size) + ([count % size] if count % size else [])
    if len(sizes) > 1 and sizes[-1] == 1:
        sizes[-2:] = [size + 1]
    return sizes

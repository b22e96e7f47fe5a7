"""What is familiar of each bank to a trained network: its vectors of distinct training values."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mmtune.data.dataset import Progress, quiet
from mmtune.data.dataset import Rows as RowNumbers
from mmtune.networks.vectors import TOGETHER, bank_vector, bank_vectors
from mmtune.train.batches import Rows
from mmtune.train.device import evaluation_batch
from mmtune.train.familiarity import MOST_VALUES, NEIGHBOUR, Familiarity, Vectors, apart, fewer, fit_familiarity


def familiar_banks(
    model: nn.Module,
    rows: Rows,
    train: RowNumbers,
    validation: RowNumbers,
    seed: int,
    advance: Progress = quiet,
) -> dict[str, Familiarity]:
    """By bank, and for a network whose banks are not to be told apart as TOGETHER, its Familiarity.

    rows: all of a partition, of which train and validation are numbers. A bank is left out where fewer than
    NEIGHBOUR + 2 distinct values are there to learn from: nothing can then be said of it. The model is put in eval mode
    and back.
    """
    was_training = model.training
    model.eval()
    found = {}
    for name in bank_vectors(model, rows.batch(torch.from_numpy(train[:1]).to(rows.labels.device))[0]):
        known, checks = rows_apart(rows, name, train, validation, seed)
        if len(known) > NEIGHBOUR and len(checks):
            training, checking = (vectors_at(model, rows, numbers, name, advance) for numbers in (known, checks))
            found[name] = fit_familiarity(training, checking, seed=seed)
    model.train(was_training)
    return found


def rows_apart(
    rows: Rows, name: str, train: RowNumbers, validation: RowNumbers, seed: int
) -> tuple[RowNumbers, RowNumbers]:
    """One row for each distinct value of a bank to compare with, and for others to check, MOST_VALUES at most."""
    numbers = np.concatenate([train, validation])
    index = numbers if name == TOGETHER else rows.banks[name].index.cpu().numpy()[numbers]
    known, checks = apart(index[: len(train)], index[len(train) :], seed)
    values, first = np.unique(index, return_index=True)
    drawn = np.random.default_rng(seed)
    known, checks = (np.sort(drawn.permutation(own)[:MOST_VALUES]) for own in (known, checks))
    return numbers[first[np.searchsorted(values, known)]], numbers[first[np.searchsorted(values, checks)]]


def vectors_at(
    model: nn.Module, rows: Rows, numbers: NDArray[np.int64], name: str, advance: Progress = quiet
) -> Vectors:
    """What a model in eval mode makes of a bank in some rows (B,), (B, F) float32, as short as it is kept."""
    index = torch.from_numpy(numbers).to(rows.labels.device)
    found, done = [], 0
    for part in index.split(evaluation_batch(index.device)):
        advance(f"what is usual of {name}", done, len(index))
        found.append(fewer(bank_vector(model, rows.batch(part)[0], name).float().cpu().numpy()))
        done += len(part)
    advance(f"what is usual of {name}", done, len(index))
    return np.concatenate(found)

"""Batches changed at random while a model is trained: banks augmented, rows mixed, banks made outliers or left out.

All draw from the default generator of the tensors' device, so that a seed repeats and a checkpoint goes on, and none
waits for the device, so that a CUDA graph can hold them. Tensors that come in are never changed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Gamma

from mmtune.base.errors import InputError
from mmtune.train.augmentations import Augmentation
from mmtune.train.batches import Rows, Training, as_input
from mmtune.train.distort import Distort, per_row
from mmtune.train.outliers import outliers
from mmtune.train.recipe import Train


class Others(NamedTuple):
    """The labels (B,) of the rows that a batch is mixed with, and the share () of itself that is left."""

    labels: Tensor
    share: Tensor


class Changed(NamedTuple):
    """A batch by bank as a model is to see it.

    others: what it is mixed with. lost: by bank, (B,) bool, which rows' values say nothing of their class any more.
    """

    inputs: dict[str, Tensor]
    others: Others | None = None
    lost: Mapping[str, Tensor] = {}


Change = Callable[[dict[str, Tensor], Tensor, Mapping[str, Tensor]], Changed]
"""What is done to a batch by bank, whose labels are (B,) int64, before a model sees it; of which of its rows have no
value, see `Rows.absent`."""


def unchanged(inputs: dict[str, Tensor], labels: Tensor, absent: Mapping[str, Tensor]) -> Changed:
    """A batch as it is."""
    return Changed(inputs)


def change_of(recipe: Train, rows: Rows) -> Change:
    """All that a recipe does to batches of rows, one after the other. InputError where it cannot."""
    if not (recipe.augment or recipe.modality_dropout or recipe.mixup or recipe.outliers):
        return unchanged
    augmented = augmenter(recipe.augment, rows)
    nothing = {bank: held.nothing for bank, held in rows.banks.items() if held.nothing is not None}

    def change(inputs: dict[str, Tensor], labels: Tensor, absent: Mapping[str, Tensor]) -> Changed:
        inputs, others = augmented(inputs, absent), None
        lost: dict[str, Tensor] = {}
        if recipe.mixup:
            inputs, others = mixed(inputs, labels, recipe.mixup)
            absent = {bank: own & own.roll(1) for bank, own in absent.items()}
        if recipe.outliers:
            inputs, lost = exposed(inputs, recipe.outliers, absent)
        # Last, so that what a row goes without is nothing.
        if recipe.modality_dropout:
            inputs, without = dropped(inputs, recipe.modality_dropout, absent, nothing)
            lost = {bank: own | without[bank] for bank, own in lost.items()}
        return Changed(inputs, others, lost)

    return change


Augmenter = Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], dict[str, Tensor]]


def augmenter(augment: Mapping[str, Augmentation], rows: Rows) -> Augmenter:
    """A function from a batch by bank, as `rows` gives it, to the same with the named banks changed.

    Rows that have no value of a bank, as it is told, keep their zeros. One that only another option of the network
    reads is left out. InputError where a bank is none for its augmentation.
    """
    made = {bank: of_bank(own, bank, rows) for bank, own in augment.items() if bank in rows.banks}

    def augmented(inputs: Mapping[str, Tensor], absent: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = dict(inputs)
        for bank, distort in made.items():
            values = inputs[bank]
            changed = distort(values)
            found[bank] = torch.where(per_row(absent[bank], values), values, changed) if bank in absent else changed
        return found

    return augmented


def of_bank(own: Augmentation, bank: str, rows: Rows) -> Distort:
    """What an augmentation does to a bank of rows; InputError, naming the bank, where it cannot."""
    held = rows.banks[bank]
    try:
        return own.build(tuple(as_input(held.values[:1]).shape[1:]), lambda: Training(rows)[bank][0])
    except InputError as error:
        raise InputError(f"augment.{bank}: {error}") from error


def mixed(inputs: Mapping[str, Tensor], labels: Tensor, alpha: float) -> tuple[dict[str, Tensor], Others]:
    """Mixup (Zhang et al., "mixup: beyond empirical risk minimization", 2018): each row mixed with another.

    inputs: by bank (B, ...); labels (B,). Returns share * own + (1 - share) * other of all banks, and the others; the
    share is in [.5, 1], of Beta(alpha, alpha) and the same for the batch as in the paper; alpha > 0. The
    other one is the row before, as rows come in random order. A value that is missing is mixed as the zeros that it is;
    of sequences of two lengths the padding is where both have it.
    """
    share = larger_share(alpha, labels.device)
    made = {bank: values.roll(1, 0).lerp(values, share) for bank, values in inputs.items()}
    return made, Others(labels.roll(1), share)


def larger_share(alpha: float, device: torch.device) -> Tensor:
    """() float32, the larger of a number drawn from Beta(alpha, alpha) and what it lacks of 1.

    It is two numbers of Gamma(alpha) in proportion, by their logarithms: each is one of Gamma(alpha + 1) times
    U^(1 / alpha), which a small alpha makes less than any float32.
    """
    ones = torch.ones(2, device=device)
    grown = Gamma(ones * (alpha + 1), ones, validate_args=False).sample()
    logs = grown.log() + (1 - torch.rand(2, device=device)).log() / alpha
    return (logs[0] - logs[1]).abs().sigmoid()


def exposed(
    inputs: Mapping[str, Tensor], rate: float, absent: Mapping[str, Tensor] = {}
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Banks (B, ...) with an outlier in each row with probability `rate`, each bank its own, mixed with the row before.

    Returned too: by bank which rows (B,) say nothing of their class any more, those that are `absent`, as they have no
    value, among them. The same number is made of every batch of a size, of which one may then not be used.
    """
    found, lost = dict(inputs), {}
    for bank, values in inputs.items():
        count = len(values)
        some = math.ceil(rate * count)
        rows = torch.rand(count, device=values.device).argsort()[:some]
        used = torch.rand(some, device=values.device) * some < rate * count
        made = outliers(values[rows], values.roll(1, 0)[rows])
        found[bank] = values.index_copy(0, rows, torch.where(per_row(used, made), made, values[rows]))
        differ = (found[bank] != values).flatten(1).any(1)
        lost[bank] = differ | absent[bank] if bank in absent else differ
    return found, lost


def dropped(
    inputs: Mapping[str, Tensor], rate: float, absent: Mapping[str, Tensor] = {}, nothing: Mapping[str, Tensor] = {}
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Modality dropout (Neverova et al., "ModDrop", 2016): each row of banks (B, ...) loses some, which are zeros then,
    or what `nothing` has (1, ...) by bank.

    It loses each bank with probability `rate`, but where it would lose all that it has it keeps one of them, each as
    likely. Returned too: by bank which (B,), those that are `absent`, as they have no value, among them.
    """
    some = next(iter(inputs.values()))
    drawn = torch.rand(len(some), len(inputs), device=some.device)
    for place, bank in enumerate(inputs):
        if bank in absent:
            drawn[:, place].masked_fill_(absent[bank], -1)
    kept = (drawn >= rate) | (drawn == drawn.amax(1, keepdim=True))
    by_bank = dict(zip(inputs, kept.T, strict=True))
    gone = {bank: nothing.get(bank, torch.zeros_like(values[:1])) for bank, values in inputs.items()}
    found = {bank: torch.where(per_row(by_bank[bank], values), values, gone[bank]) for bank, values in inputs.items()}
    return found, {bank: ~own for bank, own in by_bank.items()}

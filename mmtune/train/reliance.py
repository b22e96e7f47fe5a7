"""What a network relies on: how much of its accuracy each of the banks that it reads makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import combinations

import torch
from torch import nn

from mmtune.analysis.embeddings import sample_rows
from mmtune.train.batches import Rows
from mmtune.train.evaluate import evaluate
from mmtune.train.metrics import accuracy

SEED = 0
"""Of every epoch and every trial, so that all meet the same strangers."""


def reliance(model: nn.Module, rows: Rows, most: int) -> dict[str, float]:
    """By bank its Shapley value (1953) of the accuracy over at most so many rows.

    A bank that is left out has the values of other rows, drawn at random, so that what it says is of no use and looks
    as it always does. Together they are the accuracy less what is left without any.
    """
    device = rows.labels.device
    chosen = torch.from_numpy(sample_rows(len(rows), most, SEED)).to(device)
    some = rows.take(chosen)
    order = torch.randperm(len(some), generator=torch.Generator().manual_seed(SEED)).to(device)
    strange = some.take(order)

    def worth(banks: Collection[str]) -> float:
        held = {bank: own if bank in banks else strange.banks[bank] for bank, own in some.banks.items()}
        return accuracy(evaluate(model, replace(some, banks=held)).counts)

    return shapley(list(some.banks), worth)


def shapley(players: Sequence[str], worth: Callable[[Collection[str]], float]) -> dict[str, float]:
    """Each player's mean gain over all orders in which they might join; 2 ** n sets are asked what they are worth."""
    sets = [frozenset(own) for size in range(len(players) + 1) for own in combinations(players, size)]
    known = {own: worth(own) for own in sets}

    def share(size: int) -> float:
        return math.factorial(size) * math.factorial(len(players) - 1 - size) / math.factorial(len(players))

    return {
        player: sum(share(len(own)) * (known[own | {player}] - known[own]) for own in sets if player not in own)
        for player in players
    }

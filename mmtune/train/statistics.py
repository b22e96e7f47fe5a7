"""Statistics of batch norms made anew, as the weights of now make them of the training rows.

Running ones are of weights that have changed since. With few batches an epoch, or a slow momentum, a network that is
right in training is then scored at chance (Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from mmtune.networks.output import answer
from mmtune.train.batches import Rows, batch_sizes

COUNTS = ("num_batches_tracked", "batches")
"""How many batches a norm has followed, by which it says how far it goes with the next one."""


@torch.no_grad()
def renew(model: nn.Module, rows: Rows, batch_size: int) -> None:
    """Set the running means and variances of a model to their means over batches of rows, in an order of chance.

    Nothing else is as in training: nothing is dropped, nothing augmented. The same rows and weights give the same.
    """
    norms = [own for own in model.modules() if isinstance(getattr(own, "running_mean", None), Tensor)]
    if not norms:
        return
    running = [value for own in norms for value in (own.running_mean, own.running_var) if isinstance(value, Tensor)]
    sums = [torch.zeros_like(value, dtype=torch.float64) for value in running]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).to(rows.labels.device)
    with following(model, norms) as counts:
        for batch in order.split(batch_sizes(len(rows), batch_size)):
            for count in counts:
                # Each batch is taken for the first.
                count.zero_()
            answer(model, rows.batch(batch)[0])
            for total, value in zip(sums, running, strict=True):
                total += value.double() * len(batch)
    for total, value in zip(sums, running, strict=True):
        value.copy_(total / len(rows))


@contextmanager
def following(model: nn.Module, norms: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Let norms take a first batch's statistics for their own, in a model that is not trained otherwise.

    Gives how many batches each has followed.
    """
    modes = {own: own.training for own in model.modules()}
    kept = [(own, own.momentum) for own in norms if hasattr(own, "momentum")]
    counts: list[Tensor] = [getattr(own, name) for own in norms for name in COUNTS if hasattr(own, name)]
    before = [count.clone() for count in counts]
    model.eval()
    for own in norms:
        own.train()
    for own, _ in kept:
        own.momentum = 1.0  # type: ignore[assignment]
    try:
        yield counts
    finally:
        for own, momentum in kept:
            own.momentum = momentum
        for count, value in zip(counts, before, strict=True):
            count.copy_(value)
        for own, mode in modes.items():
            own.training = mode

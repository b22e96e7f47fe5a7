"""An exponential moving average of a model's weights, which often predicts better than where the last step left them.

Polyak and Juditsky, 1992; while little has been trained the average follows faster, as it would stay at the start.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn


def decay_at(step: int, most: float) -> float:
    """How much of the average stays at a step from 0."""
    return min(most, (1 + step) / (10 + step))


class Average:
    """A copy of a model whose trained weights follow the model's; whatever else it holds is the model's own.

    share: how much of the way the next step goes, a tensor (), which a CUDA graph finds at its place.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.source, self.decay = model, decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        pairs = zip(model.parameters(), self.model.parameters(), strict=True)
        trained = [(theirs, own) for theirs, own in pairs if theirs.requires_grad]
        self.followed: list[Tensor] = [theirs for theirs, _ in trained]
        self.own: list[Tensor] = [own for _, own in trained]
        self.share = torch.zeros((), device=self.own[0].device if self.own else None)

    def prepare(self, step: int) -> None:
        """Get ready for a step, from 0."""
        self.share.fill_(1 - decay_at(step, self.decay))

    @torch.no_grad()
    def follow(self) -> None:
        """Go a share of the way to where a step has left the model."""
        ways = torch._foreach_sub(self.followed, self.own)
        torch._foreach_mul_(ways, self.share)
        torch._foreach_add_(self.own, list(ways))

    @torch.no_grad()
    def current(self) -> nn.Module:
        """The averaged model, with statistics as the model has them."""
        for own, theirs in zip(self.model.buffers(), self.source.buffers(), strict=True):
            own.copy_(theirs)
        return self.model

    def named(self) -> dict[str, Tensor]:
        """The averaged weights' own tensors by number."""
        return {str(number): value for number, value in enumerate(self.own)}

    @torch.no_grad()
    def load(self, named: Mapping[str, Tensor]) -> None:
        """Go on from the weights of another one of the same model."""
        for name, value in self.named().items():
            value.copy_(named[name])

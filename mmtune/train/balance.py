"""Encoders that learn at different speeds, held together: the gradients of the one that is ahead are made smaller."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmtune.base.errors import InputError


class Balance:
    """On-the-fly gradient modulation with generalisation enhancement (OGM-GE; Peng et al., CVPR 2022, section 3).

    A bank is ahead as far as the probability that it alone gives the true classes of a batch exceeds the mean of the
    other banks' (the paper has two). Its encoder's gradients are then multiplied by 1 - tanh(strength * ratio), and
    noise as large as each matrix's own gradients is added to all of them. Optimisers that divide by the size of
    gradients, as Adam does, take back what is the same over many steps. Nothing in it waits for the device.
    """

    def __init__(self, model: nn.Module, strength: float) -> None:
        """InputError where the network has no `encoders` by bank, or no answers of each alone."""
        encoders = getattr(model, "encoders", None)
        own = getattr(model, "own", None)
        if not isinstance(encoders, nn.ModuleDict) or not isinstance(own, nn.ModuleDict) or set(own) != set(encoders):
            raise InputError(
                "balance must be 0 for a network that is no LateFusion, which has encoders by bank and what each says "
                f"alone; got {strength:g}"
            )
        self.strength = strength
        self.trained = {
            bank: [weight for weight in encoder.parameters() if weight.requires_grad]
            for bank, encoder in encoders.items()
        }

    @torch.no_grad()
    def __call__(self, alone: Mapping[str, Tensor], labels: Tensor, lost: Mapping[str, Tensor] = {}) -> None:
        """Change the gradients of a batch, of which `alone` has by bank the logits (B, C).

        lost: by bank, (B,) bool, the rows whose values say nothing of their class, which are not counted.
        """
        right = {}
        for bank, own in alone.items():
            shares = own.float().softmax(1).gather(1, labels[:, None]).squeeze(1)
            known = ~lost[bank] if bank in lost else torch.ones_like(shares, dtype=torch.bool)
            right[bank] = (shares * known).sum() / known.sum().clamp(min=1)
        for bank, weights in self.trained.items():
            others = [value for name, value in right.items() if name != bank]
            ratio = right[bank] / torch.stack(others).mean()
            kept = torch.where(ratio > 1, 1 - torch.tanh(self.strength * ratio), torch.ones_like(ratio))
            for weight in weights:
                grad = weight.grad
                if grad is None:
                    continue
                # The deviation of the gradients as they came: what is held back still wanders.
                noise = torch.randn_like(grad) * grad.std(correction=0) if grad.dim() > 1 else torch.zeros_like(grad)
                grad.mul_(kept).add_(noise)

"""What encoders of features over time share: norms and means that leave padding out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmtune.networks.inputs import valid_steps


class FeatureNorm(nn.BatchNorm1d):
    """Batch norm of each feature of (B, T, F), over all steps alike; padding and rows of nothing have no part in it."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    momentum: float

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        counted = (valid_steps(x) & (x != 0).flatten(1).any(1, keepdim=True)).unsqueeze(2).float()
        steps = counted.sum()
        count, any_step = steps.clamp(min=1), (steps > 0).to(steps.dtype)
        mean = (x * counted).sum((0, 1)) / count
        var = ((x - mean).square() * counted).sum((0, 1)) / count
        with torch.no_grad():
            # A batch in which no row has anything says nothing of what is usual.
            rate = self.momentum * any_step
            self.num_batches_tracked.add_(any_step.long())
            self.running_mean.lerp_(mean, rate)
            self.running_var.lerp_(var * count / (count - 1).clamp(min=1), rate)
        return (x - mean) * (self.weight * (var + self.eps).rsqrt()) + self.bias


def feature_norm(norm: str, features: int) -> nn.Module:
    """What standardises features over time, if anything."""
    return FeatureNorm(features) if norm == "batch" else nn.Identity()


def valid_mean(steps: Tensor, valid: Tensor) -> Tensor:
    """The mean (B, F) over those of the steps (B, T, F) that are valid (B, T)."""
    return torch.einsum("btf,bt->bf", steps, valid / valid.sum(1, keepdim=True))

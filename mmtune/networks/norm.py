"""Batch norm as Keras has it, but right from the first epoch on.

With Keras' momentum of .99 the running statistics need hundreds of batches to forget their start: until then a network
that separates its training batches perfectly is scored at chance. Here they are the plain mean of all batches so far,
until that mean is older than the momentum; from then on both are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmtune.networks.layers import BatchNorm2d

MOMENTUM, EPSILON = 0.01, 1e-3


class WarmNorm1d(nn.BatchNorm1d):
    """Batch norm of vectors (B, features)."""

    def __init__(self, features: int) -> None:
        super().__init__(features, eps=EPSILON, momentum=MOMENTUM)
        self.seen: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.is_cuda:
            return warmed(x, self)
        warm(self)
        return super().forward(x)


class WarmNorm2d(BatchNorm2d):
    """Batch norm of maps (B, channels, H, W), one mean and variance per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPSILON, momentum=MOMENTUM)
        self.seen: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.is_cuda:
            return warmed(x, self)
        warm(self)
        return super().forward(x)


def warm(norm: WarmNorm1d | WarmNorm2d) -> None:
    """Set the rate at which the next training batch counts; reads the buffer once only."""
    if norm.training:
        assert norm.num_batches_tracked is not None
        seen = int(norm.num_batches_tracked) if norm.seen is None else norm.seen
        norm.momentum, norm.seen = max(MOMENTUM, 1 / (seen + 1)), seen + 1


def warmed(x: Tensor, norm: WarmNorm1d | WarmNorm2d) -> Tensor:
    """Training's batch norm with the rate on the device: it waits for nothing, and a CUDA graph can hold it."""
    assert norm.num_batches_tracked is not None
    assert norm.running_mean is not None
    assert norm.running_var is not None
    y, mean, inverse = torch.native_batch_norm(x, norm.weight, norm.bias, None, None, True, 0.0, norm.eps)
    count = x.numel() // x.shape[1]
    with torch.no_grad():
        rate = (1.0 / norm.num_batches_tracked.add_(1)).clamp(min=MOMENTUM)
        variance = (inverse.square().reciprocal() - norm.eps) * (count / (count - 1))
        norm.running_mean.lerp_(mean, rate)
        norm.running_var.lerp_(variance, rate)
    return y

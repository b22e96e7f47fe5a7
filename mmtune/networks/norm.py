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


class Warm(nn.modules.batchnorm._BatchNorm):
    """What both have; comes before torch's own among their bases."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=EPSILON, momentum=MOMENTUM)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.is_cuda:
            return self.on_device(x)
        if self.training:
            self.momentum = max(MOMENTUM, 1 / (int(self.num_batches_tracked) + 1))
        return super().forward(x)

    def on_device(self, x: Tensor) -> Tensor:
        """Training's batch norm with the rate on the device: it waits for nothing, and a CUDA graph can hold it."""
        y, mean, inverse = torch.native_batch_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps)
        count = x.numel() // x.shape[1]
        with torch.no_grad():
            rate = (1.0 / self.num_batches_tracked.add_(1)).clamp(min=MOMENTUM)
            variance = (inverse.square().reciprocal() - self.eps) * (count / (count - 1))
            self.running_mean.lerp_(mean, rate)
            self.running_var.lerp_(variance, rate)
        return y


class WarmNorm1d(Warm, nn.BatchNorm1d):
    """Batch norm of vectors (B, features)."""


class WarmNorm2d(Warm, BatchNorm2d):
    """Batch norm of maps (B, channels, H, W), one mean and variance per channel."""

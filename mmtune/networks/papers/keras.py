"""Layers as the authors' Keras made them: Glorot-uniform weights, zero biases, batch norm with epsilon 1e-3.

Batch norm is right from the first epoch on. With Keras' momentum of .99 the running statistics need hundreds of batches
to forget their start: until then a network that separates its training batches perfectly is scored at chance. Here they
are the plain mean of all batches so far, until that mean is older than the momentum; from then on both are the same.
With few batches an epoch they still lag behind the weights, and scores jump from epoch to epoch, as with Keras:
`Train(statistics="anew")` does without them.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from mmtune.networks.layers import BatchNorm2d

MOMENTUM, EPSILON = 0.01, 1e-3
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def glorot(layer: Layer) -> Layer:
    """The layer, with Glorot-uniform weights and a bias of zero."""
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


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


class BatchNormOverTime(nn.Module):
    """Batch norm of (B, T, ...), T <= steps, with one mean, variance, scale and shift for each step.

    This is the authors' normalisation along the axis of time, as their parameter counts need it. Steps that are not
    `valid` (B, T) have no part in the statistics; a step that no sequence has leaves its running ones as they are.
    So a step that no training sequence reaches is never normalised. The running ones are plain means until they
    are older than the momentum, as in `WarmNorm1d`.
    """

    running_mean: Tensor
    running_var: Tensor
    batches: Tensor

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(steps))
        self.bias = nn.Parameter(torch.zeros(steps))
        self.register_buffer("running_mean", torch.zeros(steps))
        self.register_buffer("running_var", torch.ones(steps))
        self.register_buffer("batches", torch.zeros(steps))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        steps, flat = x.shape[1], x.flatten(2)
        mean, var = self.statistics(flat, valid) if self.training else (self.running_mean, self.running_var)
        scale = self.weight[:steps] * (var[:steps] + EPSILON).rsqrt()
        shift = self.bias[:steps] - mean[:steps] * scale
        return (flat * scale[:, None] + shift[:, None]).view(x.shape)

    def statistics(self, flat: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (T,) of each step of (B, T, F) where valid; the running ones follow."""
        count = valid.sum(0)
        share = valid / count.clamp(min=1)
        mean = (flat.mean(2) * share).sum(0)
        var = ((flat - mean[:, None]).square().mean(2) * share).sum(0)
        seen = self.batches[: len(count)].add_(count > 0)
        rate = (1 / seen.clamp(min=1)).clamp(min=MOMENTUM) * (count > 0)
        for running, batch in ((self.running_mean, mean), (self.running_var, var)):
            running[: len(count)].lerp_(batch.detach(), rate)
        return mean, var


class LSTM(nn.Module):
    """Keras' LSTM over (B, T, F), its output at the last valid step, (B, units).

    One bias where PyTorch has two (the other stays zero), forget gates that begin with a bias of one, orthogonal
    recurrent weights. The gates are sigmoid, where Keras of the authors' day had its piecewise linear likeness.
    """

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, units, batch_first=True)
        weights = dict(self.lstm.named_parameters())
        nn.init.xavier_uniform_(weights["weight_ih_l0"])
        nn.init.orthogonal_(weights["weight_hh_l0"])
        nn.init.zeros_(weights["bias_ih_l0"])
        nn.init.ones_(weights["bias_ih_l0"][units : 2 * units])
        nn.init.zeros_(weights["bias_hh_l0"]).requires_grad_(False)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        steps: Tensor = self.lstm(x)[0]
        return steps[torch.arange(x.shape[0], device=x.device), valid.sum(1) - 1]

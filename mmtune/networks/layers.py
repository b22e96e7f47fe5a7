"""Layers that compute what torch's own do, but in less time on a CPU; elsewhere they are torch's own.

Convolutions, pools and these layers are fastest where the channels of a place lie together in memory (channels last,
see `inputs.one_channel`), so they keep that layout.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, dropout, prelu

STEPS = 2**16
VECTOR = 16
"""From so many channels on, torch's own batch norm fills its vectors."""


class Conv1d(nn.Conv1d):
    """A convolution of signals (B, C, L); on a CPU that of pictures one row high, which keeps the channels last."""

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda:
            return super().forward(x)
        stride, padding = (1, self.stride[0]), (0, int(self.padding[0]))
        return conv2d(x.unsqueeze(2), self.weight.unsqueeze(2), self.bias, stride, padding).squeeze(2)


class PointConv2d(nn.Conv2d):
    """A 1 x 1 convolution without padding; on a CPU the places that its stride leaves are taken first.

    Of fewer than 8 channels oneDNN's own strided one writes where it must not (AVX2, one thread; torch 2.13).
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda:
            return super().forward(x)
        down, across = self.stride
        return conv2d(x[..., ::down, ::across], self.weight, self.bias)


class CentredConv2d(nn.Conv2d):
    """A convolution right before a batch norm, which takes its bias away again: it stays as it was drawn, untrained."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        return self._conv_forward(x, self.weight, self.bias.detach())


class Tanh(nn.Tanh):
    """tanh; on a CPU by way of the logistic function, ten times as fast and within 2e-7 of it."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x) if x.is_cuda else _Tanh.apply(x)


class _Tanh(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = (2 * x).sigmoid_().mul_(2).sub_(1)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(grad, y)


class Dropout(nn.Dropout):
    """Dropout; on a CPU its masks are drawn 16 bits a value, four times as fast as Bernoulli's.

    The rate is rounded to a 65,536th there, and what is kept is scaled by the rounded one.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0 or x.is_cuda:
            return dropout(x, self.p, self.training)
        return x * mask_like(x, self.p)


def mask_like(x: Tensor, rate: float) -> Tensor:
    """Float32 zeros with probability `rate`, the others such that the mean is 1, in the shape and layout of `x`."""
    dropped = round(rate * STEPS)
    if dropped == STEPS:
        return torch.zeros_like(x)
    mask = torch.empty_like(x)
    count = x.numel()
    bits = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), 2**63 - 1)
    # Whole numbers from -32768 on: those below the threshold become 0, the threshold itself and above 1.
    drawn = bits.view(torch.int16)[:count].float().sub_(dropped - STEPS // 2 - 1).clamp_(0, 1)
    torch.mul(drawn.as_strided(mask.size(), mask.stride()), STEPS / (STEPS - dropped), out=mask)
    return mask


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm of maps (B, C, H, W); on a CPU its training is faster where few channels lie last."""

    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, x: Tensor) -> Tensor:
        few = x.numel() / x.shape[1] > 1 and x.shape[1] < VECTOR and x.is_contiguous(memory_format=torch.channels_last)
        if x.is_cuda or not self.training or not few:
            return super().forward(x)
        y, mean, variance = _Normalised.apply(x.to(self.weight.dtype), self.weight, self.bias, self.eps)
        self.follow(mean, variance, x.numel() // x.shape[1])
        return y

    @torch.no_grad()
    def follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Take a batch's mean and variance (C,) of `count` values a channel into the running ones."""
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)


class _Normalised(Function):
    """Sums over (B, H * W * C), then over H * W: long contiguous rows, however few channels there are."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        rows, channels = in_rows(x), x.shape[1]
        count, places = rows.numel() // channels, rows.shape[1] // channels
        mean = over_places(rows.sum(0), channels) / count
        centred = rows - mean.repeat(places)
        variance = over_places(centred.square().sum(0), channels) / count
        inverse = (variance + eps).rsqrt()
        y = torch.addcmul(bias.repeat(places), centred, (weight * inverse).repeat(places))
        ctx.save_for_backward(centred, weight, inverse)
        ctx.mark_non_differentiable(mean, variance)
        return in_maps(y, x.shape), mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        centred, weight, inverse = ctx.saved_tensors
        rows, channels = in_rows(grad), grad.shape[1]
        count, places = rows.numel() // channels, rows.shape[1] // channels
        to_bias = over_places(rows.sum(0), channels)
        to_weight = over_places((rows * centred).sum(0), channels) * inverse
        scale = weight * inverse
        to_x = torch.addcmul((scale * to_bias / -count).repeat(places), rows, scale.repeat(places))
        to_x.addcmul_(centred, (scale * inverse * to_weight / -count).repeat(places))
        return in_maps(to_x, grad.shape), to_weight, to_bias, None


class ElementPReLU(nn.Module):
    """PReLU with a slope of its own for every element of (B, *shape), a vector or a map; it begins as a ReLU."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        rows, slopes = in_rows(x), in_rows(self.weight.unsqueeze(0))[0]
        y = prelu(rows, slopes) if x.is_cuda else _PReLU.apply(rows, slopes)
        return in_maps(y, x.shape)


class _PReLU(Function):
    """torch's own makes a slope's gradient for every row before it adds them up."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, slopes: Tensor) -> Tensor:
        below = rows.clamp(max=0)
        ctx.save_for_backward(below, slopes)
        return torch.addcmul(rows, below, slopes - 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        below, slopes = ctx.saved_tensors
        # The sign is -1 where the slope counts; choosing by a mask would take five times as long.
        return torch.addcmul(grad, grad * below.sign(), 1 - slopes), (grad * below).sum(0)


def in_rows(maps: Tensor) -> Tensor:
    """(B, C, H, W) to (B, H * W * C), a view where the channels lie last; vectors (B, C) as they are."""
    return maps.movedim(1, -1).flatten(1)


def in_maps(rows: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `in_rows`: the given shape, with the channels last."""
    batch, channels, *places = shape
    return rows.view(batch, *places, channels).movedim(-1, 1)


def over_places(sums: Tensor, channels: int) -> Tensor:
    """(H * W * C,) summed over the places to (C,)."""
    return sums.view(-1, channels).sum(0)


class FlattenPlaces(nn.Flatten):
    """Maps (B, C, ...) to (B, ... x C), place by place, as Keras does it; nothing moves where the channels lie last."""

    def forward(self, x: Tensor) -> Tensor:
        return in_rows(x)

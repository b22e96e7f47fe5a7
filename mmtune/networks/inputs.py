"""What a network's first layer wants; what is learnt from the training rows is kept with the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmtune.base.errors import InputError
from mmtune.networks.shapes import Shape

BATCH = 256
Training = Mapping[str, tuple[Tensor, Tensor]]
"""By bank the distinct values (m, ...) of the training rows, as a network gets them, and how many rows use each."""


class Standardised(nn.Module):
    """Values (B, *shape) to (B, prod(shape)) of mean 0 and variance 1 over the training rows (Bajaj, section 2.1).

    Equal to scikit-learn's StandardScaler: population variance, and columns without any are only centred.
    Before `prepare` the values pass as they are.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(math.prod(shape)))
        self.register_buffer("scale", torch.ones(math.prod(shape)))

    @torch.no_grad()
    def prepare(self, values: Tensor, counts: Tensor) -> None:
        """Learn from distinct values (m, *shape), value i standing in counts[i] of the training rows, (m,) int64."""
        columns, rows = values.flatten(1).double(), counts.double()
        count = rows.sum()
        mean = rows @ columns / count
        variance = rows @ (columns - mean).square_() / count
        eps = torch.finfo(torch.float64).eps
        # scikit-learn's bound: what summing `count` equal numbers may leave as variance.
        constant = variance <= count * eps * variance + (count * eps * mean).square()
        self.mean.copy_(mean)
        self.scale.copy_(variance.sqrt().masked_fill(constant, 1.0))

    def forward(self, values: Tensor) -> Tensor:
        return (values.flatten(1) - self.mean) / self.scale


class Spectrogram(nn.Module):
    """Waveforms (B, samples) to STFT magnitudes (B, n_fft // 2 + 1, frames) float32 (Subrahmanya, section 2.1).

    The window is Hann's; no frame reaches beyond the ends.
    """

    window: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, waves: Tensor) -> Tensor:
        made = torch.stft(waves, self.n_fft, self.hop, window=self.window, center=False, return_complex=True)
        return made.abs()


def one_channel(values: Tensor) -> Tensor:
    """Signals (B, L) to (B, 1, L), or pictures (B, H, W) to (B, 1, H, W), strided with the channels last.

    Convolutions and pools hand that layout on: the channels of a place lie together, and pooling on a CPU is
    several times faster.
    """
    return values.unsqueeze(-1).movedim(-1, 1)


def channels_last(maps: Tensor) -> Tensor:
    """The same (B, C, H, W), laid out as `one_channel` does it."""
    if maps.shape[1] == 1:
        return one_channel(maps.squeeze(1))
    return maps.movedim(1, -1).contiguous().movedim(-1, 1)


class CoefficientsFirst(nn.Module):
    """Features over time (B, T, F) to (B, F, T): F channels over T steps."""

    def forward(self, clips: Tensor) -> Tensor:
        return clips.transpose(1, 2)


class ScaledByMaximum(nn.Module):
    """`features` of the audio, divided by the greatest magnitude in the training set (Subrahmanya, section 2.1)."""

    maximum: Tensor

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("maximum", torch.ones(()))

    @torch.no_grad()
    def prepare(self, values: Tensor) -> None:
        """Learn from the training rows' distinct audio, which is not all silent."""
        maximum = torch.stack([self.features(part).abs().amax() for part in values.split(BATCH)]).amax()
        if not float(maximum) > 0:
            raise InputError(f"training audio must have a maximum above 0 to be divided by, got {float(maximum):g}")
        self.maximum.copy_(maximum)

    def forward(self, audio: Tensor) -> Tensor:
        return self.features(audio) / self.maximum


def valid_steps(audio: Tensor) -> Tensor:
    """Which steps of (B, T, K) are no padding, (B, T) bool.

    Step t is padding where the MFCCs of t and of all later steps are exactly zero. The first step always counts, so
    that a sequence of nothing but zeros is one step of silence.
    """
    sounding = (audio != 0).any(dim=2)
    followed = sounding.flip(1).cumsum(1).flip(1) > 0
    return torch.cat([torch.ones_like(followed[:, :1]), followed[:, 1:]], dim=1)


def evenly(lengths: Tensor, count: int) -> Tensor:
    """`count` >= 2 steps from the first to the last of (B,) lengths, evenly spaced, as (B, count) int64.

    Shorter sequences repeat steps.
    """
    n = torch.arange(count, device=lengths.device)
    return (2 * n * (lengths.unsqueeze(1) - 1) + count - 1) // (2 * (count - 1))

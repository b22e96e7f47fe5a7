"""`LogMelResNet`: spectrograms of which neither the level nor the moment counts, and residual blocks over them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mmtune.base.errors import InputError
from mmtune.networks.config.log_mel import LogMelResNet
from mmtune.networks.encoders.convolutional import Residual
from mmtune.networks.encoders.dense import dropouts
from mmtune.networks.layers import BatchNorm2d
from mmtune.networks.shapes import Shape, require_kind
from mmtune.networks.sounds import WithDeltas, mel_filters

LEAST_POWER, LEAST_DEVIATION = 1e-12, 1e-5
"""What silence is divided by, so that it stays 0."""


class FlooredLogMel(nn.Module):
    """Waveforms (B, samples) to the logarithms of the power in mel bands over a floor, (B, frames, mels), 0 or more.

    The floor of each waveform lies `floor` dB below its own greatest power; of silence all is 0. The window is Hann's,
    and no frame reaches beyond the ends.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: LogMelResNet) -> None:
        super().__init__()
        self.n_fft, self.hop = fft_of(config.window), config.hop
        self.share = 10 ** (-config.floor / 10)
        # Where a network is laid out without memory, torch would import its compiler for these, for half a second.
        with torch.device("cpu"):
            window = centred_window(config.window, self.n_fft)
            filters = mel_filters(self.n_fft // 2 + 1, config.mels, config.sample_rate, config.low, config.high)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, waves: Tensor) -> Tensor:
        made = torch.stft(waves, self.n_fft, self.hop, window=self.window, center=False, return_complex=True)
        power = torch.view_as_real(made).square().sum(-1).transpose(1, 2) @ self.filters
        least = power.amax((1, 2), keepdim=True).clamp(min=LEAST_POWER) * self.share
        return (power / least).clamp(min=1).log()


def fft_of(window: int) -> int:
    """The power of 2 that a window of so many samples is filled up to."""
    return 2 ** math.ceil(math.log2(window))


def centred_window(length: int, n_fft: int) -> Tensor:
    """Hann's window of a length in the middle of (n_fft,), zeros around it."""
    before = (n_fft - length) // 2
    return nn.functional.pad(torch.hann_window(length), (before, n_fft - length - before))


class StandardisedClips(nn.Module):
    """Features over time (B, T, F), each clip to mean 0 and deviation 1.

    by_band: whether each band's own mean is taken away, not that of all.
    """

    def __init__(self, by_band: bool) -> None:
        super().__init__()
        self.over = (1,) if by_band else (1, 2)

    def forward(self, features: Tensor) -> Tensor:
        centred = features - features.mean(self.over, keepdim=True)
        deviation = centred.square().mean((1, 2), keepdim=True).sqrt()
        return centred / (deviation + LEAST_DEVIATION)


class HiddenBands(nn.Module):
    """Features (B, T, F) with one stretch of bands at 0, of at most a share of them, while a network is trained."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, features: Tensor) -> Tensor:
        if not self.training or not self.share:
            return features
        bands, device = features.shape[2], features.device
        drawn = torch.rand(2, len(features), 1, device=device)
        width = (drawn[0] * (math.floor(self.share * bands) + 1)).floor()
        first = (drawn[1] * (bands - width + 1)).floor()
        n = torch.arange(bands, device=device)
        return features.masked_fill(((n >= first) & (n < first + width)).unsqueeze(1), 0.0)


class MaximaOverTime(nn.Module):
    """Maps (B, C, T, F) to (B, parts * C): their means over frequency, the greatest of each of `parts` stretches."""

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, maps: Tensor) -> Tensor:
        stretches = maps.mean(3).tensor_split(self.parts, dim=2)
        return torch.cat([part.amax(2) for part in stretches], dim=1)


class AtSpeeds(nn.Module):
    """Waveforms (B, samples) to features (B, F): once trained, the mean of those at three speeds.

    The waveforms as they are come last: what watches the modules within sees their maps.
    """

    def __init__(self, share: float, features: nn.Module) -> None:
        super().__init__()
        self.factors, self.features = (1 / (1 + share), 1 + share), features

    def forward(self, waves: Tensor) -> Tensor:
        if self.training:
            return self.features(waves)
        still = waves.new_zeros(waves.shape[0])
        views = [played(waves, still + factor, still) for factor in self.factors]
        return torch.stack([self.features(view) for view in (*views, waves)]).mean(0)


def played(waves: Tensor, factor: Tensor, later: Tensor) -> Tensor:
    """Waveforms so many times as fast about their middle, then later by so many samples, both (B,); zeros outside.

    Between two samples it is their weighted mean.
    """
    count = waves.shape[1]
    middle = (count - 1) / 2
    n = torch.arange(count, dtype=waves.dtype, device=waves.device)
    at = (n - middle - later.unsqueeze(1)) * factor.unsqueeze(1) + middle
    before = at.floor()
    share = at - before
    outside = (at < 0) | (at > count - 1)
    first = before.clamp(0, count - 1).long()
    second = (first + 1).clamp(max=count - 1)
    # A where with a number would fetch that from the host.
    return waves.gather(1, first).lerp(waves.gather(1, second), share).masked_fill(outside, 0.0)


def log_mel_resnet(config: LogMelResNet, shape: Shape) -> nn.Sequential:
    """Waveforms (B, samples), or features over time (B, T, F), to (B, width)."""
    require_kind(config, shape, 1, 2)
    waves = len(shape) == 1
    if waves and shape[0] < fft_of(config.window):
        raise InputError(f"LogMelResNet must be given {fft_of(config.window)} samples or more, got {shape[0]}")
    steps = 1 + (shape[0] - fft_of(config.window)) // config.hop if waves else shape[0]
    blocks, steps = residual_blocks(config, steps, config.mels if waves else shape[1])
    if steps < config.parts:
        raise InputError(f"parts must be at most the {steps} steps that so many stages leave, got {config.parts}")
    front = [FlooredLogMel(config)] if waves else []
    last = config.channels * 2 ** (config.stages - 1) * config.parts
    features: list[nn.Module] = [
        *front,
        StandardisedClips(config.standardise == "band"),
        HiddenBands(config.mask),
        WithDeltas(config.deltas),
        *blocks,
        MaximaOverTime(config.parts),
    ]
    if waves and config.test_speed:
        features = [AtSpeeds(config.test_speed, nn.Sequential(*features))]
    return nn.Sequential(*features, *dropouts(config.dropout), nn.Linear(last, config.width), nn.ReLU())


def residual_blocks(config: LogMelResNet, steps: int, bands: int) -> tuple[list[nn.Module], int]:
    """Convolutions for maps (B, 1 + deltas, steps, bands), and the steps they leave; the first pools bands alone."""
    channels = config.channels
    stem = nn.Conv2d(1 + config.deltas, channels, 3, padding=1, bias=False)
    layers: list[nn.Module] = [stem, BatchNorm2d(channels), nn.ReLU()]
    sides = [steps, bands]
    for stage in range(config.stages):
        pool = (1 if stage == 0 else min(sides[0], 2), min(sides[1], 2))
        sides = [side // by for side, by in zip(sides, pool, strict=True)]
        after = config.channels * 2**stage
        layers += [nn.MaxPool2d(pool), Residual(channels, after, 1)]
        channels = after
    return layers, sides[0]

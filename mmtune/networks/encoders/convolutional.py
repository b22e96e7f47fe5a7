"""By convolutions: of pictures, of features over time as pictures or with the features as channels, of waveforms."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from mmtune.base.errors import InputError
from mmtune.networks.config.encoders import Conv1dEncoder, Convolutional, SmallCNN, SmallResNet, SpectrogramCNN
from mmtune.networks.encoders.dense import dropouts
from mmtune.networks.encoders.over_time import FeatureNorm
from mmtune.networks.inputs import channels_last, one_channel
from mmtune.networks.layers import BatchNorm2d, FlattenPlaces, PointConv2d, Tanh
from mmtune.networks.shapes import Shape, require_kind
from mmtune.networks.sounds import Cepstrum, LogSpectrogram, WithDeltas, chroma_filters, mel_filters

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": Tanh}


class ChannelsLast(nn.Module):
    """Pictures (B, C, H, W), laid out as `inputs.one_channel` does it."""

    def forward(self, pictures: Tensor) -> Tensor:
        return channels_last(pictures)


class OneChannel(nn.Module):
    """Features over time (B, T, F) to (B, 1, T, F)."""

    def forward(self, features: Tensor) -> Tensor:
        return one_channel(features)


class OneRow(nn.Module):
    """Features over time (B, T, F), or waveforms (B, T), to pictures one row high, (B, F, 1, T) or (B, 1, 1, T).

    So one kind of block serves signals and pictures, and a CPU has the channels last.
    """

    def forward(self, signals: Tensor) -> Tensor:
        return torch.atleast_3d(signals).unsqueeze(1).movedim(3, 1)


class MeanOverPlaces(nn.Module):
    """Maps (B, C, H, W) to their means (B, C)."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean((2, 3))


def small_cnn(config: SmallCNN, shape: Shape) -> nn.Sequential:
    """Pictures (B, C, H, W) to (B, width)."""
    require_kind(config, shape, 3)
    return nn.Sequential(ChannelsLast(), *flat_convolutions(config, shape))


def spectrogram_cnn(config: SpectrogramCNN, shape: Shape) -> nn.Sequential:
    """Features over time (B, T, F), or waveforms (B, samples), to (B, width)."""
    require_kind(config, shape, 1, 2)
    front, (steps, features) = ([], shape) if len(shape) == 2 else heard(config, shape[0])
    if config.deltas and steps < 2:
        raise InputError(f"deltas must be 0 for what has one step over time, got {config.deltas}")
    norms = [FeatureNorm(features)] if config.input_norm == "batch" else []
    beside = WithDeltas(config.deltas) if config.deltas else OneChannel()
    return nn.Sequential(*front, *norms, beside, *flat_convolutions(config, (1 + config.deltas, steps, features)))


def heard(config: SpectrogramCNN, samples: int) -> tuple[list[nn.Module], Shape]:
    """What makes features over time of waveforms (B, samples), and the shape (T, F) of those of one."""
    n_fft, bins = config.n_fft, config.n_fft // 2 + 1
    if samples < n_fft:
        raise InputError(f"SpectrogramCNN must be given a waveform of n_fft={n_fft} or more samples, got {samples}")
    bands, rate = config.mels or bins, config.sample_rate
    filters = chroma_filters(bins, rate) if config.features == "chroma" else None
    if config.features != "chroma" and config.mels:
        filters = mel_filters(bins, config.mels, rate)
    layers: list[nn.Module] = [LogSpectrogram(n_fft, config.hop, filters)]
    count = bands if filters is None else filters.shape[1]
    if config.features == "cepstra":
        if config.coefficients > bands:
            raise InputError(f"coefficients must be at most the {bands} bands they are of, got {config.coefficients}")
        layers.append(Cepstrum(bands, config.coefficients))
        count = config.coefficients
    return layers, (1 + (samples - n_fft) // config.hop, count)


def conv1d_encoder(config: Conv1dEncoder, shape: Shape) -> nn.Sequential:
    """Features over time (B, T, F), or waveforms (B, samples), to (B, width)."""
    require_kind(config, shape, 1, 2)
    channels = shape[1] if len(shape) == 2 else 1
    blocks, maps = convolutions(config, (channels, 1, shape[0]), (1, config.kernel), config.stride)
    mean = config.summary == "mean"
    summary = MeanOverPlaces() if mean else FlattenPlaces()
    return nn.Sequential(OneRow(), *blocks, summary, *ending(config, maps[0] if mean else math.prod(maps)))


def flat_convolutions(config: SmallCNN | SpectrogramCNN, picture: Shape) -> list[nn.Module]:
    """Square convolutions of (B, *picture), their maps flat, and one linear layer to (B, width)."""
    blocks, maps = convolutions(config, picture, (config.kernel, config.kernel))
    return [*blocks, FlattenPlaces(), *ending(config, math.prod(maps))]


def ending(config: Convolutional, features: int) -> list[nn.Module]:
    """(B, features) to (B, width)."""
    return [nn.Linear(features, config.width), ACTIVATIONS[config.activation]()]


def convolutions(
    config: Convolutional, picture: Shape, kernel: tuple[int, int], stride: int = 1
) -> tuple[list[nn.Module], Shape]:
    """All blocks for pictures (B, *picture), and the shape of what they make of one."""
    layers: list[nn.Module] = []
    channels, *sides = picture
    for n in range(config.blocks):
        sides = [(side - 1) // stride + 1 for side in sides]
        pool = tuple(min(side, 2) for side in sides)
        layers += block(config, channels, config.channels * 2**n, kernel, stride, pool)
        channels, sides = config.channels * 2**n, [side // by for side, by in zip(sides, pool, strict=True)]
    return layers, (channels, *sides)


def block(
    config: Convolutional, before: int, after: int, kernel: tuple[int, int], stride: int, pool: tuple[int, ...]
) -> list[nn.Module]:
    """Convolution, batch norm, max pool, activation and dropout, as far as there are such."""
    normed = config.norm == "batch"
    padding = (kernel[0] // 2, kernel[1] // 2)
    # A batch norm would take a bias away again.
    convolution = nn.Conv2d(before, after, kernel, stride, padding, bias=not normed)
    norms = [BatchNorm2d(after)] if normed else []
    pools = [nn.MaxPool2d(pool)] if max(pool) > 1 else []
    return [convolution, *norms, *pools, ACTIVATIONS[config.activation](), *dropouts(config.dropout)]


class Residual(nn.Module):
    """Two 3x3 convolutions, added to what they are made from; maps (B, before, ...) to (B, after, ...).

    Where the sizes differ, that goes through a 1x1 convolution (He et al., 2016, section 3.3, option B).
    """

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.channels = after
        first = (nn.Conv2d(before, after, 3, stride, 1, bias=False), BatchNorm2d(after), nn.ReLU())
        self.path = nn.Sequential(*first, nn.Conv2d(after, after, 3, 1, 1, bias=False), BatchNorm2d(after))
        fitted = (PointConv2d(before, after, 1, stride, bias=False), BatchNorm2d(after))
        self.short = nn.Identity() if (before, stride) == (after, 1) else nn.Sequential(*fitted)

    def forward(self, maps: Tensor) -> Tensor:
        return (self.path(maps) + self.short(maps)).relu()


def small_resnet(config: SmallResNet, shape: Shape) -> nn.Sequential:
    """Pictures (B, C, H, W) to (B, width)."""
    require_kind(config, shape, 3)
    first, widths = config.channels, [config.channels * 2**n for n in range(config.stages)]
    stem = (nn.Conv2d(shape[0], first, 3, padding=1, bias=False), BatchNorm2d(first), nn.ReLU())
    # The first block of a stage doubles the channels and halves the sides; the first stage has nothing to halve.
    channels = [first, *(width for width in widths for _ in range(config.blocks))]
    blocks = [Residual(before, after, after // before) for before, after in itertools.pairwise(channels)]
    last = (nn.Linear(widths[-1], config.width), nn.ReLU())
    return nn.Sequential(ChannelsLast(), *stem, *blocks, MeanOverPlaces(), *dropouts(config.dropout), *last)

"""Encoders of one bank each, sized from the shape of its values: (B, *shape) float32 to (B, width)."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from mmtune.base.errors import InputError
from mmtune.networks.attention import TransformerLayer
from mmtune.networks.config.encoders import (
    MLP,
    Conv1dEncoder,
    Convolutional,
    Dense,
    Recurrent,
    SmallCNN,
    SmallResNet,
    SmallTransformer,
    SpectrogramCNN,
)
from mmtune.networks.inputs import channels_last, one_channel, valid_steps
from mmtune.networks.layers import BatchNorm2d, Dropout, FlattenPlaces, PointConv2d, Tanh
from mmtune.networks.shapes import Shape
from mmtune.networks.sounds import Cepstrum, LogSpectrogram, WithDeltas, chroma_filters, mel_filters

KINDS = {
    1: "a waveform (samples,)",
    2: "features over time (steps, features)",
    3: "a picture (channels, height, width)",
}
ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": Tanh}
CELLS: dict[str, type[nn.RNN | nn.GRU | nn.LSTM]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
POSITION_SPREAD = 0.02
"""Standard deviation of positions that nothing has been learnt of (Dosovitskiy et al., 2021)."""


def require_kind(reader: object, shape: Shape, *dimensions: int) -> None:
    """Raise InputError unless a shape has so many dimensions, none of them empty."""
    if len(shape) not in dimensions or 0 in shape:
        kinds = " or ".join(KINDS[n] for n in dimensions)
        raise InputError(f"{type(reader).__name__} must be given {kinds}, got values of shape {tuple(shape)}")


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


def dropouts(rate: float) -> list[nn.Module]:
    """A dropout, unless its rate is 0."""
    return [Dropout(rate)] if rate else []


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


def turned(valid: Tensor) -> Tensor:
    """For steps of which the first are valid (B, T), where each goes when their order is turned round, (B, T, 1).

    Padding stays behind, so that a sequence read backwards begins with its own last step. Turned twice is unturned.
    """
    steps = valid.shape[1]
    return (valid.sum(1, keepdim=True) - 1 - torch.arange(steps, device=valid.device)).remainder(steps).unsqueeze(2)


def steps_at(x: Tensor, places: Tensor) -> Tensor:
    """Of features over time (B, T, F) the steps at places (B, S, 1) int64, (B, S, F).

    torch's take_along_dim cannot be traced for any number of rows.
    """
    return x.gather(1, places.expand(-1, -1, x.shape[2]))


class RecurrentLayer(nn.Module):
    """Features over time (B, T, F) to states (B, T, hidden), or (B, T, 2 hidden) with those of the direction back.

    places: as `turned` gives them.
    """

    def __init__(self, config: Recurrent, features: int) -> None:
        super().__init__()
        cell = CELLS[config.cell]
        self.there = cell(features, config.hidden, batch_first=True)
        self.back = cell(features, config.hidden, batch_first=True) if config.bidirectional else None

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        there: Tensor = self.there(x)[0]
        if self.back is None:
            return there
        back: Tensor = self.back(steps_at(x, places))[0]
        return torch.cat([there, steps_at(back, places)], dim=2)


class RecurrentEncoder(nn.Module):
    """Features over time (B, T, F) to (B, width)."""

    def __init__(self, config: Recurrent, shape: Shape) -> None:
        super().__init__()
        require_kind(config, shape, 2)
        self.hidden, self.mean = config.hidden, config.summary == "mean"
        states = 2 * config.hidden if config.bidirectional else config.hidden
        self.norm = feature_norm(config.norm, shape[1])
        self.layers = nn.ModuleList(
            RecurrentLayer(config, features) for features in (shape[1], *[states] * (config.layers - 1))
        )
        self.dropout = Dropout(config.dropout)
        self.ending = nn.Sequential(nn.Linear(states, config.width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        valid = valid_steps(x)
        places, states = turned(valid), self.norm(x)
        for layer in self.layers:
            states = self.dropout(layer(states, places))
        return self.ending(valid_mean(states, valid) if self.mean else self.last(states, places))

    def last(self, states: Tensor, places: Tensor) -> Tensor:
        """The states (B, ...) after all of a sequence: at its last valid step, and at its first for the way back."""
        there = steps_at(states, places[:, :1]).squeeze(1)[:, : self.hidden]
        return torch.cat([there, states[:, 0, self.hidden :]], dim=1)


class Patches(nn.Conv2d):
    """Pictures (B, C, H, W) to a token for each patch, row by row, (B, patches, width)."""

    def __init__(self, config: SmallTransformer, shape: Shape) -> None:
        channels, *sides = shape
        patch = config.patch
        if patch > min(sides):
            raise InputError(f"patch must be at most the sides of a picture, {sides[0]} x {sides[1]}, got {patch}")
        super().__init__(channels, config.width, patch, patch)
        down, right = (-side % patch for side in sides)
        self.fill = nn.ZeroPad2d((0, right, 0, down))
        self.count = math.prod(math.ceil(side / patch) for side in sides)

    def forward(self, pictures: Tensor) -> Tensor:
        return super().forward(channels_last(self.fill(pictures))).flatten(2).transpose(1, 2)


class Steps(nn.Linear):
    """Features over time (B, T, F) to a token for each step, (B, T, width)."""

    def __init__(self, config: SmallTransformer, shape: Shape) -> None:
        super().__init__(shape[1], config.width)
        self.count = shape[0]
        self.norm = feature_norm(config.norm, shape[1])

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.norm(x))


class TransformerEncoder(nn.Module):
    """Features over time (B, T, F), or pictures (B, C, H, W), to (B, width)."""

    def __init__(self, config: SmallTransformer, shape: Shape) -> None:
        super().__init__()
        require_kind(config, shape, 2, 3)
        width = config.width
        self.over_time = len(shape) == 2
        self.embed = Steps(config, shape) if self.over_time else Patches(config, shape)
        self.positions = nn.Parameter(nn.init.normal_(torch.empty(self.embed.count, width), std=POSITION_SPREAD))
        self.dropout = Dropout(config.dropout)
        self.layers = nn.ModuleList(
            TransformerLayer(width, config.heads, config.feed_forward * width, config.dropout)
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        valid = valid_steps(x) if self.over_time else None
        tokens = self.dropout(self.embed(x) + self.positions)
        for layer in self.layers:
            tokens = layer(tokens, valid)
        tokens = self.norm(tokens)
        return tokens.mean(1) if valid is None else valid_mean(tokens, valid)


def mlp(config: MLP, shape: Shape) -> nn.Sequential:
    """Values (B, *shape) to (B, width)."""
    hidden = dense(config, math.prod(shape))
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(config.hidden, config.width), nn.ReLU())


def dense(config: Dense, features: int) -> list[nn.Module]:
    """Hidden layers from (B, features) to (B, hidden)."""
    layers: list[nn.Module] = []
    normed = config.norm == "batch"
    for _ in range(config.layers):
        norms = [nn.BatchNorm1d(config.hidden)] if normed else []
        linear = nn.Linear(features, config.hidden, bias=not normed)
        layers += [linear, *norms, nn.ReLU(), *dropouts(config.dropout)]
        features = config.hidden
    return layers

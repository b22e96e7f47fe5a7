"""Venkatachalam's fusion of an image CNN with a multi-head, or a sequential, audio CNN."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from mmtune.base.errors import InputError
from mmtune.networks.config.base import require_picture, require_shape
from mmtune.networks.config.fusions import Head
from mmtune.networks.config.venkatachalam import MultiheadFusionConfig, numbers
from mmtune.networks.fusions import head as output_layers
from mmtune.networks.inputs import channels_last, one_channel
from mmtune.networks.layers import Conv1d, Dropout, FlattenPlaces
from mmtune.networks.output import Output
from mmtune.networks.shapes import Shape, Shapes

IMAGE_CHANNELS = (32, 64, 128, 256)
AUDIO_CHANNELS = (32, 64)
HEAD_CHANNELS, EXTRA_CHANNELS = 32, 64
ENCODER_HIDDEN, FUSION_HIDDEN = 128, 64


class MultiheadFusion(nn.Module):
    """Venkatachalam's network (sections 2.2 and 2.4): two encoders, batch norm, one or two linear layers.

    With `softmax`, as in the report, training returns softmax(z) as its logits, so that the cross-entropy takes a
    second softmax; evaluation returns z itself, whose softmax are the probabilities that the report predicts with.
    """

    def __init__(self, config: MultiheadFusionConfig, shapes: Shapes) -> None:
        super().__init__()
        image, length = require_picture(shapes), math.prod(require_shape(shapes, "audio", 2))
        audio = multihead_encoder if config.audio_net == "multihead" else sequential_encoder
        joined = 2 * config.width
        self.parts = {"image": config.width, "audio": config.width}
        self.image = image_encoder(config, image)
        self.audio = audio(config, length)
        self.norm = nn.BatchNorm1d(joined) if config.fusion_norm else nn.Identity()
        hidden = FUSION_HIDDEN if config.fusion_fc == 2 else 0
        self.head = output_layers(Head(hidden=hidden), joined, shapes.classes)
        self.double_softmax = config.softmax

    def forward(self, image: Tensor, audio: Tensor) -> Output:
        seen, heard = self.image(channels_last(image)), self.audio(one_channel(audio.flatten(1)))
        joined = torch.cat([seen, heard], dim=1)
        logits = self.head(self.norm(joined))
        return Output(logits.softmax(1) if self.double_softmax and self.training else logits, joined)


class Heads(nn.Module):
    """Convolutions of different kernels beside each other: (B, 1, L) to (B, 32 x heads, L) (section 2.2)."""

    def __init__(self, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(Conv1d(1, HEAD_CHANNELS, k, padding=k // 2) for k in kernels)

    def forward(self, audio: Tensor) -> Tensor:
        # Joined with the channels last, as they lie in memory: joining (B, 32, L) would lay them out anew.
        return torch.cat([head(audio).transpose(1, 2) for head in self.heads], dim=2).transpose(1, 2)


def image_encoder(config: MultiheadFusionConfig, shape: Shape) -> nn.Sequential:
    """(B, *shape) in [0, 1] to (B, width)."""
    kernels, code = numbers(config.image_kernels), config.image_dropouts
    before, *sides = shape
    layers: list[nn.Module] = []
    for n, (kernel, after) in enumerate(zip(kernels, IMAGE_CHANNELS, strict=False), start=1):
        pool = [nn.MaxPool2d(2)] if n <= config.image_pools else []
        convolution = nn.Conv2d(before, after, kernel, padding=kernel // 2)
        layers += block(config, code, n, n == len(kernels), convolution, *pool)
        before, sides = after, [side // 2 for side in sides] if pool else sides
    if min(sides) < 1:
        raise InputError(f"image must be larger for {config.image_pools} pools, got {shape}")
    return encoder(config, code, layers, before * math.prod(sides), config.image_fc)


def multihead_encoder(config: MultiheadFusionConfig, length: int) -> nn.Sequential:
    """(B, 1, length) to (B, width): parallel heads, then perhaps one more convolution."""
    heads, code, extra = numbers(config.heads), config.audio_dropouts, config.extra_conv
    channels = HEAD_CHANNELS * len(heads)
    layers = block(config, code, 1, not extra, Heads(heads), nn.MaxPool1d(3, stride=1, padding=1))
    if extra:
        layers += block(config, code, 2, True, Conv1d(channels, EXTRA_CHANNELS, 3), nn.MaxPool1d(2))
        channels, length = EXTRA_CHANNELS, require_left((length - 2) // 2, "an extra convolution")
    return encoder(config, code, layers, channels * length, config.audio_fc)


def sequential_encoder(config: MultiheadFusionConfig, length: int) -> nn.Sequential:
    """(B, 1, length) to (B, width): two unpadded convolutions and one pool."""
    (first, second), (few, many), code = numbers(config.audio_kernels), AUDIO_CHANNELS, config.audio_dropouts
    length = require_left((length - (first - 1) - (second - 1)) // config.audio_pool, f"kernels {config.audio_kernels}")
    layers = block(config, code, 1, False, Conv1d(1, few, first))
    layers += block(config, code, 2, True, Conv1d(few, many, second), nn.MaxPool1d(config.audio_pool))
    return encoder(config, code, layers, many * length, config.audio_fc)


def require_left(length: int, what: str) -> int:
    """The length of the audio's last feature map; InputError where nothing is left."""
    if length < 1:
        raise InputError(f"audio must have more values for {what}, nothing is left of it")
    return length


def block(config: MultiheadFusionConfig, code: str, n: int, last: bool, *layers: nn.Module) -> list[nn.Module]:
    """Convolution `n` and perhaps its pool, then ReLU, which is the same there and less work, and dropout."""
    here = {f"conv{n}", "last"} if last else {f"conv{n}"}
    relu = [nn.ReLU()] if config.last_relu or not last else []
    return [*layers, *relu, *([Dropout(config.dropout)] if here & set(code.split("-")) else [])]


def encoder(config: MultiheadFusionConfig, code: str, layers: list[nn.Module], flat: int, count: int) -> nn.Sequential:
    """`layers`, then `count` linear ones from `flat` to the width, the first 128 wide unless it is the last."""
    widths = (config.width,) if count == 1 else (ENCODER_HIDDEN, *[config.width] * (count - 1))
    linear: list[nn.Module] = []
    for n, (before, after) in enumerate(itertools.pairwise((flat, *widths)), start=1):
        linear += [nn.Linear(before, after), *([nn.ReLU()] if n < count else [])]
        linear += [Dropout(config.dropout)] if n == 1 and "fc1" in code.split("-") else []
    return nn.Sequential(*layers, FlattenPlaces(), *linear)

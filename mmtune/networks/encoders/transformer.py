"""By self-attention: steps over time, or patches of a picture."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mmtune.base.errors import InputError
from mmtune.networks.attention import TransformerLayer
from mmtune.networks.config.encoders import SmallTransformer
from mmtune.networks.encoders.over_time import feature_norm, valid_mean
from mmtune.networks.inputs import channels_last, valid_steps
from mmtune.networks.layers import Dropout
from mmtune.networks.shapes import Shape, require_kind

POSITION_SPREAD = 0.02
"""Standard deviation of positions that nothing has been learnt of (Dosovitskiy et al., 2021)."""


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

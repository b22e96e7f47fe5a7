"""Hidden layers."""

from __future__ import annotations

import math

from torch import nn

from mmtune.networks.config.encoders import MLP, Dense
from mmtune.networks.layers import Dropout
from mmtune.networks.shapes import Shape


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


def dropouts(rate: float) -> list[nn.Module]:
    """A dropout, unless its rate is 0."""
    return [Dropout(rate)] if rate else []

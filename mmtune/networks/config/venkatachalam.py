"""Venkatachalam's network, one configuration for the whole ladder of tries (`studies/multihead_fusion.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mmtune.base.errors import InputError
from mmtune.networks.config.base import ModelConfig, choice, count, rate, ruled
from mmtune.networks.shapes import Shapes

if TYPE_CHECKING:
    from torch import nn

ODD = frozenset(map(str, range(1, 28, 2)))


def numbers(code: str) -> tuple[int, ...]:
    """The whole numbers in a code such as "5-3-3"."""
    return tuple(map(int, code.split("-")))


def require_kernels(name: str, code: object, least: int, most: int) -> None:
    """Raise InputError unless `code` is `least` to `most` odd numbers from 1 to 27, joined by "-"."""
    parts = code.split("-") if isinstance(code, str) else []
    if not (least <= len(parts) <= most and set(parts) <= ODD):
        count = str(least) if least == most else f"{least} to {most}"
        raise InputError(f"{name} must be {count} odd numbers from 1 to 27 such as 5-3, got {code!r}")


def require_places(name: str, code: object, places: tuple[str, ...]) -> None:
    """Raise InputError unless `code` is "none" or some of `places` in their order, joined by "-"."""
    parts = code.split("-") if isinstance(code, str) else []
    if code != "none" and (not parts or parts != [place for place in places if place in parts]):
        raise InputError(f"{name} must be none or some of {', '.join(places)} in this order, got {code!r}")


@dataclass(frozen=True, kw_only=True)
class MultiheadFusionConfig(ModelConfig):
    """Venkatachalam's image CNN and multi-head audio CNN, fused (sections 2.2 and 2.4); the defaults are Try 10.

    image_kernels: of each convolution with same padding, 2 to 4 of them, channels 32-64-128-256 (the fourth is
        not printed). image_pools: a 2x2 max pool follows each of the first so many convolutions.
    audio_net: "multihead" puts `heads`, 32 channels each with same padding, side by side (96x507), then a pool of 3
        with stride 1; `extra_conv` adds a Conv1d 64@3 and a pool of 2 (channels not printed).
        "sequential" has two convolutions of `audio_kernels` without padding, channels 32-64 (not printed), and one
        pool of `audio_pool` after the second (its place is not printed). Each ignores the other's fields.
    image_dropouts, audio_dropouts: "none", or where a dropout stands: conv1, conv2 (after which convolution and its
        pool; conv1 of a multi-head net is its heads), last (the last convolution), fc1. Places that coincide are one.
    image_fc, audio_fc: linear layers: flat-width; flat-128-width; flat-128-width-width.
    width: what each encoder gives. fusion_norm: BN on the joined 2 x width. fusion_fc: 1, or 2 with 64 between.
    softmax: the report's softmax before a cross-entropy that has its own. Training sees softmax(z); evaluation
        gets z, whose softmax are the model's probabilities.
    last_relu: "ReLU after each convolution except the last" is printed, which leaves a multi-head net without any
        on its convolutions; true puts one there too.

    ReLU between the linear layers of a part, and none after its last, is assumed.
    """

    image_kernels: str = ruled("5-3-3", partial(require_kernels, least=2, most=4))
    image_pools: int = count(3, 1, 4)
    image_dropouts: str = ruled("conv2-fc1", partial(require_places, places=("conv1", "conv2", "last", "fc1")))
    image_fc: int = count(1, 1, 3)
    audio_net: str = choice("multihead", ("multihead", "sequential"))
    heads: str = ruled("7-5-3", partial(require_kernels, least=1, most=8))
    extra_conv: bool = choice(False, (True, False))
    audio_kernels: str = ruled("5-5", partial(require_kernels, least=2, most=2))
    audio_pool: int = count(2, 1, 16)
    audio_dropouts: str = ruled("conv1-fc1", partial(require_places, places=("conv1", "last", "fc1")))
    audio_fc: int = count(2, 1, 3)
    width: int = count(64, 1, 4096)
    fusion_norm: bool = choice(True, (True, False))
    fusion_fc: int = count(1, 1, 2)
    dropout: float = rate(0.3)
    softmax: bool = choice(True, (True, False))
    last_relu: bool = choice(False, (True, False))

    def build(self, shapes: Shapes) -> nn.Module:
        from mmtune.networks.papers.venkatachalam import MultiheadFusion

        return MultiheadFusion(self, shapes)

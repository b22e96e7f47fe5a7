"""Networks made from parts: banks that meet after their encoders, or before any layer."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmtune.base.errors import InputError
from mmtune.base.rules import require_count
from mmtune.networks.config.encoders import Encoder
from mmtune.networks.config.late import EarlyFusion, LateFusion
from mmtune.networks.crossed import CrossedStreams
from mmtune.networks.encoders.dense import dense
from mmtune.networks.fusions import by_bank, linear_layers
from mmtune.networks.output import Output
from mmtune.networks.shapes import Shapes


class LateNetwork(nn.Module):
    """Encoders, their fusion and a head.

    Each bank's own classifier is trained on its detached vector, so that "what would this bank say alone" has an
    answer and the fused network is none the different for it; unless `guided` asks for just that.
    """

    def __init__(self, config: LateFusion, shapes: Shapes) -> None:
        super().__init__()
        self.parts = {bank: encoder.width for bank, encoder in config.encoders.items()}
        self.encoders = by_bank({bank: encoder_of(bank, own, shapes[bank]) for bank, own in config.encoders.items()})
        self.streams = CrossedStreams(self.encoders) if config.crossed else None
        self.fusion = config.fusion.build(self.parts)
        self.width = getattr(self.fusion, "width", 0)
        require_count(f"width of {type(self.fusion).__name__}", self.width)
        self.head = config.head.build(self.width, shapes.classes)
        self.guided = config.guided
        self.own = linear_layers(self.parts if config.alone and len(self.parts) > 1 else {}, shapes.classes)

    def forward(self, **banks: Tensor) -> Output:
        made = self.encoded(banks)
        for bank, vectors in made.items():
            require_width(f"the encoder of {bank}", vectors, self.parts[bank])
        fused = self.fusion(**made)
        require_width("the fusion", fused, self.width)
        alone = {
            bank: classify(made[bank] if self.guided else made[bank].detach()) for bank, classify in self.own.items()
        }
        return Output(self.head(fused), torch.cat(list(made.values()), dim=1), alone)

    def encoded(self, banks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By bank the vector (B, width) that its encoder makes."""
        if self.streams is None:
            return {bank: encoder(banks[bank]) for bank, encoder in self.encoders.items()}
        return self.streams(dict(self.encoders.items()), banks)


def encoder_of(bank: str, config: Encoder, shape: torch.Size | tuple[int, ...]) -> nn.Module:
    """A bank's encoder; InputError, naming the bank, where its values are none for it."""
    try:
        return config.build(shape)
    except InputError as error:
        raise InputError(f"encoders.{bank}: {error}") from error


def require_width(maker: str, vectors: Tensor, width: int) -> None:
    """Raise InputError unless a part, which may be a user's own, made the vectors (B, width) that it announced."""
    if vectors.shape[1:] != (width,):
        raise InputError(f"{maker} must make vectors of shape (B, {width}), got {tuple(vectors.shape)}")


class EarlyNetwork(nn.Module):
    """The values of all banks, flat and side by side, through hidden layers."""

    def __init__(self, config: EarlyFusion, shapes: Shapes) -> None:
        super().__init__()
        self.reads = config.reads
        self.parts = {"hidden": config.hidden}
        self.hidden = nn.Sequential(*dense(config, sum(math.prod(shapes[bank]) for bank in config.reads)))
        self.classify = nn.Linear(config.hidden, shapes.classes)

    def forward(self, **banks: Tensor) -> Output:
        embedding = self.hidden(torch.cat([banks[bank].flatten(1) for bank in self.reads], dim=1))
        return Output(self.classify(embedding), embedding)

"""Joshi's networks: an image CNN, an audio RNN, and their latent fusion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmtune.base.errors import InputError
from mmtune.networks.config.base import ModelConfig, choice, count, rate
from mmtune.networks.shapes import Shapes

if TYPE_CHECKING:
    from torch import nn

NORM_CODES = ("l1-l2-l3-l4-l5", "l1-l2", "l1-l3-l4")


@dataclass(frozen=True, kw_only=True)
class ImageCNNConfig(ModelConfig):
    """Joshi's image network: four unpadded convolutions 6-12-24-48, then 120-64-10 (section 2.2, figure 9).

    norm: which of the layers l1..l5 of the report's grid are batch-normalised. l1..l4 are the convolutions.
    l5: the report names five layers but prints four modules; "absent" follows the print (its parameter
        count is then the printed model's), "fc1" puts a BatchNorm1d on the first linear layer instead.
    pools: after which convolutions the two unprinted 2x2 pools stand; both give the printed 768 inputs.
    """

    kernel: int = count(3, 1, 27)
    activation: str = choice("tanh", ("tanh", "relu"))
    norm: str = choice("l1-l2-l3-l4-l5", NORM_CODES)
    l5: str = choice("absent", ("absent", "fc1"))
    pools: str = choice("2-4", ("2-4", "3-4"))
    dropout: float = rate(0.05)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("image",)

    def build(self, shapes: Shapes) -> nn.Module:
        from mmtune.networks.papers.joshi import ImageCNN

        return ImageCNN(self, shapes)


@dataclass(frozen=True, kw_only=True)
class AudioRNNConfig(ModelConfig):
    """Joshi's audio network: an RNN, then linear layers 100-64-10, each batch-normalised (section 2.2, figure 10).

    view: "step" feeds the clip as one step of 507 values, as the report did; "sequence" as 39 steps of 13.
    """

    hidden: int = count(320, 1, 8192)
    layers: int = count(1, 1, 8)
    view: str = choice("step", ("step", "sequence"))

    @property
    def reads(self) -> tuple[str, ...]:
        return ("audio",)

    def build(self, shapes: Shapes) -> nn.Module:
        from mmtune.networks.papers.joshi import AudioRNN

        return AudioRNN(self, shapes)


@dataclass(frozen=True, kw_only=True)
class LatentFusionConfig(ModelConfig):
    """Joshi's latent fusion: both embeddings side by side, then linear layers, one or two in section 2.2.

    embedding: 64 joins the second-last layers of the encoders, 10 their outputs, one a class.
    encoders: "frozen" keeps the given encoders as they are, as the report did; "joint" trains all together.
    """

    layers: int = count(1, 1, 8)
    embedding: int = choice(64, (10, 64))
    encoders: str = choice("frozen", ("frozen", "joint"))
    image: ImageCNNConfig = field(default_factory=ImageCNNConfig)
    audio: AudioRNNConfig = field(default_factory=AudioRNNConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.encoders == "joint" and self.embedding == 10:
            raise InputError("embedding must be 64 where encoders=joint, got 10: outputs are read off trained encoders")

    @property
    def frozen(self) -> bool:
        """Whether the network starts from trained encoders that stay as they are."""
        return self.encoders == "frozen"

    def build(self, shapes: Shapes) -> nn.Module:
        from mmtune.networks.papers.joshi import LatentFusion

        return LatentFusion(self, shapes)

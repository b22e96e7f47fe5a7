"""Joshi's networks: an image CNN, an audio RNN, and their latent fusion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from mmtune.base.errors import InputError
from mmtune.base.rules import require_choice, require_count, require_range

NORM_CODES = ("l1-l2-l3-l4-l5", "l1-l2", "l1-l3-l4")


@dataclass(frozen=True, kw_only=True)
class ImageCNNConfig:
    """Joshi's image network: four unpadded convolutions 6-12-24-48, then 120-64-10 (section 2.2, figure 9).

    norm: which of the layers l1..l5 of the report's grid are batch-normalised. l1..l4 are the convolutions.
    l5: the report names five layers but prints four modules; "absent" follows the print (its parameter
        count is then the printed model's), "fc1" puts a BatchNorm1d on the first linear layer instead.
    pools: after which convolutions the two unprinted 2x2 pools stand; both give the printed 768 inputs.
    """

    modalities: ClassVar[tuple[str, ...]] = ("image",)
    kernel: int = 3
    activation: str = "tanh"
    norm: str = "l1-l2-l3-l4-l5"
    l5: str = "absent"
    pools: str = "2-4"
    dropout: float = 0.05

    def __post_init__(self) -> None:
        require_choice("kernel", self.kernel, (3, 5))
        require_choice("activation", self.activation, ("tanh", "relu"))
        require_choice("norm", self.norm, NORM_CODES)
        require_choice("l5", self.l5, ("absent", "fc1"))
        require_choice("pools", self.pools, ("2-4", "3-4"))
        require_range("dropout", self.dropout, 0.0, 0.95)


@dataclass(frozen=True, kw_only=True)
class AudioRNNConfig:
    """Joshi's audio network: an RNN, then linear layers 100-64-10, each batch-normalised (section 2.2, figure 10).

    view: "step" feeds the clip as one step of 507 values, as the report did; "sequence" as 39 steps of 13.
    """

    modalities: ClassVar[tuple[str, ...]] = ("audio",)
    hidden: int = 320
    layers: int = 1
    view: str = "step"

    def __post_init__(self) -> None:
        require_count("hidden", self.hidden, 1, 8192)
        require_count("layers", self.layers, 1, 8)
        require_choice("view", self.view, ("step", "sequence"))


@dataclass(frozen=True, kw_only=True)
class LatentFusionConfig:
    """Joshi's latent fusion: both embeddings side by side, then one or two linear layers (section 2.2).

    embedding: 64 joins the second-last layers of the encoders, 10 their ten outputs.
    encoders: "frozen" keeps the given encoders as they are, as the report did; "joint" trains all together.
    """

    modalities: ClassVar[tuple[str, ...]] = ("image", "audio")
    layers: int = 1
    embedding: int = 64
    encoders: str = "frozen"
    image: ImageCNNConfig = field(default_factory=ImageCNNConfig)
    audio: AudioRNNConfig = field(default_factory=AudioRNNConfig)

    def __post_init__(self) -> None:
        require_choice("layers", self.layers, (1, 2))
        require_choice("embedding", self.embedding, (10, 64))
        require_choice("encoders", self.encoders, ("frozen", "joint"))
        if self.encoders == "joint" and self.embedding == 10:
            raise InputError(
                "embedding must be 64 where encoders=joint, got 10: ten outputs are read off trained encoders"
            )

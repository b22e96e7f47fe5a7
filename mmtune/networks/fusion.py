"""Fusion heads over two encoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from mmtune.base.rules import CLASSES
from mmtune.networks.audio import AudioRNN
from mmtune.networks.config import LatentFusionConfig
from mmtune.networks.image import ImageCNN
from mmtune.networks.output import Output


class FusionHead(nn.Module):
    """Two embeddings side by side, then one linear layer, or two with a ReLU between them (Joshi, section 2.2).

    Takes (B, E) and (B, E); the embedding that it returns is their concatenation (B, 2E).
    """

    def __init__(self, embedding: int, layers: int) -> None:
        super().__init__()
        self.parts = {"image": embedding, "audio": embedding}
        wide = 2 * embedding
        inner = [nn.Linear(wide, embedding), nn.ReLU()] if layers == 2 else []
        self.layers = nn.Sequential(*inner, nn.Linear(embedding if inner else wide, CLASSES))

    def forward(self, image: Tensor, audio: Tensor) -> Output:
        joined = torch.cat([image, audio], dim=1)
        return Output(self.layers(joined), joined)


class LatentFusion(nn.Module):
    """An image and an audio encoder under one FusionHead (Joshi, section 2.2).

    Joint training fits each encoder's own classifier on its detached embedding, so that "what would this
    modality say alone" has an answer and the fused model is none the different for it.
    """

    def __init__(self, config: LatentFusionConfig) -> None:
        super().__init__()
        self.use_scores = config.embedding == CLASSES
        self.image = ImageCNN(config.image)
        self.audio = AudioRNN(config.audio)
        self.head = FusionHead(config.embedding, config.layers)
        self.parts = self.head.parts

    @property
    def encoders(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """By bank of rows, what makes of it what the head joins."""
        return {"images": self.encode_image, "clips": self.encode_audio}

    def encode_image(self, image: Tensor) -> Tensor:
        """(B, 1, 28, 28) to what the head joins, (B, 64) or (B, 10)."""
        embedding = self.image.embed(image)
        return self.image.classify(embedding) if self.use_scores else embedding

    def encode_audio(self, audio: Tensor) -> Tensor:
        """(B, 39, 13) to what the head joins, (B, 64) or (B, 10)."""
        embedding = self.audio.embed(audio)
        return self.audio.classify(embedding) if self.use_scores else embedding

    def forward(self, image: Tensor, audio: Tensor) -> Output:
        seen, heard = self.encode_image(image), self.encode_audio(audio)
        fused = self.head(seen, heard)
        if self.use_scores:
            return fused._replace(alone={"image": seen, "audio": heard})
        alone = {"image": self.image.classify(seen.detach()), "audio": self.audio.classify(heard.detach())}
        return fused._replace(alone=alone)

"""Image encoders."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import ClassVar

from torch import Tensor, nn

from mmtune.base.rules import CLASSES
from mmtune.data.dataset import IMAGE_SHAPE
from mmtune.networks.config import ImageCNNConfig
from mmtune.networks.inputs import one_channel
from mmtune.networks.layers import BatchNorm2d, CentredConv2d, Dropout, FlattenPlaces, Tanh
from mmtune.networks.output import Output

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": Tanh, "relu": nn.ReLU}
CHANNELS = (1, 6, 12, 24, 48)


def normalised_layers(code: str) -> frozenset[int]:
    """The layer numbers in a code such as "l1-l3-l4"."""
    return frozenset(int(name[1:]) for name in code.split("-"))


class ImageCNN(nn.Module):
    """Joshi's image CNN (section 2.2, figure 9); the first linear layer's input follows from kernel and pools."""

    embedding_size = 64
    parts: ClassVar[dict[str, int]] = {"image": embedding_size}

    def __init__(self, config: ImageCNNConfig) -> None:
        super().__init__()
        layers = normalised_layers(config.norm)
        pooled = {int(n) for n in config.pools.split("-")}
        activation = ACTIVATIONS[config.activation]
        blocks: list[nn.Module] = []
        for n, (before, after) in enumerate(itertools.pairwise(CHANNELS), start=1):
            if n in layers:
                blocks += [CentredConv2d(before, after, config.kernel), BatchNorm2d(after)]
            else:
                blocks.append(nn.Conv2d(before, after, config.kernel))
            # Pooling commutes with a monotone activation, which then sees a quarter of the elements.
            if n in pooled:
                blocks.append(nn.MaxPool2d(2))
            blocks.append(activation())
        self.convolutions = nn.Sequential(*blocks, FlattenPlaces())
        self.fc1 = nn.Linear(flat_size(config.kernel, pooled), 120)
        self.norm5 = nn.BatchNorm1d(120) if 5 in layers and config.l5 == "fc1" else nn.Identity()
        self.fc2 = nn.Linear(120, self.embedding_size)
        self.fc3 = nn.Linear(self.embedding_size, CLASSES)
        self.activation = activation()
        self.dropout = Dropout(config.dropout)

    def embed(self, image: Tensor) -> Tensor:
        """(B, 1, 28, 28) in [0, 1] to (B, 64)."""
        hidden = self.dropout(self.activation(self.norm5(self.fc1(self.convolutions(one_channel(image.squeeze(1)))))))
        return self.dropout(self.activation(self.fc2(hidden)))

    def classify(self, embedding: Tensor) -> Tensor:
        """(B, 64) to logits (B, 10)."""
        return self.fc3(embedding)

    def forward(self, image: Tensor, audio: Tensor | None = None) -> Output:
        embedding = self.embed(image)
        return Output(self.classify(embedding), embedding)


def flat_size(kernel: int, pooled: Collection[int]) -> int:
    """The number of values that the convolutions make of one picture."""
    side = IMAGE_SHAPE[0]
    for n in range(1, len(CHANNELS)):
        side = (side - kernel + 1) // (2 if n in pooled else 1)
    return CHANNELS[-1] * side**2

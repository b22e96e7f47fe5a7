"""Joshi's networks: an image CNN, an audio RNN, and the fusion of both."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from mmtune.base.errors import InputError
from mmtune.networks.config.base import require_picture, require_shape
from mmtune.networks.config.fusions import Head
from mmtune.networks.config.joshi import AudioRNNConfig, ImageCNNConfig, LatentFusionConfig
from mmtune.networks.fusions import head
from mmtune.networks.inputs import channels_last
from mmtune.networks.layers import BatchNorm2d, CentredConv2d, Dropout, FlattenPlaces, Tanh
from mmtune.networks.output import Output
from mmtune.networks.shapes import Shapes

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": Tanh, "relu": nn.ReLU}
CHANNELS = (6, 12, 24, 48)
EMBEDDING = 64


class ImageCNN(nn.Module):
    """Joshi's image CNN (section 2.2, figure 9); the first linear layer's input follows from kernel and pools."""

    parts: ClassVar[dict[str, int]] = {"image": EMBEDDING}

    def __init__(self, config: ImageCNNConfig, shapes: Shapes) -> None:
        super().__init__()
        colours, *sides = require_picture(shapes)
        normed = {int(name[1:]) for name in config.norm.split("-")}
        pooled = {int(n) for n in config.pools.split("-")}
        activation = ACTIVATIONS[config.activation]
        blocks: list[nn.Module] = []
        for n, (before, after) in enumerate(itertools.pairwise((colours, *CHANNELS)), start=1):
            if n in normed:
                blocks += [CentredConv2d(before, after, config.kernel), BatchNorm2d(after)]
            else:
                blocks.append(nn.Conv2d(before, after, config.kernel))
            # Pooling commutes with a monotone activation, which then sees a quarter of the elements.
            if n in pooled:
                blocks.append(nn.MaxPool2d(2))
            blocks.append(activation())
            sides = [(side - config.kernel + 1) // (2 if n in pooled else 1) for side in sides]
        if min(sides) < 1:
            raise InputError(f"image must be larger for kernel {config.kernel} and 2 pools, got {shapes['image']}")
        self.convolutions = nn.Sequential(*blocks, FlattenPlaces())
        self.fc1 = nn.Linear(CHANNELS[-1] * sides[0] * sides[1], 120)
        self.norm5 = nn.BatchNorm1d(120) if 5 in normed and config.l5 == "fc1" else nn.Identity()
        self.fc2 = nn.Linear(120, EMBEDDING)
        self.fc3 = nn.Linear(EMBEDDING, shapes.classes)
        self.activation = activation()
        self.dropout = Dropout(config.dropout)

    def embed(self, image: Tensor) -> Tensor:
        """(B, channels, H, W) in [0, 1] to (B, 64)."""
        hidden = self.dropout(self.activation(self.norm5(self.fc1(self.convolutions(channels_last(image))))))
        return self.dropout(self.activation(self.fc2(hidden)))

    def classify(self, embedding: Tensor) -> Tensor:
        """(B, 64) to logits (B, classes)."""
        return self.fc3(embedding)

    def forward(self, image: Tensor) -> Output:
        embedding = self.embed(image)
        return Output(self.classify(embedding), embedding)


class AudioRNN(nn.Module):
    """Joshi's audio RNN (section 2.2, figure 10).

    The report prints no activation between the linear layers; ReLU after each batch norm is assumed.
    """

    parts: ClassVar[dict[str, int]] = {"audio": EMBEDDING}

    def __init__(self, config: AudioRNNConfig, shapes: Shapes) -> None:
        super().__init__()
        steps, features = require_shape(shapes, "audio", 2)
        self.whole = config.view == "step"
        self.rnn = nn.RNN(steps * features if self.whole else features, config.hidden, config.layers, batch_first=True)
        self.fc1 = nn.Linear(config.hidden, 100)
        self.bn1 = nn.BatchNorm1d(100)
        self.fc2 = nn.Linear(100, EMBEDDING)
        self.bn2 = nn.BatchNorm1d(EMBEDDING)
        self.fc3 = nn.Linear(EMBEDDING, shapes.classes)
        self.bn3 = nn.BatchNorm1d(shapes.classes)

    def embed(self, audio: Tensor) -> Tensor:
        """(B, steps, features) to (B, 64): the RNN's last step through two linear layers."""
        last = one_step(self.rnn, audio.flatten(1)) if self.whole else self.rnn(audio)[0][:, -1]
        return self.bn2(self.fc2(self.bn1(self.fc1(last)).relu())).relu()

    def classify(self, embedding: Tensor) -> Tensor:
        """(B, 64) to logits (B, classes)."""
        return self.bn3(self.fc3(embedding))

    def forward(self, audio: Tensor) -> Output:
        embedding = self.embed(audio)
        return Output(self.classify(embedding), embedding)


def one_step(rnn: nn.RNN, x: Tensor) -> Tensor:
    """The RNN's output after a single step (B, features): from a state of zeros, whose weights have nothing to say."""
    for layer in range(rnn.num_layers):
        weight, bias = getattr(rnn, f"weight_ih_l{layer}"), getattr(rnn, f"bias_ih_l{layer}")
        x = torch.tanh(linear(x, weight, bias + getattr(rnn, f"bias_hh_l{layer}")))
    return x


class FusionHead(nn.Module):
    """Two embeddings side by side, then linear layers with ReLU between them, one or two of them in Joshi, section 2.2.

    Takes (B, E) and (B, E); the embedding that it returns is their concatenation (B, 2E).
    """

    def __init__(self, embedding: int, layers: int, classes: int) -> None:
        super().__init__()
        self.parts = {"image": embedding, "audio": embedding}
        hidden = Head(hidden=embedding, layers=layers - 1) if layers > 1 else Head()
        self.layers = head(hidden, 2 * embedding, classes)

    def forward(self, image: Tensor, audio: Tensor) -> Output:
        joined = torch.cat([image, audio], dim=1)
        return Output(self.layers(joined), joined)


class LatentFusion(nn.Module):
    """An image and an audio encoder under one FusionHead (Joshi, section 2.2).

    Joint training fits each encoder's own classifier on its detached embedding, so that "what would this
    modality say alone" has an answer and the fused model is none the different for it.
    """

    def __init__(self, config: LatentFusionConfig, shapes: Shapes) -> None:
        super().__init__()
        self.use_scores = config.embedding != EMBEDDING
        self.image = ImageCNN(config.image, shapes)
        self.audio = AudioRNN(config.audio, shapes)
        self.head = FusionHead(shapes.classes if self.use_scores else EMBEDDING, config.layers, shapes.classes)
        self.parts = self.head.parts

    @property
    def encoders(self) -> Mapping[str, Callable[[Tensor], Tensor]]:
        """By bank, what makes of its values what the head joins."""
        return {"image": partial(self.encode, self.image), "audio": partial(self.encode, self.audio)}

    def encode(self, encoder: ImageCNN | AudioRNN, values: Tensor) -> Tensor:
        """Pictures or clips (B, ...) to what the head joins, (B, 64) or (B, classes)."""
        embedding = encoder.embed(values)
        return encoder.classify(embedding) if self.use_scores else embedding

    def forward(self, image: Tensor, audio: Tensor) -> Output:
        seen, heard = self.encode(self.image, image), self.encode(self.audio, audio)
        fused = self.head(seen, heard)
        if self.use_scores:
            return fused._replace(alone={"image": seen, "audio": heard})
        alone = {"image": self.image.classify(seen.detach()), "audio": self.audio.classify(heard.detach())}
        return fused._replace(alone=alone)

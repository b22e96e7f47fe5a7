"""XFlow's CNN x MLP as the report prints it (Cangea et al., section 2.1, figures 1a and 4a), on stills and clips.

Keras' batch norm has epsilon 1e-3 and momentum .99, which is torch's .01; dense and convolutional layers begin with
Glorot-uniform weights and zero biases.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmtune.networks.config.xflow import XFlowMLPConfig

Shape = tuple[int, int, int]
HEIGHT, WIDTH, SOUND = 28, 28, 39 * 13


def norm1d(features: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(features, eps=1e-3, momentum=0.01)


def norm2d(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def keras(network: nn.Module) -> nn.Module:
    """The network with its layers begun as Keras does."""
    for layer in network.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return network


class PReLU(nn.Module):
    """A slope for every element, which torch's own has not; of four ways to write it this was the fastest on a CPU."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) - self.slope * torch.relu(-x)


def to_vector(shape: Shape, units: int) -> nn.Sequential:
    """The cross-connection from a map to a vector."""
    channels, height, width = shape
    return nn.Sequential(
        *(nn.Conv2d(channels, channels, 1), PReLU(*shape), norm2d(channels)),
        *(nn.Flatten(), nn.Linear(channels * height * width, units), PReLU(units)),
    )


def to_map(features: int, shape: Shape, kernel: int, dropout: float, *, normed: bool = False) -> nn.Sequential:
    """The cross-connection from a vector to a map; `normed`: with batch norm at its end."""
    channels, height, width = shape
    plane = (1, height - kernel + 1, width - kernel + 1)
    size = plane[1] * plane[2]
    return nn.Sequential(
        *(nn.Linear(features, size), PReLU(size), norm1d(size), nn.Dropout(dropout), nn.Unflatten(1, plane)),
        *(nn.ConvTranspose2d(1, channels, kernel), PReLU(*shape)),
        *([norm2d(channels)] if normed else []),
    )


def picture_to_vector(side: tuple[int, int], pool: int, stride: tuple[int, int], dropout: float) -> nn.Sequential:
    """The residual connection from the raw picture (B, 1, *side) to (B, 128)."""
    height, width = ((length - pool) // step + 1 for length, step in zip(side, stride, strict=True))
    pooled = (nn.MaxPool2d(pool, stride), nn.Dropout(dropout), nn.Flatten())
    return nn.Sequential(*pooled, nn.Linear(height * width, 128), PReLU(128))


def image_block(before: int, after: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.Conv2d(after, after, 3, padding=1), nn.ReLU()),
        *(norm2d(after), nn.MaxPool2d(2), nn.Dropout(dropout)),
    )


def dense_block(before: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(before, 128), nn.ReLU(), norm1d(128), nn.Dropout(dropout))


class Connections(nn.Module):
    """What crosses after the blocks of one level: streams in, streams and the crossing vector out."""

    def __init__(self, config: XFlowMLPConfig, level: int) -> None:
        super().__init__()
        c, channels, scale = config, (16, 32)[level], (2, 4)[level]
        shape = (channels, HEIGHT // scale, WIDTH // scale)
        kernel, pool = (c.kernel1, c.kernel2)[level], ((4, (4, 4)), (8, (8, 4)))[level]
        self.cross, self.residual = c.cross, c.residual
        if c.cross:
            self.image_to_vector = to_vector(shape, (64, 128)[level])
            self.vector_to_image = to_map(128, shape, kernel, c.dense_dropout)
        if c.residual:
            self.picture_to_vector = picture_to_vector((HEIGHT, WIDTH), *pool, c.pool_dropout)
            dropout = (c.pool_dropout, c.dense_dropout)[level]
            self.sound_to_image = to_map(SOUND, shape, kernel, dropout, normed=level == 0)

    def forward(
        self, picture: Tensor, sound: Tensor, image: Tensor, audio: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        vector = self.image_to_vector(image) if self.cross else None
        drawn = self.vector_to_image(audio) if self.cross else None
        if self.residual:
            image, audio = image + self.sound_to_image(sound), audio + self.picture_to_vector(picture)
        return beside(drawn, image), audio, vector


def beside(crossed: Tensor | None, stream: Tensor) -> Tensor:
    return stream if crossed is None else torch.cat([crossed, stream], dim=1)


class XFlow(nn.Module):
    """CNN x MLP; its baseline where the configuration has no connections."""

    def __init__(self, config: XFlowMLPConfig) -> None:
        super().__init__()
        c, both, vectors = config, 2 if config.cross else 1, (64, 128) if config.cross else (0, 0)
        connected = c.cross or c.residual
        self.norm = norm2d(1)
        self.image1 = image_block(1, 16, c.pool_dropout)
        self.audio1 = dense_block(SOUND, c.dense_dropout)
        self.connections1 = Connections(c, 0)
        self.join_image1 = joint(norm2d(both * 16), c.dense_dropout, connected)
        self.join_audio1 = joint(norm1d(128 + vectors[0]), c.dense_dropout, connected)
        self.image2 = image_block(both * 16, 32, c.pool_dropout)
        dense = nn.Sequential(nn.Linear(128, 128), nn.ReLU())
        self.audio2 = dense_block(128 + vectors[0], c.dense_dropout) if connected else dense
        self.connections2 = Connections(c, 1)
        self.join_image2 = joint(norm2d(both * 32), c.dense_dropout, connected)
        flat = both * 32 * (HEIGHT // 4) * (WIDTH // 4)
        self.image3 = nn.Sequential(nn.Flatten(), nn.Linear(flat, 256), nn.ReLU())
        merged = vectors[1] + 256 + 128
        self.head = nn.Sequential(
            *(norm1d(merged), nn.Dropout(c.merge_dropout), nn.Linear(merged, 512), nn.ReLU()),
            *(nn.Dropout(c.merge_dropout), nn.Linear(512, 10)),
        )
        keras(self)

    def forward(self, image: Tensor, audio: Tensor) -> Tensor:
        picture, sound = self.norm(image), audio.flatten(1)
        seen, heard, vector = self.connections1(picture, sound, self.image1(picture), self.audio1(sound))
        seen = self.image2(self.join_image1(seen))
        heard = self.audio2(self.join_audio1(beside(vector, heard)))
        seen, heard, vector = self.connections2(picture, sound, seen, heard)
        return self.head(beside(vector, torch.cat([self.image3(self.join_image2(seen)), heard], dim=1)))


def joint(norm: nn.Module, dropout: float, connected: bool) -> nn.Module:
    """Batch norm and dropout where streams join."""
    return nn.Sequential(norm, nn.Dropout(dropout)) if connected else nn.Identity()

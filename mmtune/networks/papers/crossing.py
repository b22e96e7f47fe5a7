"""Connections that carry one modality's features into another's stream (XFlow, section 2.1, figure 1b).

Cross-connections turn a 2-D feature map into a vector, and a vector into a map; residual ones do so to the raw
inputs. Each is a module by itself, which knows nothing of the streams that it stands between. They begin as the
authors' Keras made them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.compiler import is_exporting
from torch.nn.functional import conv_transpose2d

from mmtune.networks.layers import Dropout, ElementPReLU, in_maps, in_rows
from mmtune.networks.papers.keras import WarmNorm1d, WarmNorm2d, glorot

Shape = tuple[int, int, int]


class CrossTo1D(nn.Module):
    """A feature map (B, *shape) to a vector (B, units): 1x1 convolution, batch norm if `norm`, dense layer."""

    def __init__(self, shape: Shape, units: int, *, norm: bool = False) -> None:
        super().__init__()
        channels, height, width = shape
        self.mix = glorot(nn.Conv2d(channels, channels, 1))
        self.mixed = ElementPReLU(*shape)
        self.norm = WarmNorm2d(channels) if norm else nn.Identity()
        self.dense = glorot(nn.Linear(channels * height * width, units))
        self.activation = ElementPReLU(units)

    def forward(self, image: Tensor) -> Tensor:
        mixed = self.norm(self.mixed(self.mix(image)))
        return self.activation(self.dense(in_rows(mixed)))


def enlarge(planes: Tensor, layer: nn.ConvTranspose2d) -> Tensor:
    """`layer` of planes (B, 1, h, w). Where they outnumber their pixels, it is asked once for each pixel alone.

    Every plane is a sum of its pixels and the layer is linear, so a matrix product then makes the maps; on a CPU
    that is three times as fast.
    """
    pixels = planes[0].numel()
    # An exported graph is for any number of planes, and cannot choose.
    if is_exporting() or len(planes) <= pixels:
        return layer(planes)
    alone = torch.eye(pixels, dtype=planes.dtype, device=planes.device).view(pixels, *planes.shape[1:])
    maps = conv_transpose2d(alone, layer.weight)
    made = in_maps(torch.mm(planes.flatten(1), in_rows(maps)), torch.Size([len(planes), *maps.shape[1:]]))
    return made if layer.bias is None else made + layer.bias[:, None, None]


class CrossTo2D(nn.Module):
    """A vector (B, features) to a feature map (B, *shape): a small plane that a transposed convolution enlarges.

    The plane is H - kernel + 1 by W - kernel + 1; batch norm if `norm` and dropout come before it is enlarged.
    """

    def __init__(self, features: int, shape: Shape, kernel: int, *, norm: bool = False, dropout: float = 0.0) -> None:
        super().__init__()
        channels, height, width = shape
        self.plane = (1, height - kernel + 1, width - kernel + 1)
        size = self.plane[1] * self.plane[2]
        self.draw = glorot(nn.Linear(features, size))
        self.drawn = ElementPReLU(size)
        self.norm = WarmNorm1d(size) if norm else nn.Identity()
        self.dropout = Dropout(dropout)
        self.enlarge = glorot(nn.ConvTranspose2d(1, channels, kernel))
        self.activation = ElementPReLU(*shape)

    def forward(self, audio: Tensor) -> Tensor:
        plane = self.dropout(self.norm(self.drawn(self.draw(audio))))
        return self.activation(enlarge(plane.unflatten(1, self.plane), self.enlarge))


class ResidualTo1D(nn.Module):
    """A raw picture (B, *shape) to a vector (B, units), to be added to a stream that wide: max pool, dense layer."""

    def __init__(self, shape: Shape, units: int, pool: int, stride: tuple[int, int], *, dropout: float = 0.0) -> None:
        super().__init__()
        channels, height, width = shape
        pooled = channels * ((height - pool) // stride[0] + 1) * ((width - pool) // stride[1] + 1)
        self.pool = nn.MaxPool2d(pool, stride)
        self.dropout = Dropout(dropout)
        self.dense = glorot(nn.Linear(pooled, units))
        self.activation = ElementPReLU(units)

    def forward(self, image: Tensor) -> Tensor:
        return self.activation(self.dense(self.dropout(self.pool(image)).flatten(1)))


class ResidualTo2D(nn.Module):
    """Raw values (B, features) to a map (B, *shape), to be added to a stream of that shape.

    It is `CrossTo2D` on the input, with another batch norm at its end if `norm_map`.
    """

    def __init__(
        self,
        features: int,
        shape: Shape,
        kernel: int,
        *,
        norm: bool = False,
        norm_map: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.cross = CrossTo2D(features, shape, kernel, norm=norm, dropout=dropout)
        self.norm = WarmNorm2d(shape[0]) if norm_map else nn.Identity()

    def forward(self, audio: Tensor) -> Tensor:
        return self.norm(self.cross(audio))


class Crossed(NamedTuple):
    """Both streams after a `Junction`, the 2D-to-1D cross-connection, and the maps of the 1D-to-2D ones by kind."""

    image: Tensor
    audio: Tensor
    vector: Tensor | None
    maps: dict[str, Tensor]


class Junction(nn.ModuleDict):
    """The connections between two blocks: as far as they are there, {cross, residual}_to_audio and _to_image.

    Residuals are added to their stream. The 1D-to-2D cross-connection is put before the image stream's channels;
    the 2D-to-1D one is handed over by itself, for a network joins it here or at its head. No connection sees
    another one's contribution.
    """

    def forward(self, picture: Tensor, sound: Tensor, image: Tensor, audio: Tensor) -> Crossed:
        """Takes the raw inputs (P, C, H, W) and (N, values) and the streams (P or N, ...) and (N, units).

        N is a multiple of P: so many sounds in a row share a picture. What depends on pictures alone stays with P rows.
        """
        vector = self["cross_to_audio"](image) if "cross_to_audio" in self else None
        heard = {"cross": audio, "residual": sound}
        maps = {kind: self[f"{kind}_to_image"](x) for kind, x in heard.items() if f"{kind}_to_image" in self}
        if "residual" in maps:
            image = repeat(image, sound.shape[0]) + maps["residual"]
        if "cross" in maps:
            image = torch.cat([maps["cross"], repeat(image, sound.shape[0])], dim=1)
        if "residual_to_audio" in self:
            audio = audio + repeat(self["residual_to_audio"](picture), sound.shape[0])
        return Crossed(image, audio, vector, maps)


def repeat(x: Tensor, rows: int) -> Tensor:
    """(P, ...) to (rows, ...), every row as often in a row as that takes."""
    return x if x.shape[0] == rows else x.repeat_interleave(rows // x.shape[0], dim=0)

"""Subrahmanya's network: convolutions on the picture, convolutions over time on the spectrogram, dense layers."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from mmtune.base.errors import InputError
from mmtune.networks.config.base import require_picture
from mmtune.networks.config.subrahmanya import SpectrogramFusionConfig
from mmtune.networks.inputs import CoefficientsFirst, ScaledByMaximum, Spectrogram, Training, channels_last
from mmtune.networks.layers import BatchNorm2d, Dropout, FlattenPlaces
from mmtune.networks.output import Output
from mmtune.networks.shapes import Shapes

KERNEL = 3
Layer = Callable[..., nn.Module]


class SpectrogramFusion(nn.Module):
    """Subrahmanya's network (section 2.2): both pathways' feature maps, flat and side by side, then dense layers.

    The report has no narrow layer in a modality's own pathway; its flat maps are thousands wide. The embedding's
    parts are therefore what each modality adds to the first dense layer, W_image f_image and W_audio f_audio,
    (B, hidden) each: with the bias, their sum is that layer's output.
    """

    def __init__(self, config: SpectrogramFusionConfig, shapes: Shapes) -> None:
        super().__init__()
        (colours, *sides), (bins, frames) = require_picture(shapes), config.sound(shapes)
        features = Spectrogram(config.n_fft, config.hop) if config.view == "stft" else CoefficientsFirst()
        hidden, rate = config.hidden, config.dropout
        top = config.filters * 2 ** (config.layers - 1)
        shrink = 2**config.layers
        if min(sides) < shrink:
            raise InputError(
                f"image must have {shrink} pixels a side or more where layers={config.layers}, got {sides}"
            )
        self.widths = (top * (sides[0] // shrink) * (sides[1] // shrink), top * (frames // shrink))
        self.heard = config.reads[1]
        self.parts = {"image": hidden, "audio": hidden}
        self.scaled = ScaledByMaximum(features)
        self.image = nn.Sequential(*blocks(colours, config, nn.Conv2d, BatchNorm2d, nn.MaxPool2d), FlattenPlaces())
        # The bins are channels, so that filters move in time alone.
        audio = blocks(bins, config, nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d)
        self.audio = nn.Sequential(*audio, FlattenPlaces())
        self.fc = nn.Linear(sum(self.widths), hidden)
        more = [(nn.Linear(hidden, hidden), nn.ReLU(), Dropout(rate)) for _ in range(config.fc_layers - 1)]
        self.head = nn.Sequential(nn.ReLU(), Dropout(rate), *itertools.chain(*more), nn.Linear(hidden, shapes.classes))

    def prepare(self, training: Training) -> None:
        """Take the maximum over the training rows' waveforms or features."""
        self.scaled.prepare(training[self.heard][0])

    def forward(self, image: Tensor, **sound: Tensor) -> Output:
        """sound: the waveform (B, samples), or audio (B, steps, features), as the configuration reads it."""
        of_image, of_audio = self.fc.weight.split(self.widths, dim=1)
        seen = linear(self.image(channels_last(image)), of_image)
        heard = linear(self.audio(self.scaled(sound[self.heard])), of_audio)
        return Output(self.head(seen + heard + self.fc.bias), torch.cat([seen, heard], dim=1))


def blocks(before: int, config: SpectrogramFusionConfig, conv: Layer, norm: Layer, pool: Layer) -> list[nn.Module]:
    """Convolution, BN, pool and ReLU, `config.layers` times; each halves the sizes of (B, before, ...)."""
    channels = [before, *(config.filters * 2**n for n in range(config.layers))]
    # ReLU comes after the pool: the same, and less work.
    return [
        layer
        for few, many in itertools.pairwise(channels)
        for layer in (conv(few, many, KERNEL, padding=1), norm(many), pool(2), nn.ReLU())
    ]

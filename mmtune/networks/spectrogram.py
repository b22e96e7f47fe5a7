"""Subrahmanya's network: convolutions on the picture, convolutions over time on the spectrogram, dense layers."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from mmtune.base.rules import CLASSES
from mmtune.data.dataset import IMAGE_SHAPE
from mmtune.networks.config.subrahmanya import SpectrogramFusionConfig
from mmtune.networks.inputs import CoefficientsFirst, ScaledByMaximum, Spectrogram, one_channel
from mmtune.networks.layers import BatchNorm2d, Dropout, FlattenPlaces
from mmtune.networks.output import Output

KERNEL = 3
Layer = Callable[..., nn.Module]


class SpectrogramFusion(nn.Module):
    """Subrahmanya's network (section 2.2): both pathways' feature maps, flat and side by side, then dense layers.

    The report has no narrow layer in a modality's own pathway; its flat maps are thousands wide. The embedding's
    parts are therefore what each modality adds to the first dense layer, W_image f_image and W_audio f_audio,
    (B, hidden) each: with the bias, their sum is that layer's output.
    """

    def __init__(self, config: SpectrogramFusionConfig) -> None:
        super().__init__()
        features = Spectrogram(config.n_fft, config.hop) if config.view == "stft" else CoefficientsFirst()
        hidden, rate = config.hidden, config.dropout
        top = config.filters * 2 ** (config.layers - 1)
        shrink = 2**config.layers
        self.widths = (top * (IMAGE_SHAPE[0] // shrink) ** 2, top * (config.frames // shrink))
        self.parts = {"image": hidden, "audio": hidden}
        self.scaled = ScaledByMaximum(features)
        self.image = nn.Sequential(*blocks(1, config, nn.Conv2d, BatchNorm2d, nn.MaxPool2d), FlattenPlaces())
        # The bins are channels, so that filters move in time alone.
        audio = blocks(config.bins, config, nn.Conv1d, nn.BatchNorm1d, nn.MaxPool1d)
        self.audio = nn.Sequential(*audio, FlattenPlaces())
        self.fc = nn.Linear(sum(self.widths), hidden)
        more = [(nn.Linear(hidden, hidden), nn.ReLU(), Dropout(rate)) for _ in range(config.fc_layers - 1)]
        self.head = nn.Sequential(nn.ReLU(), Dropout(rate), *itertools.chain(*more), nn.Linear(hidden, CLASSES))

    def prepare(self, audio: Tensor, weights: Tensor) -> None:
        """Take the maximum over the training rows' waveforms (m, 16000) int16, or clips (m, 39, 13)."""
        self.scaled.prepare(audio, weights)

    def forward(self, image: Tensor, audio: Tensor) -> Output:
        of_image, of_audio = self.fc.weight.split(self.widths, dim=1)
        seen = linear(self.image(one_channel(image.squeeze(1))), of_image)
        heard = linear(self.audio(self.scaled(audio)), of_audio)
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

"""Bajaj's FusionModel: two CNN encoders of 64 outputs, joined by one linear layer."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mmtune.networks.config.bajaj import DualCNNConfig
from mmtune.networks.config.base import require_picture, require_shape
from mmtune.networks.inputs import Standardised, Training, channels_last, one_channel
from mmtune.networks.layers import Conv1d, Dropout, FlattenPlaces
from mmtune.networks.output import Output
from mmtune.networks.shapes import Shapes

EMBEDDING, HIDDEN = 64, 128


class DualCNN(nn.Module):
    """Bajaj's network as printed (section 2.2), with the audio's StandardScaler (section 2.1) as its first layer."""

    def __init__(self, config: DualCNNConfig, shapes: Shapes) -> None:
        super().__init__()
        (colours, *sides), sound = require_picture(shapes), require_shape(shapes, "audio", 2)
        height, width = (config.left_of("image", side) for side in sides)
        kernel, stride, rate = config.kernel, config.stride, config.dropout
        self.parts = {"image": EMBEDDING, "audio": EMBEDDING}
        self.standardised = Standardised(sound)
        # Each ReLU comes after its pool: the same as printed, and less work.
        self.image = nn.Sequential(
            *(nn.Conv2d(colours, 16, kernel, stride, kernel // 2), nn.MaxPool2d(2), nn.ReLU(), Dropout(rate)),
            *(nn.Conv2d(16, 32, kernel, stride, kernel // 2), nn.MaxPool2d(2), nn.ReLU(), Dropout(rate)),
            *linear_layers(32 * height * width, rate),
        )
        self.audio = nn.Sequential(
            *(Conv1d(1, 32, kernel, stride, kernel // 2), nn.MaxPool1d(2), nn.ReLU(), Dropout(rate)),
            *(Conv1d(32, 64, kernel, stride, kernel // 2), nn.MaxPool1d(2), nn.ReLU(), Dropout(rate)),
            *linear_layers(64 * config.left_of("audio", math.prod(sound)), rate),
        )
        self.fc = nn.Linear(2 * EMBEDDING, shapes.classes)

    def prepare(self, training: Training) -> None:
        """Fit the scaler to the training rows' audio."""
        self.standardised.prepare(*training["audio"])

    def forward(self, image: Tensor, audio: Tensor) -> Output:
        seen = self.image(channels_last(image))
        heard = self.audio(one_channel(self.standardised(audio)))
        joined = torch.cat([seen, heard], dim=1)
        return Output(self.fc(joined), joined)


def linear_layers(flat: int, rate: float) -> list[nn.Module]:
    """Feature maps of `flat` values in all to (B, 64)."""
    return [
        FlattenPlaces(),
        *(nn.Linear(flat, HIDDEN), nn.ReLU(), Dropout(rate)),
        *(nn.Linear(HIDDEN, EMBEDDING), nn.ReLU()),
    ]

"""Bajaj's FusionModel: two CNN encoders of 64 outputs, joined by one linear layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmtune.base.rules import CLASSES
from mmtune.networks.config.bajaj import DualCNNConfig
from mmtune.networks.inputs import Standardised, one_channel
from mmtune.networks.layers import Conv1d, Dropout, FlattenPlaces
from mmtune.networks.output import Output

EMBEDDING, HIDDEN = 64, 128


class DualCNN(nn.Module):
    """Bajaj's network as printed (section 2.2), with the audio's StandardScaler (section 2.1) as its first layer."""

    def __init__(self, config: DualCNNConfig) -> None:
        super().__init__()
        kernel, stride, rate = config.kernel, config.stride, config.dropout
        self.parts = {"image": EMBEDDING, "audio": EMBEDDING}
        self.standardised = Standardised()
        # Each ReLU comes after its pool: the same as printed, and less work.
        self.image = nn.Sequential(
            *(nn.Conv2d(1, 16, kernel, stride, kernel // 2), nn.MaxPool2d(2), nn.ReLU(), Dropout(rate)),
            *(nn.Conv2d(16, 32, kernel, stride, kernel // 2), nn.MaxPool2d(2), nn.ReLU(), Dropout(rate)),
            *linear_layers(32 * config.image_side**2, rate),
        )
        self.audio = nn.Sequential(
            *(Conv1d(1, 32, kernel, stride, kernel // 2), nn.MaxPool1d(2), nn.ReLU(), Dropout(rate)),
            *(Conv1d(32, 64, kernel, stride, kernel // 2), nn.MaxPool1d(2), nn.ReLU(), Dropout(rate)),
            *linear_layers(64 * config.audio_length, rate),
        )
        self.fc = nn.Linear(2 * EMBEDDING, CLASSES)

    def prepare(self, audio: Tensor, weights: Tensor) -> None:
        """Fit the scaler to the training rows' distinct clips (m, 39, 13), used in weights (m,) rows each."""
        self.standardised.prepare(audio, weights)

    def forward(self, image: Tensor, audio: Tensor) -> Output:
        seen = self.image(one_channel(image.squeeze(1)))
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

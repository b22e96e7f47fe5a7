"""Audio encoders."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from mmtune.base.rules import CLASSES
from mmtune.data.dataset import AUDIO_SHAPE
from mmtune.networks.config import AudioRNNConfig
from mmtune.networks.output import Output

STEPS, COEFFICIENTS = AUDIO_SHAPE


class AudioRNN(nn.Module):
    """Joshi's audio RNN (section 2.2, figure 10).

    The report prints no activation between the linear layers; ReLU after each batch norm is assumed.
    """

    embedding_size = 64
    parts: ClassVar[dict[str, int]] = {"audio": embedding_size}

    def __init__(self, config: AudioRNNConfig) -> None:
        super().__init__()
        self.view = (1, STEPS * COEFFICIENTS) if config.view == "step" else AUDIO_SHAPE
        self.rnn = nn.RNN(self.view[1], config.hidden, config.layers, batch_first=True)
        self.fc1 = nn.Linear(config.hidden, 100)
        self.bn1 = nn.BatchNorm1d(100)
        self.fc2 = nn.Linear(100, self.embedding_size)
        self.bn2 = nn.BatchNorm1d(self.embedding_size)
        self.fc3 = nn.Linear(self.embedding_size, CLASSES)
        self.bn3 = nn.BatchNorm1d(CLASSES)
        self.activation = nn.ReLU()

    def embed(self, audio: Tensor) -> Tensor:
        """(B, 39, 13) to (B, 64): the RNN's last step through two linear layers."""
        hidden = self.activation(self.bn1(self.fc1(self.last_step(audio))))
        return self.activation(self.bn2(self.fc2(hidden)))

    def last_step(self, audio: Tensor) -> Tensor:
        """(B, 39, 13) to the RNN's last output, (B, hidden)."""
        if self.view[0] == 1:
            return one_step(self.rnn, audio.flatten(1))
        steps: Tensor = self.rnn(audio)[0]
        return steps[:, -1]

    def classify(self, embedding: Tensor) -> Tensor:
        """(B, 64) to logits (B, 10)."""
        return self.bn3(self.fc3(embedding))

    def forward(self, image: Tensor | None, audio: Tensor) -> Output:
        embedding = self.embed(audio)
        return Output(self.classify(embedding), embedding)


def one_step(rnn: nn.RNN, x: Tensor) -> Tensor:
    """The RNN's output after a single step (B, features): from a state of zeros, whose weights have nothing to say."""
    for layer in range(rnn.num_layers):
        weight, bias = getattr(rnn, f"weight_ih_l{layer}"), getattr(rnn, f"bias_ih_l{layer}")
        x = torch.tanh(linear(x, weight, bias + getattr(rnn, f"bias_hh_l{layer}")))
    return x

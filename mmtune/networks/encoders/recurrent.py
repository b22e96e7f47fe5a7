"""By recurrent networks, in one direction or both, over as many steps as there are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmtune.networks.config.encoders import Recurrent
from mmtune.networks.encoders.over_time import feature_norm, valid_mean
from mmtune.networks.inputs import valid_steps
from mmtune.networks.layers import Dropout
from mmtune.networks.shapes import Shape, require_kind

CELLS: dict[str, type[nn.RNN | nn.GRU | nn.LSTM]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def turned(valid: Tensor) -> Tensor:
    """For steps of which the first are valid (B, T), where each goes when their order is turned round, (B, T, 1).

    Padding stays behind, so that a sequence read backwards begins with its own last step. Turned twice is unturned.
    """
    steps = valid.shape[1]
    return (valid.sum(1, keepdim=True) - 1 - torch.arange(steps, device=valid.device)).remainder(steps).unsqueeze(2)


def steps_at(x: Tensor, places: Tensor) -> Tensor:
    """Of features over time (B, T, F) the steps at places (B, S, 1) int64, (B, S, F).

    torch's take_along_dim cannot be traced for any number of rows.
    """
    return x.gather(1, places.expand(-1, -1, x.shape[2]))


class RecurrentLayer(nn.Module):
    """Features over time (B, T, F) to states (B, T, hidden), or (B, T, 2 hidden) with those of the direction back.

    places: as `turned` gives them.
    """

    def __init__(self, config: Recurrent, features: int) -> None:
        super().__init__()
        cell = CELLS[config.cell]
        self.there = cell(features, config.hidden, batch_first=True)
        self.back = cell(features, config.hidden, batch_first=True) if config.bidirectional else None

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        there: Tensor = self.there(x)[0]
        if self.back is None:
            return there
        back: Tensor = self.back(steps_at(x, places))[0]
        return torch.cat([there, steps_at(back, places)], dim=2)


class RecurrentEncoder(nn.Module):
    """Features over time (B, T, F) to (B, width)."""

    def __init__(self, config: Recurrent, shape: Shape) -> None:
        super().__init__()
        require_kind(config, shape, 2)
        self.hidden, self.mean = config.hidden, config.summary == "mean"
        states = 2 * config.hidden if config.bidirectional else config.hidden
        self.norm = feature_norm(config.norm, shape[1])
        self.layers = nn.ModuleList(
            RecurrentLayer(config, features) for features in (shape[1], *[states] * (config.layers - 1))
        )
        self.dropout = Dropout(config.dropout)
        self.ending = nn.Sequential(nn.Linear(states, config.width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        valid = valid_steps(x)
        places, states = turned(valid), self.norm(x)
        for layer in self.layers:
            states = self.dropout(layer(states, places))
        return self.ending(valid_mean(states, valid) if self.mean else self.last(states, places))

    def last(self, states: Tensor, places: Tensor) -> Tensor:
        """The states (B, ...) after all of a sequence: at its last valid step, and at its first for the way back."""
        there = steps_at(states, places[:, :1]).squeeze(1)[:, : self.hidden]
        return torch.cat([there, states[:, 0, self.hidden :]], dim=1)

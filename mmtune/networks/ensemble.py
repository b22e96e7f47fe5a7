"""Several networks as one: the mean of what they say."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from mmtune.networks.config.ensemble import Ensemble
from mmtune.networks.output import Output, answer
from mmtune.networks.shapes import Shapes


class EnsembleNetwork(nn.Module):
    """Members that each read their banks; logits are the logarithms of mean probabilities.

    The embedding is what the members make, side by side.
    """

    def __init__(self, config: Ensemble, shapes: Shapes) -> None:
        super().__init__()
        self.members = nn.ModuleDict({name: own.build(shapes) for name, own in config.members.items()})
        self.reads = {name: own.reads for name, own in config.members.items()}
        self.weights, self.temperatures = dict(config.weights), dict(config.temperatures)

    @property
    def encoders(self) -> nn.Module | None:
        """Those of the member that counts most, by which it is told what is like training."""
        # Of two that count the same the first.
        heaviest = self.members[max(self.weights, key=lambda name: self.weights[name])]
        return getattr(heaviest, "encoders", None)

    def forward(self, **banks: Tensor) -> Output:
        said = {
            name: answer(member, {bank: banks[bank] for bank in self.reads[name]})
            for name, member in self.members.items()
        }
        alone = {
            bank: self.mixed({name: own.alone[bank] for name, own in said.items() if bank in self.reads[name]})
            for bank in self.speaking(said)
        }
        embedding = torch.cat([own.embedding for own in said.values()], dim=1)
        return Output(self.mixed({name: own.logits for name, own in said.items()}), embedding, alone)

    def speaking(self, said: Mapping[str, Output]) -> list[str]:
        """The banks for which each member that reads them has an answer of its own."""
        banks = dict.fromkeys(bank for own in self.reads.values() for bank in own)
        return [
            bank for bank in banks if all(bank in own.alone for name, own in said.items() if bank in self.reads[name])
        ]

    def mixed(self, logits: Mapping[str, Tensor]) -> Tensor:
        """The logarithm (B, C) of the weighted mean of what members' logits (B, C) say."""
        whole = sum(self.weights[name] for name in logits)
        parts = [
            log_softmax(own / self.temperatures[name], dim=1) + math.log(self.weights[name] / whole)
            for name, own in logits.items()
        ]
        return torch.logsumexp(torch.stack(parts), dim=0)

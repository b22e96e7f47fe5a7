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
    def heaviest(self) -> nn.Module:
        """The member that counts most, of equal ones the first: by it is told what is like training."""
        return self.members[max(self.weights, key=lambda name: self.weights[name])]

    @property
    def encoders(self) -> nn.Module | None:
        """The heaviest one's."""
        return getattr(self.heaviest, "encoders", None)

    def forward(self, **banks: Tensor) -> Output:
        said = {
            name: answer(member, {bank: banks[bank] for bank in self.reads[name]})
            for name, member in self.members.items()
        }
        told = {name: self.told_alone(name, own) for name, own in said.items()}
        alone = {
            bank: self.mixed({name: own[bank] for name, own in told.items() if bank in self.reads[name]})
            for bank in self.speaking(told)
        }
        embedding = torch.cat([own.embedding for own in said.values()], dim=1)
        return Output(self.mixed({name: own.logits for name, own in said.items()}), embedding, alone)

    def told_alone(self, name: str, said: Output) -> Mapping[str, Tensor]:
        """What a member says of each bank by itself; of the one that it reads, if it is one, all that it says."""
        return said.alone if len(self.reads[name]) > 1 else dict.fromkeys(self.reads[name], said.logits)

    def speaking(self, told: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
        """The banks for which each member that reads them has an answer of its own."""
        banks = dict.fromkeys(bank for own in self.reads.values() for bank in own)
        if len(banks) == 1:
            return []
        return [bank for bank in banks if all(bank in own for name, own in told.items() if bank in self.reads[name])]

    def mixed(self, logits: Mapping[str, Tensor]) -> Tensor:
        """The logarithm (B, C) of the weighted mean of what members' logits (B, C) say."""
        whole = sum(self.weights[name] for name in logits)
        parts = [
            log_softmax(own / self.temperatures[name], dim=1) + math.log(self.weights[name] / whole)
            for name, own in logits.items()
        ]
        return torch.logsumexp(torch.stack(parts), dim=0)

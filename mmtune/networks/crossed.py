"""Encoders that tell each other what they see while they are seeing it: XFlow's crossing, between residual blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmtune.base.errors import InputError
from mmtune.networks.encoders.convolutional import Residual
from mmtune.networks.fusions import by_bank


class Crossing(nn.Module):
    """Each bank's maps (B, channels[bank], ...), to which a linear layer of the others' means over places is added."""

    def __init__(self, channels: Mapping[str, int]) -> None:
        super().__init__()
        total = sum(channels.values())
        self.told = by_bank({bank: nn.Linear(total - own, own) for bank, own in channels.items()})

    def forward(self, maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        means = {bank: own.mean((2, 3)) for bank, own in maps.items()}
        others = {bank: torch.cat([means[other] for other in maps if other != bank], dim=1) for bank in maps}
        return {bank: own + self.told[bank](others[bank])[:, :, None, None] for bank, own in maps.items()}


class CrossedStreams(nn.Module):
    """Values of several banks (B, *shape) to the vectors (B, width) of their encoders, which it does not own.

    After each of their residual blocks, as far as all have so many, there is a `Crossing`.
    """

    def __init__(self, encoders: nn.ModuleDict) -> None:
        """Raises InputError unless two or more encoders are layers in turn, with residual blocks among them."""
        super().__init__()
        if len(encoders) < 2:
            raise InputError(f"crossed must be False where one bank is read, got {', '.join(encoders)} alone")
        blocks = {bank: residual_blocks(bank, encoder) for bank, encoder in encoders.items()}
        levels = min(map(len, blocks.values()))
        self.ends = {bank: [place + 1 for place, _ in own[:levels]] for bank, own in blocks.items()}
        self.crossings = nn.ModuleList(
            Crossing({bank: own[level][1] for bank, own in blocks.items()}) for level in range(levels)
        )

    def forward(self, encoders: Mapping[str, Any], banks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        made, begun = banks, dict.fromkeys(self.ends, 0)
        for level, crossing in enumerate(self.crossings):
            ended = {bank: own[level] for bank, own in self.ends.items()}
            made = crossing({bank: encoders[bank][begun[bank] : ended[bank]](made[bank]) for bank in ended})
            begun = ended
        return {bank: encoders[bank][place:](made[bank]) for bank, place in begun.items()}


def residual_blocks(bank: str, encoder: nn.Module) -> list[tuple[int, int]]:
    """The places of an encoder's residual blocks among its layers, and how many channels each makes."""
    layers = encoder if isinstance(encoder, nn.Sequential) else ()
    found = [(place, layer.channels) for place, layer in enumerate(layers) if isinstance(layer, Residual)]
    if not found:
        raise InputError(
            "crossed must be False with an encoder that has no residual blocks in turn, as SmallResNet has and "
            f"LogMelResNet without test_speed, got such a one for {bank}"
        )
    return found

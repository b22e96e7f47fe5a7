"""The shapes of spoken and written digits, for which the papers print their sizes."""

from __future__ import annotations

from typing import Any

import torch

from mmtune.networks.shapes import Shapes

DIGITS = Shapes(banks={"image": (1, 28, 28), "audio": (39, 13), "waveform": (16_000,), "speech": (16_000,)}, classes=10)


def built(config: Any, shapes: Shapes = DIGITS) -> Any:
    """The network of a configuration."""
    return config.build(shapes)


def inputs_for(config: Any, rows: int, shapes: Shapes = DIGITS) -> dict[str, torch.Tensor]:
    """Random values of what a network reads, by bank."""
    return {bank: torch.rand(rows, *shapes[bank]) for bank in config.reads}


def drawn_alike(config: Any, shapes: Shapes = DIGITS) -> bool:
    """Whether the same seed draws the same weights."""
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(config.build(shapes).state_dict())
    return all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])

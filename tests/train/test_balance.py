"""Gradients held in balance: the encoder that is ahead learns less, the others as before."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.networks import MLP, EarlyFusion, LateFusion
from mmtune.networks.shapes import Shapes
from mmtune.train.balance import Balance
from mmtune.train.batches import Resident
from mmtune.train.fit import require_trainable
from mmtune.train.recipe import Train, TrialConfig

SHAPES = Shapes(banks={"image": (1, 4, 4), "audio": (5, 3)}, classes=3)
LABELS = torch.tensor([0, 1, 2, 0])


def gradients(network: nn.Module, sure: float, strength: float) -> dict[str, list[torch.Tensor]]:
    """By bank the gradients of its encoder, changed as where the picture alone is so sure of the truth."""
    torch.manual_seed(0)
    logits = network(image=torch.rand(4, 1, 4, 4), audio=torch.rand(4, 5, 3)).logits
    cross_entropy(logits, LABELS).backward()
    alone = {"image": sure * nn.functional.one_hot(LABELS, 3).float(), "audio": torch.zeros(4, 3)}
    if strength:
        Balance(network, strength)(alone, LABELS)
    return {bank: [own.grad for own in encoder.parameters()] for bank, encoder in network.encoders.items()}  # type: ignore[operator, union-attr]


def network() -> nn.Module:
    torch.manual_seed(0)
    return LateFusion(encoders={"image": MLP(norm="none"), "audio": MLP(norm="none")}).build(SHAPES)


def test_what_is_ahead_is_held_back_and_wanders() -> None:
    plain, balanced = gradients(network(), 4.0, 0.0), gradients(network(), 4.0, 0.5)
    right = torch.tensor([4.0, 0.0, 0.0]).softmax(0)[0]
    kept = 1 - torch.tanh(0.5 * right / (1 / 3))
    for before, after in zip(plain["image"], balanced["image"], strict=True):
        if before.dim() == 1:
            torch.testing.assert_close(after, kept * before)
        else:
            noise = after - kept * before
            assert noise.std().item() == pytest.approx(before.std().item(), rel=0.2)


def test_what_is_behind_wanders_alone_and_of_equals_none_is_held_back() -> None:
    plain = gradients(network(), 0.0, 0.0)
    for bank, sure in (("audio", 4.0), ("image", 0.0)):
        for before, after in zip(plain[bank], gradients(network(), sure, 0.5)[bank], strict=True):
            if before.dim() == 1:
                torch.testing.assert_close(after, before)


def test_it_needs_encoders_and_what_each_says_alone(tiny: Dataset) -> None:
    early = TrialConfig(model=EarlyFusion(reads=("image", "audio")), train=Train(balance=0.3))
    with pytest.raises(InputError, match="balance must be 0 for a network that is no LateFusion"):
        require_trainable(early, Resident(tiny.train, 10, torch.device("cpu")))
    with pytest.raises(InputError, match=r"balance must be 0 for a network that reads image alone, got 0\.3"):
        TrialConfig(model=LateFusion(encoders={"image": MLP()}), train=Train(balance=0.3))

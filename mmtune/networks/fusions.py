"""Fusions of several banks' vectors, by keyword (B, widths[bank]) to (B, width); heads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce

import torch
from torch import Tensor, nn

from mmtune.base.errors import InputError
from mmtune.networks.attention import SelfAttention
from mmtune.networks.config.fusions import CrossAttention, Gated, Head, LowRank
from mmtune.networks.layers import Dropout


def by_bank(modules: Mapping[str, nn.Module]) -> nn.ModuleDict:
    """Modules under the names of their banks, as their weights are then saved; InputError where torch takes no such."""
    try:
        return nn.ModuleDict(modules)
    except KeyError as error:
        raise InputError(f"a bank's name must be one that a torch module can have, got {error.args[0]}") from error


def linear_layers(widths: Mapping[str, int], out: int) -> nn.ModuleDict:
    """For each bank a linear layer to `out`."""
    return by_bank({bank: nn.Linear(width, out) for bank, width in widths.items()})


class Concatenated(nn.Module):
    """All vectors side by side, in the order of `widths`."""

    def __init__(self, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.banks, self.width = tuple(widths), sum(widths.values())

    def forward(self, **vectors: Tensor) -> Tensor:
        return torch.cat([vectors[bank] for bank in self.banks], dim=1)


class Summed(nn.Module):
    """The sum of vectors as wide as the widest."""

    def __init__(self, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.width = max(widths.values())
        same = {bank: width == self.width for bank, width in widths.items()}
        self.fitted = by_bank(
            {bank: nn.Identity() if same[bank] else nn.Linear(width, self.width) for bank, width in widths.items()}
        )

    def forward(self, **vectors: Tensor) -> Tensor:
        return stacked(fitted(vectors[bank]) for bank, fitted in self.fitted.items()).sum(1)


def stacked(vectors: Iterable[Tensor]) -> Tensor:
    """Vectors (B, width) of each bank to (B, banks, width)."""
    return torch.stack(list(vectors), dim=1)


class GatedUnits(nn.Module):
    """The sum over banks of gate * tanh(linear(vector)) (Arevalo et al., 2017, section 3.1)."""

    def __init__(self, config: Gated, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.width, self.softmax = config.width, config.gate == "softmax"
        self.units = linear_layers(widths, self.width)
        self.gate = nn.Linear(sum(widths.values()), len(widths) * self.width)

    def gates(self, **vectors: Tensor) -> Tensor:
        """How much of each bank every unit takes, (B, banks, width) in (0, 1)."""
        scores = self.gate(torch.cat([vectors[bank] for bank in self.units], dim=1))
        scores = scores.unflatten(1, (len(self.units), self.width))
        return scores.softmax(1) if self.softmax else scores.sigmoid()

    def forward(self, **vectors: Tensor) -> Tensor:
        units = stacked(layer(vectors[bank]) for bank, layer in self.units.items()).tanh()
        return (self.gates(**vectors) * units).sum(1)


class AttendedTokens(nn.Module):
    """Each bank a token of `width`, to which self-attention over all of them is added."""

    def __init__(self, config: CrossAttention, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.mean = config.summary == "mean"
        self.width = config.width if self.mean else config.width * len(widths)
        self.tokens = linear_layers(widths, config.width)
        self.attention = SelfAttention(config.width, config.heads)

    def forward(self, **vectors: Tensor) -> Tensor:
        tokens = stacked(layer(vectors[bank]) for bank, layer in self.tokens.items())
        tokens = tokens + self.attention(tokens)
        return tokens.mean(1) if self.mean else tokens.flatten(1)


class LowRankProduct(nn.Module):
    """The product over banks of linear layers to (B, rank, width), summed over the rank (Liu et al., 2018, eq. 7).

    A layer's bias is the factor of the 1 in (x, 1), by which the product also has what fewer banks say together.
    """

    def __init__(self, config: LowRank, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.width, self.rank = config.width, config.rank
        self.factors = linear_layers(widths, config.rank * config.width)
        # The product then begins as 1 plus what each bank says by itself; it would vanish the more banks there are.
        for factor in self.factors.values():
            nn.init.ones_(factor.get_parameter("bias"))

    def forward(self, **vectors: Tensor) -> Tensor:
        # One by one: the gradient of torch.prod looks for zeros, for which a GPU would have to wait.
        product = reduce(torch.mul, (factor(vectors[bank]) for bank, factor in self.factors.items()))
        return product.unflatten(1, (self.rank, self.width)).sum(1)


def head(config: Head, width: int, classes: int) -> nn.Sequential:
    """(B, width) to logits (B, classes)."""
    inner: list[nn.Module] = []
    for _ in range(config.layers if config.hidden else 0):
        inner += [Dropout(config.dropout), nn.Linear(width, config.hidden), nn.ReLU()]
        width = config.hidden
    return nn.Sequential(*inner, Dropout(config.dropout), nn.Linear(width, classes))

"""Self-attention (Vaswani et al., "Attention is all you need", 2017), written out.

torch's own kernels may add up a gradient in another order each time on a GPU, and their dropout is slow on a CPU.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from mmtune.networks.layers import Dropout


class SelfAttention(nn.Module):
    """Multi-head self-attention over tokens (B, T, width) (section 3.2.2), as torch's MultiheadAttention computes it.

    Where `valid` (B, T) is given, no token looks at one that is not.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)

    def forward(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        split = self.project(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys, values = split.unbind()
        scores = queries @ keys.transpose(2, 3) / math.sqrt(keys.shape[3])
        if valid is not None:
            scores = scores.masked_fill(~valid[:, None, None], -math.inf)
        return self.join((scores.softmax(3) @ values).transpose(1, 2).flatten(2))


class TransformerLayer(nn.Module):
    """Attention, then two linear layers with GELU between them, each after a norm and added to tokens (B, T, width).

    Norms come first (Xiong et al., "On layer normalization in the transformer architecture", 2020), so that it learns
    without a warm-up.
    """

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), SelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        inner = (nn.Linear(width, hidden), nn.GELU(), Dropout(dropout), nn.Linear(hidden, width))
        self.feed_forward = nn.Sequential(*inner)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        tokens = tokens + self.dropout(self.attention(self.norm1(tokens), valid))
        return tokens + self.dropout(self.feed_forward(self.norm2(tokens)))

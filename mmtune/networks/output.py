"""What every model returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor


class Output(NamedTuple):
    """logits (B, C) and embedding (B, E), float32; for a fusion model also `alone`.

    alone: by modality, the logits (B, C) that this modality's encoder gives without the other one.
    """

    logits: Tensor
    embedding: Tensor
    alone: Mapping[str, Tensor] = {}

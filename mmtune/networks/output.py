"""What a network returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from mmtune.base.errors import InputError


class Output(NamedTuple):
    """logits (B, C) and embedding (B, E), float32; for a fusion model also `alone`.

    alone: by bank, the logits (B, C) that this bank's encoder gives without the others.
    """

    logits: Tensor
    embedding: Tensor
    alone: Mapping[str, Tensor] = {}


def answer(model: nn.Module, inputs: Mapping[str, Tensor]) -> Output:
    """What a network says of a batch by bank; one that returns its logits alone has them for an embedding."""
    return as_output(model(**inputs))


def as_output(found: object) -> Output:
    """What a network has returned, as an Output; InputError where it is none."""
    if isinstance(found, Output):
        return found
    if isinstance(found, Tensor):
        return Output(found, found)
    raise InputError(f"a network must return its logits or an Output, got {type(found).__name__}")


def parts_of(model: nn.Module, embedding: Tensor) -> dict[str, int]:
    """By name the widths of what an embedding (B, E) is the concatenation of, in order."""
    parts: Mapping[str, int] = getattr(model, "parts", None) or {"embedding": embedding.shape[1]}
    return dict(parts)


def count_parameters(model: nn.Module) -> int:
    """The number of parameters that could be trained, those of encoders that stay as they are among them."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)

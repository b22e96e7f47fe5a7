"""What a network makes of each bank before the classes decide what is kept of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mmtune.networks.output import Output, answer, parts_of

TOGETHER = "together"
"""For a network that has nothing of its banks one by one, what its embedding goes by."""


def bank_vectors(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The vectors of `answer_and_vectors`."""
    return answer_and_vectors(model, inputs)[1]


@torch.no_grad()
def answer_and_vectors(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Output, dict[str, Tensor]]:
    """What a network says, and by bank a vector (B, F) of each row: what its own module gives its first linear layer.

    The convolutions and states before that layer still tell letters from digits, which an embedding no longer does.
    A bank's module is the model where it reads one bank, else `model.encoders[bank]` or the attribute of that name.
    Where it has no such layer, the bank has its part of the embedding; a network without parts by bank has its whole
    embedding, as TOGETHER. The model must be in eval mode.
    """
    modules = {bank: own for bank in inputs if (own := module_of(model, bank, len(inputs) == 1)) is not None}
    with ExitStack() as stack:
        handed = {bank: stack.enter_context(first_vectors(own)) for bank, own in modules.items()}
        output = answer(model, inputs)
    embedding = output.embedding
    found = {bank: own[0] for bank, own in handed.items() if own}
    parts = parts_of(model, embedding)
    split = dict(zip(parts, embedding.split(list(parts.values()), dim=1), strict=True))
    found |= {bank: split[bank] for bank in inputs if bank not in found and bank in split}
    if len(inputs) == 1:
        return output, {bank: found.get(bank, embedding) for bank in inputs}
    return output, found if len(found) == len(inputs) else {**found, TOGETHER: embedding}


def module_of(model: nn.Module, bank: str, only: bool) -> nn.Module | None:
    """The module that reads a bank and nothing else, if the model shows which that is."""
    if only:
        return model
    encoders = getattr(model, "encoders", None)
    found = getattr(model, bank, None)
    if isinstance(encoders, nn.ModuleDict) and bank in encoders:
        found = encoders[bank]
    return found if isinstance(found, nn.Module) else None


@contextmanager
def first_vectors(module: nn.Module) -> Iterator[list[Tensor]]:
    """A list to which a forward pass adds the vectors (B, F) that a linear layer of the module is given first."""
    found: list[Tensor] = []

    def keep(layer: nn.Module, given: tuple[Any, ...]) -> None:
        # Attention is given tokens (B, T, F), which are no vectors of a row.
        if not found and given[0].ndim == 2:
            found.append(given[0])

    hooks = [layer.register_forward_pre_hook(keep) for layer in module.modules() if isinstance(layer, nn.Linear)]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()

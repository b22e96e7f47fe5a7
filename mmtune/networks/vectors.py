"""What a network makes of each bank before the classes decide what is kept of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, normalize

from mmtune.networks.ensemble import EnsembleNetwork
from mmtune.networks.late import LateNetwork
from mmtune.networks.output import Output, answer, as_output, parts_of

TOGETHER = "together"
"""For a network that has nothing of its banks one by one, what its embedding goes by."""
PLACES = 4
"""Parts of each side over which the last maps are averaged."""
LOCKS: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
FIRST = threading.Lock()


@contextmanager
def one_at_a_time(model: nn.Module) -> Iterator[None]:
    """Inside of it no other thread asks this model: what a network makes of a batch is seen by hooks, which belong to
    the network and not to who asks."""
    with FIRST:
        lock = LOCKS.setdefault(model, threading.RLock())
    with lock:
        yield


def bank_vectors(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The vectors of `answer_and_vectors`."""
    return answer_and_vectors(model, inputs)[1]


@torch.no_grad()
def bank_vector(model: nn.Module, inputs: Mapping[str, Tensor], bank: str) -> Tensor:
    """One of `bank_vectors`; of a `LateNetwork` nothing but the bank's encoder is asked."""
    # Somebody's own network may change values before its encoder is given them.
    encoder = encoder_of(model, bank) if len(inputs) > 1 and isinstance(model, LateNetwork) else None
    if encoder is not None:
        with one_at_a_time(model), watched(encoder) as seen:
            encoder(inputs[bank])
        found = seen.vector()
        if found is not None:
            return found
    return bank_vectors(model, inputs)[bank]


@torch.no_grad()
def answer_and_vectors(model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Output, dict[str, Tensor]]:
    """What a network says of a batch, and by bank a vector (B, F) of each row: that of its own module (`Seen.vector`).

    What lies before the first linear layer still tells letters from digits, which an embedding no longer does.
    A bank's module is the model where it reads one bank, else `model.encoders[bank]` or the attribute of that name.
    Where it has no such layer, the bank has its part of the embedding; a network without parts by bank, or whose banks
    hear of each other within it, has its whole embedding, as TOGETHER; an ensemble that of its heaviest member. The
    model must be in eval mode.
    """
    crossed = is_crossed(model)
    modules = {bank: own for bank in inputs if (own := module_of(model, bank, len(inputs) == 1)) is not None}
    with one_at_a_time(model), ExitStack() as stack:
        seen = {bank: stack.enter_context(watched(own)) for bank, own in modules.items() if not crossed}
        said = stack.enter_context(overheard(model.heaviest)) if isinstance(model, EnsembleNetwork) else []
        output = answer(model, inputs)
    embedding = said[0].embedding if said else output.embedding
    if crossed:
        return output, {TOGETHER: embedding}
    found = {bank: vector for bank, own in seen.items() if (vector := own.vector()) is not None}
    parts = parts_of(model, embedding)
    split = dict(zip(parts, embedding.split(list(parts.values()), dim=1), strict=True))
    found |= {bank: split[bank] for bank in inputs if bank not in found and bank in split}
    if len(inputs) == 1:
        return output, {bank: found.get(bank, embedding) for bank in inputs}
    return output, found if len(found) == len(inputs) else {**found, TOGETHER: embedding}


@contextmanager
def overheard(module: nn.Module) -> Iterator[list[Output]]:
    """What a network within another one says of a batch."""
    said: list[Output] = []
    hook = module.register_forward_hook(lambda own, given, made: said.append(as_output(made)))
    try:
        yield said
    finally:
        hook.remove()


@dataclass
class Seen:
    """What a module made of a batch before its first linear layer, and what it gave that one, (B, F).

    maps: by their number of channels the last ones (B, C, H, W), in the order in which those came.
    """

    maps: dict[int, Tensor] = field(default_factory=dict)
    given: Tensor | None = None

    def vector(self) -> Tensor | None:
        """What the layer was given; where there were maps the directions of three vectors, side by side.

        Of what it was given, of the means of the last maps over PLACES x PLACES parts, as a pooling before the layer
        leaves nothing of how a shape lies, and of the means and the maxima of all maps, as earlier ones tell strokes.
        """
        given = self.given
        if given is None:
            return None
        # Those of frames are not of rows, and a spectrum may be complex.
        maps = [own for own in self.maps.values() if len(own) == len(given) and own.is_floating_point()]
        if not maps:
            return given
        coarse = adaptive_avg_pool2d(maps[-1], PLACES).flatten(1)
        sizes = [size for own in maps for size in (own.mean((2, 3)), own.amax((2, 3)))]
        return torch.cat([normalize(own) for own in (given, coarse, torch.cat(sizes, dim=1))], dim=1)


def is_crossed(model: nn.Module) -> bool:
    """Whether what a model makes of one bank depends on the values of the others."""
    if isinstance(model, EnsembleNetwork):
        return any(map(is_crossed, model.members.values()))
    return isinstance(model, LateNetwork) and model.streams is not None


def module_of(model: nn.Module, bank: str, only: bool) -> nn.Module | None:
    """The module that reads a bank and nothing else, if the model shows which that is."""
    if only:
        return model
    # One that has no layers counts as false.
    encoder = encoder_of(model, bank)
    found = getattr(model, bank, None) if encoder is None else encoder
    return found if isinstance(found, nn.Module) else None


def encoder_of(model: nn.Module, bank: str) -> nn.Module | None:
    """What a model has in `encoders` for a bank, if that is given that bank's values alone."""
    encoders = None if is_crossed(model) else getattr(model, "encoders", None)
    return encoders[bank] if isinstance(encoders, nn.ModuleDict) and bank in encoders else None


@contextmanager
def watched(module: nn.Module) -> Iterator[Seen]:
    """What a forward pass makes of a module's batch."""
    seen = Seen()

    def give(layer: nn.Module, given: tuple[Any, ...]) -> None:
        # Attention is given tokens (B, T, F), which are no vectors of a row.
        if seen.given is None and given[0].ndim == 2:
            seen.given = given[0]

    def make(layer: nn.Module, given: tuple[Any, ...], made: Any) -> None:
        if seen.given is None and isinstance(made, Tensor) and made.ndim == 4:
            # Out first: a dict keeps the place of a key that is set again.
            seen.maps.pop(made.shape[1], None)
            seen.maps[made.shape[1]] = made

    hooks = [own.register_forward_hook(make) for own in module.modules()]
    hooks += [own.register_forward_pre_hook(give) for own in module.modules() if isinstance(own, nn.Linear)]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()

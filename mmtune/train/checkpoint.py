"""Where a training stopped, or stands: weights, the optimiser's state, generators, as safetensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mmtune.base.bounds import inside, read_bounded
from mmtune.base.errors import InputError, first_line
from mmtune.base.files import write_whole
from mmtune.networks.shapes import Shapes
from mmtune.networks.storage import MOST_BYTES, filled, load_model, read_tensors, save_model
from mmtune.train.optimizers import Optimizer

OPTIMIZER, DIGEST = "optimizer.safetensors", "sha256"
MOST_MOMENTS = 2 * MOST_BYTES
GROUPS, STORY = ("weights", "moments", "best", "generators", "average"), "story"


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """weights: a state dict; moments: the optimiser's tensors, named `number of the parameter.name`."""

    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]


def checkpoint_of(model: nn.Module, optimizer: Optimizer) -> Checkpoint:
    """A copy of where a training stands."""
    return Checkpoint(weights=copied(model.state_dict()), moments=copied(optimizer.named()))


def copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Clones, which later steps leave alone."""
    return {name: value.clone() for name, value in tensors.items()}


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: Optimizer) -> None:
    """Put a model and its fresh optimiser where a training stopped."""
    model.load_state_dict(checkpoint.weights)
    optimizer.load(checkpoint.moments)


def save_checkpoint(folder: Path, checkpoint: Checkpoint, config: Any, shapes: Shapes) -> None:
    """Write a saved model of the weights (see `mmtune.networks.storage`), and the optimiser's state beside it."""
    save_model(folder, filled(config, shapes, checkpoint.weights), config, shapes)
    write_sealed(folder / OPTIMIZER, checkpoint.moments)


def load_checkpoint(folder: Path) -> Checkpoint:
    """The inverse of `save_checkpoint`; InputError where a file is missing, changed, broken or misfits."""
    model = load_model(folder).model
    path = inside(folder, OPTIMIZER)
    moments = read_sealed(path, MOST_MOMENTS)
    own = {str(number): parameter for number, parameter in enumerate(model.parameters())}
    for name, value in moments.items():
        of = own.get(name.partition(".")[0])
        if of is None or value.shape not in (of.shape, ()) or value.dtype != of.dtype:
            raise InputError(f"{path} must hold the state of the model beside it, {name} is {tuple(value.shape)}")
    return Checkpoint(weights=model.state_dict(), moments=moments)


def write_sealed(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, whole or not at all, and among them their SHA-256."""
    held = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_whole(path, save({**held, DIGEST: digest(held)}))


def read_sealed(path: Path, most: int) -> dict[str, Tensor]:
    """The inverse of `write_sealed`; InputError where the file is missing, changed or cut, or has over `most` bytes."""
    tensors = read_tensors(path, read_bounded(path, most))
    seal = tensors.pop(DIGEST, None)
    if seal is None or not torch.equal(seal, digest(tensors)):
        raise InputError(f"{path} must have the SHA-256 that it names: it was changed, or is of an older version")
    return tensors


def digest(tensors: Mapping[str, Tensor]) -> Tensor:
    """The SHA-256 of tensors on the CPU with names, shapes and types, as (32,) uint8."""
    found = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        found.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        found.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return torch.frombuffer(bytearray(found.digest()), dtype=torch.uint8)


# ---- a training that is under way


class DamagedError(RuntimeError):
    """A training that is under way cannot go on from its checkpoint."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Moment:
    """A training between two epochs, whole: whoever goes on from it makes the same steps.

    best: the state dict of the best epoch so far. generators: states by name, uint8. average: of the weights, {} where
    there is none. story: what else it knows, as JSON has it.
    """

    checkpoint: Checkpoint
    best: Mapping[str, Tensor]
    generators: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    story: Mapping[str, Any]


def save_moment(path: Path, moment: Moment) -> None:
    """Write a moment, whole or not at all, with its SHA-256."""
    whole = moment.checkpoint
    groups = (whole.weights, whole.moments, moment.best, moment.generators, moment.average)
    tensors = {f"{group}/{name}": own[name] for group, own in zip(GROUPS, groups, strict=True) for name in own}
    story = torch.frombuffer(bytearray(json.dumps(moment.story).encode()), dtype=torch.uint8)
    write_sealed(path, {**tensors, STORY: story})


def load_moment(path: Path) -> Moment | None:
    """The inverse of `save_moment`, None where there is none; DamagedError where it was changed or cut."""
    if not path.exists():
        return None
    with going_on():
        tensors = read_sealed(path, MOST_MOMENTS + MOST_BYTES)
        story = json.loads(tensors.pop(STORY).numpy().tobytes())
        groups: dict[str, dict[str, Tensor]] = {group: {} for group in GROUPS}
        for key, value in tensors.items():
            group, _, name = key.partition("/")
            groups[group][name] = value
        weights, moments, best, generators, average = groups.values()
        checkpoint = Checkpoint(weights=weights, moments=moments)
        return Moment(checkpoint=checkpoint, best=best, generators=generators, average=average, story=story)


@contextmanager
def going_on() -> Iterator[None]:
    """Turn whatever keeps a training from going on from a checkpoint into DamagedError, but for too little memory."""
    try:
        yield
    except (InputError, KeyError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "Allocator" in str(error):
            raise
        raise DamagedError(f"its checkpoint was changed or cut, so it begins again: {first_line(error)}") from error

"""Where a training stopped: the weights of its last epoch and the optimiser's state, as safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from mmtune.config import ModelConfig
from mmtune.errors import InputError
from mmtune.files import write_whole
from mmtune.models.build import build_model
from mmtune.models.storage import load_model, save_model
from mmtune.train.adam import Adam

OPTIMIZER = "optimizer.safetensors"


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """weights: a state dict; moments: Adam's tensors, named `number of the parameter.name`."""

    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]


def checkpoint_of(model: nn.Module, optimizer: Adam) -> Checkpoint:
    """A copy of where a training stands."""
    state = optimizer.state
    moments = {f"{number}.{name}": value.clone() for number, own in state.items() for name, value in own.items()}
    return Checkpoint(weights={name: value.clone() for name, value in model.state_dict().items()}, moments=moments)


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: Adam) -> None:
    """Put a model and its fresh optimiser where a training stopped."""
    model.load_state_dict(checkpoint.weights)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in checkpoint.moments.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load(state)


def save_checkpoint(folder: Path, checkpoint: Checkpoint, config: ModelConfig) -> None:
    """Write a saved model of the weights (see `mmtune.models.storage`), and the optimiser's state beside it."""
    model = build_model(config)
    model.load_state_dict(checkpoint.weights)
    save_model(folder, model, config)
    moments = {name: value.detach().cpu().contiguous() for name, value in checkpoint.moments.items()}
    write_whole(folder / OPTIMIZER, save(moments))


def load_checkpoint(folder: Path) -> Checkpoint:
    """The inverse of `save_checkpoint`; InputError where a file is missing, changed or broken."""
    model, _ = load_model(folder)
    path = folder / OPTIMIZER
    try:
        moments = load(path.read_bytes())
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} must hold an optimiser's state: {error}") from error
    return Checkpoint(weights=model.state_dict(), moments=moments)

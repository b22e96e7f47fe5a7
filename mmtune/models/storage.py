"""A model on disk: `weights.safetensors`, and `model.json` with the architecture and the weights' SHA-256.

Nothing in it can run code, and a changed byte is refused.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from mmtune.config import ModelConfig, model_from_json, model_to_json
from mmtune.errors import InputError
from mmtune.files import write_whole
from mmtune.models.build import build_model
from mmtune.models.card import CARD, FORMAT, WEIGHTS, read_card


def save_model(folder: Path, model: nn.Module, config: ModelConfig) -> None:
    """Write `model` and its configuration into `folder`, which is made; the card comes last and makes it valid."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = save({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()})
    card = {"format": FORMAT, "model": model_to_json(config), "sha256": hashlib.sha256(weights).hexdigest()}
    write_whole(folder / WEIGHTS, weights)
    write_whole(folder / CARD, json.dumps(card, indent=2).encode())


def load_model(folder: Path) -> tuple[nn.Module, ModelConfig]:
    """The module, in eval mode, and its configuration; InputError where a file is missing, changed or misfits."""
    card = read_card(folder)
    config = model_from_json(card["model"])
    try:
        weights = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise InputError(f"{folder / WEIGHTS} cannot be read: {error.strerror}") from error
    found = hashlib.sha256(weights).hexdigest()
    if found != card["sha256"]:
        raise InputError(f"{folder / WEIGHTS} must have SHA-256 {card['sha256']}, got {found}: it was changed or cut")
    model = build_model(config)
    try:
        model.load_state_dict(load(weights))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{folder / WEIGHTS} does not fit the architecture in {CARD}: {reason}") from error
    return model.eval(), config

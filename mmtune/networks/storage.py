"""A model on disk: `weights.safetensors`, and `model.json` with the architecture and the weights' SHA-256.

Nothing in it can run code, and a changed byte is refused. What a card asks for is laid out without memory first, so
that it takes as much as the weights beside it, whatever it says.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from mmtune.base.bounds import inside, read_bounded
from mmtune.base.code import own_code
from mmtune.base.errors import InputError
from mmtune.base.files import write_whole
from mmtune.networks.card import CARD, FORMAT, WEIGHTS, read_card
from mmtune.networks.kinds import config_to_json, kind_of, model_from_json, parts_of
from mmtune.networks.randomness import CPU, Randomness
from mmtune.networks.shapes import Shapes

MOST_BYTES = 4 * 2**30
LOG = logging.getLogger("mmtune")


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A saved model, in eval mode, and what it was made from."""

    model: nn.Module
    config: Any
    shapes: Shapes


def save_model(folder: Path, model: nn.Module, config: Any, shapes: Shapes) -> None:
    """Write a model, its configuration and what it was sized from into `folder`, which is made; the card comes last.

    Raises InputError where the weights take more than MOST_BYTES.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Copies: tensors that share their memory, as tied weights do, are refused.
    weights = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()})
    if len(weights) > MOST_BYTES:
        raise InputError(f"{folder / WEIGHTS}: must have at most {MOST_BYTES:,} bytes, has {len(weights):,}")
    made = {"model": config_to_json(config), "shapes": asdict(shapes), **made_by(config)}
    card = {"format": FORMAT, **made, "sha256": hashlib.sha256(weights).hexdigest()}
    write_whole(folder / WEIGHTS, weights)
    write_whole(folder / CARD, json.dumps(card, indent=2).encode())


def load_model(folder: Path) -> Loaded:
    """The inverse of `save_model`; InputError where a file is missing, changed or misfits, or the network is not known.

    A network of a user's own whose code has changed since it was trained is said to. The folder may be a symbolic link,
    its files may not lead out of it.
    """
    card = read_card(folder)
    config = model_from_json(card["model"])
    say_changed(card, config)
    path = inside(folder, WEIGHTS)
    weights = read_bounded(path, MOST_BYTES)
    found = hashlib.sha256(weights).hexdigest()
    if found != card["sha256"]:
        raise InputError(f"{path} must have SHA-256 {card['sha256']}, got {found}: it was changed or cut")
    tensors = read_tensors(path, weights)
    shapes = card["shapes"]
    require_fit(path, config, shapes, tensors)
    return Loaded(model=filled(config, shapes, tensors).eval(), config=config, shapes=shapes)


def made_by(config: Any) -> dict[str, str]:
    """A digest of the code of what is a user's own in a network, {} where nothing is; Pythons differ in it."""
    own = own_code(map(type, parts_of(config)))
    return {"own_code": own, "python": f"{sys.version_info[0]}.{sys.version_info[1]}"} if own else {}


def say_changed(card: Mapping[str, Any], config: Any) -> None:
    """Warn where a network of the user's own is no longer the code that was trained."""
    now, then = made_by(config), card.get("own_code")
    if now and then and now["python"] == card.get("python") and now["own_code"] != then:
        told = f"{kind_of(type(config))} is not the code that was trained ({then!s:.12} then, {now['own_code']} now)"
        LOG.warning(f"{told}: it may answer otherwise; restore it, or train it again")


def filled(config: Any, shapes: Shapes, weights: Mapping[str, Tensor]) -> nn.Module:
    """A configuration's network with these weights; the fresh ones before them cost no training a random number."""
    with Randomness(0, CPU):
        model: nn.Module = config.build(shapes)
    model.load_state_dict(weights)
    return model


def read_tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    """The tensors in the bytes of a safetensors file; InputError where they are none."""
    try:
        return load(content)
    except Exception as error:  # a header may name types that torch has not, and shapes that no tensor has
        raise InputError(f"{path} must hold tensors as safetensors: {str(error) or type(error).__name__}") from error


def require_fit(path: Path, config: Any, shapes: Shapes, tensors: Mapping[str, Tensor]) -> None:
    """Raise InputError unless tensors have the names, shapes and types of a configuration's weights.

    The module is built without memory: a card of a few bytes may ask for terabytes.
    """
    try:
        with torch.device("meta"):
            wanted = config.build(shapes).state_dict()
    except Exception as error:  # parts of a network may be anything, and anybody may have written what builds it
        raise InputError(f"{path.parent / CARD} must describe a network that can be built: {error}") from error
    there, asked = ({name: f"{tuple(t.shape)} {t.dtype}" for name, t in own.items()} for own in (tensors, wanted))
    for name in sorted(there.keys() | asked.keys()):
        if there.get(name) != asked.get(name):
            said = f"{name} is {there.get(name, 'missing')}, must be {asked.get(name, 'missing')}"
            raise InputError(f"{path} does not fit the architecture in {CARD}: {said}")

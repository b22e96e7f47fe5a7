"""The card of a saved model: its format, its architecture and the SHA-256 of its weights, as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmtune.base.bounds import inside
from mmtune.base.errors import InputError
from mmtune.base.files import read_json
from mmtune.networks.shapes import Shapes

FORMAT = 3
WEIGHTS, CARD = "weights.safetensors", "model.json"
# The folders of a trial's models: of its best epoch, and of its last one where that is kept.
MODEL, FINAL = "model", "final"
# What a trial says of rows: those that validate it, and those that its fold holds out.
VALIDATION, HELD = "validation.npz", "held.npz"
# What validation says of a model's confidence.
CALIBRATION = "calibration.json"
# The maps of a network with connections, and in that file the sound that they were made from.
MAPS, SOUND = "maps.npz", "sound"


def read_card(folder: Path) -> dict[str, Any]:
    """The card of the model in `folder`; InputError unless it is JSON of the known format."""
    path = inside(folder, CARD)
    card = read_json(path)
    if card.get("format") != FORMAT or not isinstance(card.get("model"), dict):
        raise InputError(f"{path} must be a model card of format {FORMAT}, got {card.get('format')!r}")
    card["shapes"] = read_shapes(card.get("shapes"), path)
    if not isinstance(card.get("sha256"), str):
        raise InputError(f"{path} must name the weights' sha256")
    return card


def read_shapes(found: object, path: Path) -> Shapes:
    """The shapes that a card names; InputError unless they are some."""
    banks = found.get("banks") if isinstance(found, dict) else None
    classes = found.get("classes") if isinstance(found, dict) else None
    sides = [*banks.values()] if isinstance(banks, dict) else []
    if not sides or not all(isinstance(own, list) and own and all(map(is_side, own)) for own in sides):
        raise InputError(f"{path} must name the shapes of banks, got {banks!r:.200}")
    if not is_side(classes):
        raise InputError(f"{path} must say how many classes there are, got {classes!r:.200}")
    assert isinstance(banks, dict)
    assert isinstance(classes, int)
    return Shapes(banks={name: tuple(own) for name, own in banks.items()}, classes=classes)


def is_side(value: object) -> bool:
    """Whether this can be the length of an axis."""
    return type(value) is int and 0 < value < 2**31

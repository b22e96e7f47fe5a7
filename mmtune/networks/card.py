"""The card of a saved model: its format, its architecture and the SHA-256 of its weights, as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmtune.base.bounds import inside
from mmtune.base.errors import InputError
from mmtune.base.files import read_json

FORMAT = 2
"""In format 1 maps were flattened channel by channel, so its weights fit and yet say nothing here."""
WEIGHTS, CARD = "weights.safetensors", "model.json"
# The folders of a trial's models: of its best epoch, and of its last one where that is kept.
MODEL, FINAL = "model", "final"
# What a trial says of rows: those that validate it, and those that its fold holds out.
VALIDATION, HELD = "validation.npz", "held.npz"
# The maps of a network with connections, and in that file the sound that they were made from.
MAPS, SOUND = "maps.npz", "sound"


def read_card(folder: Path) -> dict[str, Any]:
    """The card of the model in `folder`; InputError unless it is JSON of the known format."""
    path = inside(folder, CARD)
    card = read_json(path)
    if card.get("format") != FORMAT or not isinstance(card.get("model"), dict):
        raise InputError(f"{path} must be a model card of format {FORMAT}, got {card.get('format')!r}")
    if not isinstance(card.get("sha256"), str):
        raise InputError(f"{path} must name the weights' sha256")
    return card

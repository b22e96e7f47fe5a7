"""JSON that carries its format and its own SHA-256, so that a changed or cut number is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmtune.base.errors import InputError
from mmtune.base.files import read_json, write_whole

SEAL = "sha256"


def write_sealed(path: Path, form: int, content: Mapping[str, Any]) -> None:
    """Write a JSON object of the format `form`, whole or not at all."""
    body = {"format": form, **content}
    write_whole(path, json.dumps({**body, SEAL: seal(body)}).encode())


def read_sealed(path: Path, form: int) -> dict[str, Any]:
    """What `write_sealed` wrote, format and seal included; InputError where it is missing, changed or cut."""
    content = read_json(path)
    if content.get("format") != form:
        got = content.get("format")
        raise InputError(f"{path} must be of format {form}, got {got!r}: another mmtune made it, make it again")
    found = seal({name: value for name, value in content.items() if name != SEAL})
    if found != content.get(SEAL):
        raise InputError(f"{path} must have SHA-256 {content.get(SEAL)}, got {found}: it was changed or cut")
    return content


def seal(content: Mapping[str, Any]) -> str:
    """The SHA-256 of JSON content, whatever its layout."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

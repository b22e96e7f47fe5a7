"""JSON that carries its own SHA-256, so that a changed number is refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmtune.base.errors import InputError
from mmtune.base.files import read_json, write_whole

FORMAT = 1


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON content with its format and seal, whole or not at all."""
    body = {"format": FORMAT, **content}
    write_whole(path, json.dumps({**body, "sha256": seal(body)}, indent=2).encode())


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` wrote, format and seal included; InputError where it is missing, changed or cut."""
    content = read_json(path)
    if content.get("format") != FORMAT:
        raise InputError(f"{path} must be of format {FORMAT}, got {content.get('format')!r}")
    found = seal({name: value for name, value in content.items() if name != "sha256"})
    if found != content.get("sha256"):
        raise InputError(f"{path} must have SHA-256 {content.get('sha256')}, got {found}: it was changed or cut")
    return content


def seal(content: Mapping[str, Any]) -> str:
    """The SHA-256 of JSON content, whatever its layout."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

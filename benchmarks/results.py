"""Results as dated JSON, written whole after every step, and their table beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmtune.base.errors import InputError
from mmtune.base.files import make_folder, read_json, write_whole

FOLDER = Path(__file__).parent / "results"


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def result_path(out: Path | None, kind: str) -> Path:
    """Where results go: `out`, or a dated file of this kind; InputError unless it is a .json that can be added to."""
    path = out or FOLDER / f"{today()}-{kind}.json"
    if path.suffix != ".json":
        raise InputError(f"--out must name a .json file, got {path}")
    make_folder(path.parent)
    if path.exists():
        read_json(path)
    return path


def keep_dated(folder: Path, kind: str, told: dict[str, Any]) -> Path:
    """Write a dated file of this kind into a folder, which is made, and return where."""
    make_folder(folder)
    path = folder / f"{today()}-{kind}.json"
    write_whole(path, (json.dumps(told, indent=2) + "\n").encode())
    return path


def keep(path: Path, section: str, name: str, entry: dict[str, Any], table: Callable[[dict[str, Any]], str]) -> None:
    """Put an entry into a section of a results file, beside all that it holds, and write the table anew."""
    found = read_json(path) if path.exists() else {}
    found.setdefault(section, {})[name] = entry
    write_whole(path, (json.dumps(found, indent=1) + "\n").encode())
    write_whole(path.with_suffix(".md"), table(found).encode())

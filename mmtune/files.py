"""Files that are there whole or not at all, and locks that die with their holder."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmtune.errors import InputError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also across a power cut."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; InputError where it cannot be read or is none."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"{path} must be JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object, holds a {type(content).__name__}")
    return content


def make_folder(path: Path) -> Path:
    """Make a folder and those above it; InputError where that cannot be, or it cannot be written to."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path} must be a folder that can be made: {error.strerror}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"{path} must be a folder that can be written to")
    return path


@contextmanager
def locked(path: Path, refusal: str = "", note: str = "") -> Iterator[None]:
    """Hold the lock file `path`; the system frees it when the holder dies, however it dies.

    Without `refusal` this waits. With it, a lock that another process holds raises InputError at once: the
    refusal, then that holder's own `note`.
    """
    make_folder(path.parent)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if refusal else 0))
        except BlockingIOError as error:
            file.seek(0)
            raise InputError(f"{refusal}: {file.read().strip() or 'holder unknown'}") from error
        file.truncate(0)
        file.write(note)
        file.flush()
        yield

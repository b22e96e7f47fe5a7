"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmtune.base.errors import InputError

STALE_SECONDS = 3600.0


@contextmanager
def new_folder(target: Path, *, keep: bool = False) -> Iterator[Path]:
    """Yield an empty sibling of `target`; when the block ends well it is synced and renamed to `target`.

    An existing `target` is replaced, or left alone with `keep` (another process has made the same meanwhile); an
    exception leaves it as it was. Raises InputError where nothing can be written.
    """
    temporary = make_temporary(target)
    try:
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            sync(path)
        put(temporary, target, keep)
        sync(target.parent)
    except OSError as error:
        raise InputError(f"{target}: the folder could not be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def make_temporary(target: Path) -> Path:
    """An empty, hidden sibling of `target`, those of writers killed long ago removed; InputError where none can be."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for path in beside(target, "old"):
            # A kill between two renames has left it, and nothing in its place.
            if not target.exists():
                path.rename(target)
        for path in beside(target, "old|tmp"):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
        temporary.mkdir()
    except OSError as error:
        raise InputError(f"{target}: the folder must be writable, got {error.strerror}: {error.filename}") from error
    return temporary


def beside(target: Path, endings: str) -> list[Path]:
    """What writers of this very folder have left beside it, and none of another one whose name goes on with a dot."""
    name = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{12}}\.({endings})")
    return [path for path in target.parent.iterdir() if name.fullmatch(path.name)]


def require_writable(target: Path) -> None:
    """Raise InputError, before any work is done, where `new_folder` could not write."""
    make_temporary(target).rmdir()


def put(temporary: Path, target: Path, keep: bool) -> None:
    """Rename a folder to `target`; what stood there stays, or is moved aside first and removed last."""
    aside = temporary.with_suffix(".old")
    if target.exists() and not keep:
        target.rename(aside)
    try:
        temporary.rename(target)
    except BaseException as error:
        if aside.exists() and not target.exists():
            aside.rename(target)
        if not isinstance(error, OSError) or not (keep and target.is_dir()):
            raise
    shutil.rmtree(aside, ignore_errors=True)


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

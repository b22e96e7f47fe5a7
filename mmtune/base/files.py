"""Files that are there whole or not at all, and locks that die with their holder."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from mmtune.base.bounds import MEBIBYTE, read_bounded
from mmtune.base.errors import InputError, first_line

LONGEST_JSON = 4 * MEBIBYTE
POSTGRES_PROBLEMS = {"OperationalError", "InterfaceError", "ReadOnlySqlTransaction", "IdleInTransactionSessionTimeout"}
UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}


def storage_problem(error: BaseException | None) -> str | None:
    """What keeps files from being used, where an exception comes from that, however far down; None elsewhere.

    That is a full or failing disk, a limit or a missing right, an SQLite file that is locked, full or damaged, or a
    PostgreSQL that is gone.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in UNWRITABLE:
            return f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
        if type(error) in (sqlite3.OperationalError, sqlite3.DatabaseError) or of_postgres(error):
            return first_line(error)
        error = error.__cause__ or error.__context__
    return None


def of_postgres(error: BaseException) -> bool:
    """Whether psycopg, which need not be installed, says that its database does not do what it should."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return type(error).__module__.startswith("psycopg") and bool(names & POSTGRES_PROBLEMS)


def unusable(problem: str) -> InputError:
    """What the user is told of a `storage_problem`."""
    return InputError(f"what is kept cannot be read or written: {problem}; once it can, the same command goes on")


def write_whole(path: Path, content: bytes, sync: bool = True) -> None:
    """Write a file so that it is there whole or not at all, also across a power cut; without `sync`, across a kill."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def require_writable(path: Path) -> Path:
    """The path of a file that a user has named; InputError where it cannot be written, before there is work to lose."""
    if path.is_dir():
        raise InputError(f"{path} must be a file to write to, it is a folder")
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError(f"{path} cannot be written: the folder {path.parent} is not writable")
    return path


def write_named(path: Path, content: bytes) -> None:
    """Write a file that a user has named, whole or not at all; InputError where it cannot be written."""
    require_writable(path)
    try:
        write_whole(path, content)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def append_whole(file: FileIO, content: bytes) -> None:
    """Append to an unbuffered file all of it or, where the disk is full, nothing: the next line stays a line."""
    before = os.fstat(file.fileno()).st_size
    try:
        while content:
            content = content[file.write(content) :]
    except OSError:
        file.truncate(before)
        raise


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; InputError where it cannot be read, is longer than LONGEST_JSON, or is none."""
    text = read_bounded(path, LONGEST_JSON)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} must be JSON: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object, holds a {type(content).__name__}")
    return content


def path_of(uri: str) -> Path:
    """The path in a file:// address."""
    return Path(url2pathname(urlparse(uri).path))


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

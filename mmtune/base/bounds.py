"""Files of unknown origin: what would block, never end or fill the memory is refused before it is read."""

from __future__ import annotations

import os
import stat
from io import BufferedReader, FileIO
from pathlib import Path

from mmtune.base.errors import InputError

MEBIBYTE = 2**20


def open_raw(path: Path, most: int) -> FileIO:
    """Open a file to read; InputError unless it is a regular one, or a link to such, of at most `most` bytes.

    A pipe or a device is not waited for.
    """
    try:
        file = FileIO(path, opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    except FileNotFoundError as error:
        raise InputError(f"{path}: cannot be read, is missing") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: cannot be read, is no file") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from error
    facts = os.fstat(file.fileno())
    if stat.S_ISREG(facts.st_mode) and facts.st_size <= most:
        return file
    file.close()
    if stat.S_ISREG(facts.st_mode):
        raise InputError(f"{path}: must have at most {most:,} bytes, has {facts.st_size:,}")
    raise InputError(f"{path}: cannot be read, is no file")


def open_bounded(path: Path, most: int) -> BufferedReader:
    """`open_raw`, buffered."""
    return BufferedReader(open_raw(path, most))


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a file; InputError where `open_raw` raises it or the disk fails."""
    with open_bounded(path, most) as file:
        try:
            # A read makes room for all that is asked for, before it knows how much there is.
            return file.read(os.fstat(file.fileno()).st_size)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def require_file(path: Path, most: int) -> int:
    """The size in bytes of a file that another library is to open; InputError as `open_raw`."""
    with open_raw(path, most) as file:
        return os.fstat(file.fileno()).st_size


def inside(folder: Path, name: str) -> Path:
    """`folder / name`; InputError where that is, or lies behind, a symbolic link that leads out of the folder.

    The folder itself may be a link, or lie behind one, as data often do on another disk: whoever gave its path chose
    it. What a folder of someone else's making links to, nobody here chose.
    """
    root, found = os.path.realpath(folder), os.path.realpath(folder / name)
    if os.path.commonpath([root, found]) != root:
        raise InputError(f"{folder / name}: must lie in its own folder, is a link to {found}")
    return folder / name

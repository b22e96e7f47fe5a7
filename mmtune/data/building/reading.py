"""Files to banks: equal values are kept once, and all files that cannot be read are named together."""

from __future__ import annotations

import math
import os
import re
import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import LONGEST, InputError
from mmtune.data.dataset import Bank
from mmtune.data.identity import content_ids

FIRST = 20
LARGE = 2**28  # bytes
TABLE_LINE = re.compile(r"(, line [0-9]+)(?:, (.*))?$")


def read_files(
    files: Sequence[Path | None],
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    read: Callable[[Path], NDArray[Any]],
    report: Callable[[int, int], None],
) -> tuple[Bank, dict[Path, str]]:
    """The bank of N rows that are made of a file each, or of None; and why some files could not be read.

    read: makes a value (*shape) of dtype, or raises InputError. A row whose file could not be read has no value.
    """
    wanted = list(dict.fromkeys(file for file in files if file is not None))
    values, known = space((len(wanted), *shape), dtype), dict[bytes, int]()
    place: dict[Path, int] = {}
    bad: dict[Path, str] = {}
    for turn, path in enumerate(wanted, 1):
        try:
            value = read(path)
            [own] = content_ids([value])
            place[path] = known.setdefault(own, len(known))
            values[place[path]] = value
        except InputError as error:
            bad[path] = str(error).removeprefix(f"{path}: ")
        report(turn, len(wanted))
    index = np.array([-1 if file is None else place.get(file, -1) for file in files], np.int64)
    return Bank(values=values[: len(known)], index=index), bad


def space(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array to fill: a large one lies in a file without a name, as it may be larger than the memory."""
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE:
        return np.empty(shape, dtype)
    try:
        with tempfile.TemporaryFile(prefix="mmtune-") as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is an error now, and would be a signal later
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype, "w+", shape=shape)
    except OSError as error:
        folder = tempfile.gettempdir()
        raise InputError(
            f"{folder}: must have room for {size:,} bytes, {error.strerror}; TMPDIR names another"
        ) from error


def require_sound(bad: Mapping[str, str], advice: str = "") -> None:
    """Raise InputError with the first of what cannot be used, as many as fit into its line, and how many there are.

    Of more than FIRST those lines of a table that break one rule, in one column of it, are named by the first of them.
    """
    if bad:
        lines = lines_of(bad)
        room = (LONGEST - 200 - len(advice)) // min(len(lines), FIRST)
        told = "; ".join(textwrap.shorten(line, room, placeholder=" ...") for line in lines[:FIRST])
        more = f"; and {len(lines) - FIRST} more" if len(lines) > FIRST else ""
        count = places(bad)
        what = "1 file or line" if count == 1 else f"{count} files or lines"
        ways = "; ".join(filter(None, ["--skip-bad goes on without", advice]))
        raise InputError(f"{what} cannot be used ({ways}): {told}{more}")


def lines_of(bad: Mapping[str, str]) -> list[str]:
    """What cannot be used, a line each; of more than FIRST one for each rule that a table or a column breaks."""
    if len(bad) <= FIRST:
        return [f"{name}: {reason}" for name, reason in bad.items()]
    found: dict[tuple[str, str], list[str]] = {}
    for name, reason in bad.items():
        line = TABLE_LINE.search(name)
        key = (line[2] or "", reason.partition(", got ")[0]) if line else (name, "")
        found.setdefault(key, []).append(f"{name}: {reason}")
    return [f"{own[0]}" + (f" (and {len(own) - 1} more like it)" if len(own) > 1 else "") for own in found.values()]


def skipped(bad: Mapping[str, str]) -> dict[str, Any]:
    """What is recorded of what is not used."""
    return {"skipped": places(bad), "skipped_first": lines_of(bad)[:FIRST]} if bad else {}


def places(bad: Mapping[str, str]) -> int:
    """How many files or lines cannot be used, of which several columns may be bad."""
    return len({TABLE_LINE.sub(r"\1", name) for name in bad})

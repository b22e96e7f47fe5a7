"""The lengths in a WAV file's header, which a program that writes to a pipe, or is killed, never fills in."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmtune.base.errors import InputError

Order = Literal["little", "big"]
RIFF: dict[bytes, Order] = {b"RIFF": "little", b"RIFX": "big"}
UNFILLED = 2**29
"""A length from here on stands for one that was not known: 0x7fffffff, 0x80000000, two thousand million and others."""
SLACK = 8
"""Of bytes: some programs count the header in, or a byte that only fills up."""


def filled(content: bytes, path: Path) -> bytes:
    """A RIFF file with the lengths that it has; any other file, and one whose lengths are right, as it is.

    Raises InputError where the file was cut: it has fewer bytes than it says.
    """
    order = RIFF.get(content[:4])
    found = data_chunk(content, order) if order else None
    if order is None or found is None:
        return content
    place, length = found
    said, size, start = int.from_bytes(content[4:8], order), len(content), place + 8
    open_ended = not is_known(said)
    if is_known(said) and said + 8 > size + SLACK:
        raise InputError(f"{path}: must be complete, has {size} of {said + 8} bytes")
    if not is_known(length) and (length or open_ended):
        length = size - start
    if length > size - start + SLACK:
        raise InputError(f"{path}: must be complete, has {size} of {start + length} bytes")
    lengths = [own.to_bytes(4, order) for own in (size - 8, min(length, size - start))]
    if lengths == [content[4:8], content[place + 4 : start]]:
        return content
    return b"".join([content[:4], lengths[0], content[8 : place + 4], lengths[1], memoryview(content)[start:]])


def is_known(length: int) -> bool:
    """Whether somebody filled this length in."""
    return 0 < length < UNFILLED


def data_chunk(content: bytes, order: Order) -> tuple[int, int] | None:
    """Where the chunk of samples begins, and its length as it stands there; None where there is no such chunk."""
    place = 12
    while place + 8 <= len(content):
        length = int.from_bytes(content[place + 4 : place + 8], order)
        if content[place : place + 4] == b"data":
            return place, length
        place += 8 + length + length % 2
    return None

"""Arrays out of .npz and .npy files of unknown origin: headers are checked first, and nothing is unpickled.

An archive is never unpacked to disk, so that names such as `../x.npy` in it lead nowhere.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Collection
from io import BufferedReader, BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from mmtune.base.bounds import MEBIBYTE, open_bounded, open_raw
from mmtune.base.errors import InputError

MOST_BYTES = 4 * 2**30
# What a small file may grow to: deflated floats and pictures shrink to a tenth, a bomb to a thousandth.
MOST_RATIO, SMALL = 200, 256 * MEBIBYTE
LONGEST_HEADER = 2**16
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
MAGIC = b"\x93NUMPY"
Header = tuple[tuple[int, ...], np.dtype[Any]]


class Sips(BufferedReader):
    """A file that gives a MiB at a time: zipfile reads the directory of an archive at once, whatever its size."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(MEBIBYTE if size is None or size < 0 else min(size, MEBIBYTE))


def read_npz(path: Path, names: Collection[str] | None, optional: Collection[str] = ()) -> dict[str, NDArray[Any]]:
    """The arrays `names` of an .npz, and those of `optional` that it has; all that it has where `names` is None.

    Raises InputError where one is missing, holds objects, or is not as long as it says; where the arrays declare more
    than MOST_BYTES, or more than MOST_RATIO times the file's size once above SMALL; and where the file is damaged.
    """
    try:
        with Sips(open_raw(path, MOST_BYTES)) as file, zipfile.ZipFile(file) as archive:
            there = dict.fromkeys(info.filename.removesuffix(".npy") for info in archive.infolist())
            wanted = there if names is None else [*names, *(name for name in optional if name in there)]
            headers = {name: read_header(path, archive, name) for name in wanted}
            declared = sum(math.prod(shape) * dtype.itemsize for shape, dtype in headers.values())
            size = path.stat().st_size
            limit = min(MOST_BYTES, max(SMALL, MOST_RATIO * size))
            if declared > limit:
                raise InputError(f"{path}: arrays must take {limit} bytes at most from {size}, they declare {declared}")
            return {name: read_array(archive, name) for name in headers}
    except InputError:
        raise
    except Exception as error:  # a broken file makes zipfile, zlib and numpy raise errors of many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: must be a complete .npz file: {reason}") from error


def read_header(path: Path, archive: zipfile.ZipFile, name: str) -> Header:
    """Shape and type that a member declares; InputError unless it is there once and as long as it says."""
    members = [info for info in archive.infolist() if info.filename == f"{name}.npy"]
    if len(members) != 1:
        raise InputError(f"{path}: must hold the array {name} once, holds it {len(members)} times")
    if members[0].compress_type not in METHODS:
        raise InputError(f"{path}: {name} must be stored or deflated, is packed by method {members[0].compress_type}")
    with archive.open(members[0]) as file:
        shape, dtype, begins = parse_header(file.read(LONGEST_HEADER))
    if dtype.hasobject:
        raise InputError(f"{path}: {name} must hold plain values, holds pickled Python objects")
    needed = begins + math.prod(shape) * dtype.itemsize
    if members[0].file_size != needed:
        raise InputError(f"{path}: {name} must be {needed} bytes for {shape} {dtype}, has {members[0].file_size}")
    return shape, dtype


def parse_header(head: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type and where the values begin, by the first LONGEST_HEADER bytes of a .npy file; raises what numpy does.

    numpy itself would read a header as long as it says it is, 4 GiB at most, before it looks at it.
    """
    file = BytesIO(head)
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype, file.tell()


def read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as file:
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
        file.read(1)  # the end of a member is where its checksum is compared
    return array


def open_npy(path: Path, most: int = MOST_BYTES) -> NDArray[Any]:
    """Memory-map a .npy file to be read: it may be larger than the memory, and all processes share it.

    Only its header is read. Raises InputError where it is missing, no .npy file, pickled, truncated, or has over `most`
    bytes.
    """
    with open_bounded(path, most) as file:
        head, size = file.read(LONGEST_HEADER), os.fstat(file.fileno()).st_size
    if not head.startswith(MAGIC):
        raise InputError(f"{path}: must be a .npy file of plain numbers, begins with {head[: len(MAGIC)]!r}")
    try:
        shape, dtype, begins = parse_header(head)
        array: NDArray[Any] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except Exception as error:  # a broken header makes numpy raise what its tokenizer, parser or sorting raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: must be a valid .npy file, whole and not pickled: {reason}") from error
    expected = begins + math.prod(shape) * dtype.itemsize
    if size != expected:
        raise InputError(f"{path}: must be {expected} bytes for {shape} {dtype}, has {size}")
    return array

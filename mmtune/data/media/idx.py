"""MNIST's IDX files, by all of its common names, of any labels and any size."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmtune.base.bounds import MEBIBYTE, read_bounded, require_file
from mmtune.base.errors import InputError
from mmtune.data.media.pictures import MAX_SIDE

MAGIC = {"images": 2051, "labels": 2049}  # unsigned bytes in three dimensions, and in one
MOST_IDX = 2**30
DEFLATED = 1032  # the most bytes that one byte of deflated data can stand for
# train-images-idx3-ubyte.gz, train-images.idx3-ubyte, emnist-letters-t10k-..., X_kannada_MNIST_train-idx3-ubyte
NAME = re.compile(
    r"(?P<home>(?:.*/)?)(?:[Xy]_)?(?P<set>[^/]*?)(?P<part>train|t10k|test)(?:[-_.](?:images|labels))?"
    r"[-_.]idx(?P<axes>[13])[-_.]ubyte(?P<packed>\.gz)?"
)
KINDS = {"3": "images", "1": "labels"}


class Idx(NamedTuple):
    """pixels (N, height, width) uint8, labels (N,) names, test (N,) or None, and the paths that these were read of."""

    pixels: NDArray[np.uint8]
    labels: list[str]
    test: NDArray[np.bool_] | None
    used: list[str]


def find_idx(folder: Path, paths: Sequence[str]) -> dict[str, str]:
    """The paths of one set of IDX files below a folder by what they are, such as "train images"; {} for none.

    A file that is there twice, packed too, is read once. InputError where there are several sets.
    """
    sets: dict[str, dict[str, str]] = {}
    for path in sorted(paths, key=lambda path: (path.count("/"), path)):
        if match := NAME.fullmatch(path):
            part = "train" if match["part"] == "train" else "test"
            sets.setdefault(match["set"], {}).setdefault(f"{part} {KINDS[match['axes']]}", path)
    if len(sets) > 1:
        names = ", ".join(sorted(name.strip("-_.") or "MNIST" for name in sets))
        raise InputError(f"{folder}: must have one set of IDX files, has {names}; put each into a folder of its own")
    return next(iter(sets.values()), {})


def read_idx_set(folder: Path, files: dict[str, str]) -> Idx:
    """The pictures and labels of IDX files as `find_idx` gives them; InputError on the first that is broken."""
    parts = [part for part in ("train", "test") if f"{part} images" in files or f"{part} labels" in files]
    for part in parts:
        for kind in ("images", "labels"):
            if f"{part} {kind}" not in files:
                there = ", ".join(files.values())
                raise InputError(f"{folder}: must have the {kind} of the {part} partition, has {there}")
    pixels = [read_idx(folder / files[f"{part} images"], "images") for part in parts]
    numbers = [read_idx(folder / files[f"{part} labels"], "labels") for part in parts]
    for part, seen, own in zip(parts, pixels, numbers, strict=True):
        if len(seen) != len(own):
            path = folder / files[f"{part} labels"]
            raise InputError(f"{path}: must have as many labels as there are images ({len(seen)}), has {len(own)}")
        if seen.shape[1:] != pixels[0].shape[1:]:
            path = folder / files[f"{part} images"]
            raise InputError(f"{path}: images must be {pixels[0].shape[1:]} as in training, are {seen.shape[1:]}")
    names = label_names(folder, files)
    return Idx(
        pixels=np.concatenate(pixels) if len(pixels) > 1 else pixels[0],
        labels=[names.get(number, str(number)) for number in np.concatenate(numbers).tolist()],
        test=np.repeat([part == "test" for part in parts], [len(own) for own in numbers]) if len(parts) > 1 else None,
        used=list(files.values()),
    )


def label_names(folder: Path, files: dict[str, str]) -> dict[int, str]:
    """Letters for the labels of EMNIST, by the mapping that comes with it or, for its letters, by the alphabet."""
    first = folder / next(iter(files.values()))
    match = NAME.fullmatch(first.name)
    stem = match["set"] if match else ""
    mapping = first.with_name(f"{stem}mapping.txt")
    if stem and mapping.is_file():
        try:
            lines = [line.split() for line in read_bounded(mapping, MEBIBYTE).decode().splitlines()]
            return {int(line[0]): chr(int(line[1])) for line in lines if line}
        except (ValueError, IndexError, OverflowError) as error:
            raise InputError(f"{mapping}: each line must be a label and the number of a letter: {error}") from error
    return {n: chr(64 + n) for n in range(1, 27)} if stem.lower().startswith("emnist-letters") else {}


def read_idx(path: Path, kind: str) -> NDArray[np.uint8]:
    """An IDX file of N images (N, height, width), or of N labels (N,), uint8; N >= 1."""
    size, packed = require_file(path, MOST_IDX), path.suffix == ".gz"
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            shape = read_head(path, file, kind)
            expected = math.prod(shape)
            most = min(MOST_IDX, size * DEFLATED) if packed else size
            if expected > most:
                raise InputError(f"{path}: must hold {expected} bytes after its header, can hold {most} at most")
            body = file.read(expected + 1)
    except (EOFError, zlib.error, OSError) as error:
        raise InputError(f"{path}: must be a whole {'gzip ' if packed else ''}file: {error}") from error
    if len(body) != expected:
        more = "more" if len(body) > expected else f"{len(body)}"
        raise InputError(f"{path}: must hold {expected} bytes after its header, has {more}")
    return np.frombuffer(body, np.uint8).reshape(shape)


def read_head(path: Path, file: BinaryIO | gzip.GzipFile, kind: str) -> tuple[int, ...]:
    """The shape that the header of an IDX file says, its sides within bounds."""
    axes = 3 if kind == "images" else 1
    header = file.read(4 * (1 + axes))
    if len(header) < 4 * (1 + axes):
        raise InputError(f"{path}: must have a header of {4 * (1 + axes)} bytes, has {len(header)} bytes")
    found, count, *sides = struct.unpack(f">{1 + axes}I", header)
    if found != MAGIC[kind]:
        raise InputError(f"{path}: IDX magic number must be {MAGIC[kind]}, got {found}")
    if not count or not all(1 <= side <= MAX_SIDE for side in sides):
        raise InputError(f"{path}: must hold items of 1 to {MAX_SIDE} a side, got {count} of {tuple(sides)}")
    return (count, *sides)

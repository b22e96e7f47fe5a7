"""Folders of pictures to training and test images: MNIST's IDX files, or `label/*.png`."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmtune.base.bounds import require_file
from mmtune.base.errors import InputError
from mmtune.data.checks import require_classes_present
from mmtune.data.dataset import Progress
from mmtune.data.digits import DIGITS, NAMES
from mmtune.data.drawing import drawn
from mmtune.data.pictures import IMAGE_SHAPE, read_digit

IMAGES_MAGIC, LABELS_MAGIC = 2051, 2049  # unsigned bytes in three dimensions, and in one
MOST_IDX = 2**30
DEFLATED = 1032  # the most bytes that one byte of deflated data can stand for
PICTURES = (".png", ".jpg", ".jpeg")


class Images(NamedTuple):
    """pixels (N, 28, 28) uint8; labels (N,) int64 in 0..9."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def take(self, chosen: NDArray[Any]) -> Images:
        return Images(self.pixels[chosen], self.labels[chosen])


def read_images(folder: Path, seed: int, report: Progress) -> tuple[Images, Images, dict[str, Any]]:
    """Training and test images of a folder, and how they were recognised.

    Pictures in `label/*.png` are in `train/` and `test/` where both are there, else one of seven is drawn for the test.
    Raises InputError where neither naming fits, on a digit without images, and on the first file that is broken.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: must be a folder of images, {'is a file' if folder.exists() else 'is missing'}")
    naming, rule, parts = "label/*.png", "its own", (folder / "train", folder / "test")
    if any(folder.glob("*-idx?-ubyte*")):
        naming = "IDX"
        train, test = (read_idx_pair(folder, stem) for stem in ("train", "t10k"))
    elif all(part.is_dir() for part in parts):
        train, test = (read_pictures(part, report) for part in parts)
    else:
        images, rule = read_pictures(folder, report), f"drawn by image, seed {seed}"
        chosen = drawn(images.labels, seed)
        train, test = images.take(~chosen), images.take(chosen)
    for what, images in (("training images", train), ("test images", test)):
        require_classes_present(folder, images.labels, DIGITS, f"{what} ({rule})")
    return train, test, {"naming": naming, "partition": rule, "train": len(train.labels), "test": len(test.labels)}


def read_idx_pair(folder: Path, stem: str) -> Images:
    """The images and labels of one partition of MNIST."""
    pixels = read_idx(find_idx(folder, f"{stem}-images-idx3-ubyte"), IMAGES_MAGIC, IMAGE_SHAPE)
    path = find_idx(folder, f"{stem}-labels-idx1-ubyte")
    labels = read_idx(path, LABELS_MAGIC, ())
    if len(labels) != len(pixels):
        raise InputError(f"{path}: must have as many labels as there are images ({len(pixels)}), has {len(labels)}")
    if labels.max() > 9:
        raise InputError(f"{path}: labels must lie in 0..9, got {labels.max()}")
    return Images(pixels, labels.astype(np.int64))


def find_idx(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise InputError(f"{folder}: must have {name} or {name}.gz, has neither")


def read_idx(path: Path, magic: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An IDX file of N items of `shape`, (N, *shape) uint8, N >= 1."""
    head = 4 * (2 + len(shape))
    size = require_file(path, MOST_IDX)
    packed = path.suffix == ".gz"
    try:
        with gzip.open(path, "rb") if packed else path.open("rb") as file:
            header = file.read(head)
            if len(header) < head:
                raise InputError(f"{path}: must have a header of {head} bytes, has {len(header)} bytes")
            found, count, *sides = struct.unpack(f">{head // 4}I", header)
            if found != magic:
                raise InputError(f"{path}: IDX magic number must be {magic}, got {found}")
            if tuple(sides) != shape or not count:
                raise InputError(f"{path}: must hold items of shape {shape}, got {count} of {tuple(sides)}")
            expected = count * math.prod(shape)
            most = min(MOST_IDX, size * DEFLATED) if packed else size
            if expected > most:
                raise InputError(f"{path}: must hold {expected} bytes after its header, can hold {most} at most")
            body = file.read(expected + 1)
    except (EOFError, zlib.error, OSError) as error:
        raise InputError(f"{path}: must be a whole {'gzip ' if packed else ''}file: {error}") from error
    if len(body) != expected:
        more = "more" if len(body) > expected else f"{len(body)}"
        raise InputError(f"{path}: must hold {expected} bytes after its header, has {more}")
    return np.frombuffer(body, np.uint8).reshape(count, *shape)


def folders(folder: Path) -> list[Path]:
    """The folders right in a folder, sorted, hidden ones left out."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def read_pictures(folder: Path, report: Progress) -> Images:
    """Every picture in the folders of a folder that are named by a digit or its English word."""
    found = [
        (path, NAMES[label.name.lower()])
        for label in folders(folder)
        if label.name.lower() in NAMES
        for path in sorted(label.iterdir())
        if path.suffix.lower() in PICTURES and not path.name.startswith(".")
    ]
    if not found:
        raise InputError(f"{folder}: must have MNIST's IDX files or pictures in label/*.png, has neither")
    pixels = np.empty((len(found), *IMAGE_SHAPE), np.uint8)
    for position, (path, _) in enumerate(found):
        pixels[position] = read_digit(path)
        report("pictures", position + 1, len(found))
    return Images(pixels, np.array([digit for _, digit in found], np.int64))

"""The six .npy files of Khacef's data set, published or written alike, with every doubt turned into one line.

    data_wr_{train,test}.npy   images, N x 784: integers 0..255, or floats in [0, 1] or [0, 255]
    data_sp_{train,test}.npy   audio features, N x 507, a clip repeated for every image it is paired with
    labels_{train,test}.npy    digits, N

Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.bounds import inside, open_bounded
from mmtune.base.errors import InputError
from mmtune.base.rules import CLASSES
from mmtune.data.archives import LONGEST_HEADER, MOST_BYTES, parse_header
from mmtune.data.checks import content_digest
from mmtune.data.dataset import AUDIO_SHAPE, IMAGE_SHAPE, Dataset, Partition
from mmtune.data.digits import require_digits

KHACEF_FILES = tuple(f"{kind}_{part}.npy" for part in ("train", "test") for kind in ("data_wr", "data_sp", "labels"))
IMAGE_VALUES = math.prod(IMAGE_SHAPE)
AUDIO_VALUES = math.prod(AUDIO_SHAPE)
CHUNK = 8192
MAGIC = b"\x93NUMPY"


def load_khacef(folder: Path) -> Dataset:
    """The set in a folder that has all six files: clips are the distinct rows within a digit, speakers unknown."""
    train, test = (read_partition(folder, part) for part in ("train", "test"))
    return Dataset(
        name=folder.name,
        folder=folder,
        train=train,
        test=test,
        digest=content_digest(train, test),
        provenance={"source": "files without manifest", "clips": "equal rows within a digit are one clip"},
        features=None,
    )


def read_partition(folder: Path, part: str) -> Partition:
    of_labels, of_images, of_audio = (inside(folder, f"{kind}_{part}.npy") for kind in ("labels", "data_wr", "data_sp"))
    count = len(rows_of(of_labels, 1))
    for path, width in ((of_images, IMAGE_VALUES), (of_audio, AUDIO_VALUES)):
        found = len(rows_of(path, width))
        if found != count:
            raise InputError(f"{path}: must have as many rows as labels_{part}.npy ({count}), has {found}")
    labels, images, rows = read_labels(of_labels), read_images(of_images), read_audio(of_audio)
    ids = [f"{d}-{hashlib.blake2b(row.data, digest_size=12).hexdigest()}" for d, row in zip(labels, rows, strict=True)]
    position = {clip: number for number, clip in enumerate(dict.fromkeys(ids))}
    index = np.array([position[clip] for clip in ids], np.int64)
    clips = np.empty((len(position), *AUDIO_SHAPE), np.float32)
    clips[index] = rows.reshape(-1, *AUDIO_SHAPE)
    return Partition(
        images=images,
        clips=clips,
        clip_index=index,
        labels=labels,
        speaker=np.full(len(clips), "", "<U1"),
        clip_id=np.array(list(position)),
    )


def open_array(path: Path) -> NDArray[Any]:
    """Memory-map a .npy file; InputError where it is missing, no .npy file, pickled, truncated or too long.

    Only its header is read; the file may have MOST_BYTES.
    """
    with open_bounded(path, MOST_BYTES) as file:
        head, size = file.read(LONGEST_HEADER), os.fstat(file.fileno()).st_size
    if not head.startswith(MAGIC):
        raise InputError(f"{path}: must be a .npy file of plain numbers, begins with {head[: len(MAGIC)]!r}")
    try:
        shape, dtype, begins = parse_header(head)
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a broken header makes numpy raise what its tokenizer, parser or sorting raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: must be a valid .npy file, whole and not pickled: {reason}") from error
    expected = begins + math.prod(shape) * dtype.itemsize
    if size != expected:
        raise InputError(f"{path}: must be {expected} bytes for {shape} {dtype}, has {size}")
    return array


def rows_of(path: Path, width: int) -> NDArray[Any]:
    """Open an array of N rows of `width` real numbers, N >= 1; of one number each they may be (N,)."""
    found = open_array(path)
    array = found[:, None] if found.ndim == width == 1 else found
    if array.ndim != 2 or array.shape[1] != width or not len(array):
        rule = "(N,)" if width == 1 else f"(N, {width})"
        raise InputError(f"{path}: shape must be {rule} with N >= 1, got {found.shape}")
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path}: dtype must be a real number type, got {array.dtype}")
    return array


def read_images(path: Path) -> NDArray[np.uint8]:
    """Images as (N, 28, 28) uint8."""
    array = rows_of(path, IMAGE_VALUES)
    low, high = value_range(path, array)
    if low < 0 or high > 255:
        raise InputError(f"{path}: pixels must lie in [0, 1] or [0, 255], got {low:g} to {high:g}")
    scale = 255.0 if array.dtype.kind == "f" and high <= 1 else 1.0
    images = np.empty((len(array), *IMAGE_SHAPE), np.uint8)
    for start in range(0, len(array), CHUNK):
        part = np.rint(array[start : start + CHUNK] * scale)
        images[start : start + CHUNK] = part.reshape(-1, *IMAGE_SHAPE)
    return images


def read_audio(path: Path) -> NDArray[np.float32]:
    """Audio features as (N, 507) float32, every value finite."""
    array, most = rows_of(path, AUDIO_VALUES), float(np.finfo(np.float32).max)
    if max(map(abs, value_range(path, array))) > most:
        raise InputError(f"{path}: values must fit float32, got one beyond {most:g}")
    return np.array(array, np.float32, order="C") + np.float32(0)  # -0.0 and 0.0 are one value, so must be one clip


def value_range(path: Path, array: NDArray[Any]) -> tuple[float, float]:
    """The least and the greatest value; InputError on NaN or infinity, which numpy's min and max carry."""
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        row = int(np.argmin(np.isfinite(array).all(axis=1)))
        raise InputError(f"{path}: every value must be finite, row {row} holds NaN or infinity")
    return low, high


def read_labels(path: Path) -> NDArray[np.int64]:
    """Labels as (N,) int64, every digit of 0..9 among them, from any integer type, or floats that are whole numbers."""
    values = np.array(rows_of(path, 1)).reshape(-1)
    wrong = ~np.isin(values, np.arange(CLASSES))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(f"{path}: labels must be whole numbers from 0 to 9, row {row} is {values[row]}")
    labels = values.astype(np.int64)
    require_digits(path, labels, "rows")
    return labels

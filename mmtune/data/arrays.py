"""The six .npy files of Khacef's format, read with every doubt turned into one line.

Nothing is unpickled. Files come as Khacef published them (float64, images in [0, 1] or [0, 255]) or as
mmtune writes them (uint8 images, float32 audio, int64 labels).
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.bounds import open_bounded
from mmtune.base.errors import InputError
from mmtune.base.rules import CLASSES
from mmtune.data.archives import LONGEST_HEADER, MOST_BYTES, parse_header
from mmtune.data.dataset import AUDIO_SHAPE, IMAGE_SHAPE

IMAGE_VALUES = math.prod(IMAGE_SHAPE)
AUDIO_VALUES = math.prod(AUDIO_SHAPE)
CHUNK = 8192
MAGIC = b"\x93NUMPY"


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
        raise InputError(f"{path}: {explain(error)}") from error
    expected = begins + math.prod(shape) * dtype.itemsize
    if size != expected:
        raise InputError(f"{path}: must be {expected} bytes for {shape} {dtype}, has {size}")
    return array


def explain(error: Exception) -> str:
    """numpy's complaint about a .npy file as one line of ours."""
    text = " ".join(str(error).split())
    if "Python objects" in text or "pickle" in text:
        return "must hold plain numbers, holds pickled Python objects"
    if "mmap length" in text or isinstance(error, EOFError):
        return "must be complete, is truncated"
    return f"must be a valid .npy file: {text}"


def rows_of(path: Path, width: int) -> NDArray[Any]:
    """Open an array of N rows of `width` real numbers, N >= 1."""
    array = open_array(path)
    if array.ndim != 2 or array.shape[1] != width or not len(array):
        raise InputError(f"{path}: shape must be (N, {width}) with N >= 1, got {array.shape}")
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path}: dtype must be a real number type, got {array.dtype}")
    return array


def read_images(path: Path) -> NDArray[np.uint8]:
    """Images as (N, 28, 28) uint8 from N x 784: integers 0..255, or floats in [0, 1] or [0, 255]."""
    array = rows_of(path, IMAGE_VALUES)
    if array.dtype == np.uint8:
        return np.array(array).reshape(-1, *IMAGE_SHAPE)
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
    array = rows_of(path, AUDIO_VALUES)
    value_range(path, array)
    with np.errstate(over="ignore"):
        rows = np.array(array, dtype=np.float32, order="C")
    if array.dtype.itemsize > 4 and not np.all(np.isfinite(rows)):
        raise InputError(f"{path}: values must fit float32, got one beyond {np.finfo(np.float32).max:g}")
    rows += np.float32(0)  # -0.0 and 0.0 are one value, so they must be one clip
    return rows


def value_range(path: Path, array: NDArray[Any]) -> tuple[float, float]:
    """The least and the greatest value; InputError on NaN or infinity."""
    low, high = math.inf, -math.inf
    for start in range(0, len(array), CHUNK):
        part = array[start : start + CHUNK]
        low, high = min(low, float(part.min())), max(high, float(part.max()))
        # min() and max() of Python keep or drop NaN by the order of their arguments, numpy's carry it
        if not math.isfinite(float(part.min()) + float(part.max())):
            row = start + int(np.flatnonzero(~np.isfinite(part).all(axis=1))[0])
            raise InputError(f"{path}: every value must be finite, row {row} holds NaN or infinity")
    return low, high


def open_labels(path: Path) -> NDArray[Any]:
    """Open an array of N real numbers, (N,) or (N, 1), N >= 1."""
    array = open_array(path)
    if array.shape[1:] not in ((), (1,)) or not array.ndim or not len(array):
        raise InputError(f"{path}: shape must be (N,) with N >= 1, got {array.shape}")
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path}: dtype must be an integer type, got {array.dtype}")
    return array


def read_labels(path: Path) -> NDArray[np.int64]:
    """Labels as (N,) int64 in 0..9 from any integer type, or floats that are whole numbers."""
    array = open_labels(path)
    values = np.array(array).reshape(-1)
    wrong = ~np.isin(values, np.arange(CLASSES))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(f"{path}: labels must be whole numbers from 0 to 9, row {row} is {values[row]}")
    return values.astype(np.int64)


def read_waveforms(path: Path, samples: int) -> NDArray[np.int16]:
    """Waveforms as (M, samples) int16."""
    array = rows_of(path, samples)
    if array.dtype != np.int16:
        raise InputError(f"{path}: dtype must be int16, got {array.dtype}")
    return np.array(array)

"""The six .npy files of Khacef's data set, published or written alike, with every doubt turned into one line.

    data_wr_{train,test}.npy   images, N x 784: integers 0..255, or floats in [0, 1] or [0, 255]
    data_sp_{train,test}.npy   audio features, N x 507, a clip repeated for every image it is paired with
    labels_{train,test}.npy    digits, N

Nothing is unpickled.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.bounds import inside
from mmtune.base.errors import InputError
from mmtune.data.checks import content_digest, require_classes_present
from mmtune.data.dataset import RECORDING, Dataset, Partition
from mmtune.data.digits import DIGITS
from mmtune.data.forms import Digit, Ready
from mmtune.data.identity import content_ids, distinct
from mmtune.data.media.archives import open_npy
from mmtune.data.media.pictures import IMAGE_SHAPE

KHACEF_FILES = tuple(f"{kind}_{part}.npy" for part in ("train", "test") for kind in ("data_wr", "data_sp", "labels"))
AUDIO_SHAPE = (39, 13)
IMAGE_VALUES = math.prod(IMAGE_SHAPE)
AUDIO_VALUES = math.prod(AUDIO_SHAPE)
CHUNK = 8192


def load_khacef(folder: Path) -> Dataset:
    """The set in a folder that has all six files: recordings are the distinct rows of audio, speakers unknown."""
    train, test = (read_partition(folder, part) for part in ("train", "test"))
    return Dataset(
        name=folder.name,
        folder=folder,
        classes=DIGITS,
        forms={"image": Digit(), "audio": Ready(sides=AUDIO_SHAPE)},
        train=train,
        test=test,
        digest=content_digest(DIGITS, train, test),
        provenance={"source": "files without manifest", "recordings": "equal rows of audio are one recording"},
    )


def read_partition(folder: Path, part: str) -> Partition:
    of_labels, of_images, of_audio = (inside(folder, f"{kind}_{part}.npy") for kind in ("labels", "data_wr", "data_sp"))
    count = len(rows_of(of_labels, 1))
    for path, width in ((of_images, IMAGE_VALUES), (of_audio, AUDIO_VALUES)):
        found = len(rows_of(path, width))
        if found != count:
            raise InputError(f"{path}: must have as many rows as labels_{part}.npy ({count}), has {found}")
    labels, images = read_labels(of_labels), distinct(read_images(of_images))
    audio = distinct(read_audio(of_audio).reshape(-1, *AUDIO_SHAPE))
    recordings = np.array([own.hex() for own in content_ids(audio.values)])
    return Partition(
        banks={"image": images, "audio": audio}, labels=labels, groups={RECORDING: recordings[audio.index]}
    )


def rows_of(path: Path, width: int) -> NDArray[Any]:
    """Open an array of N rows of `width` real numbers, N >= 1; of one number each they may be (N,)."""
    found = open_npy(path)
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
    wrong = ~np.isin(values, np.arange(len(DIGITS)))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(f"{path}: labels must be whole numbers from 0 to 9, row {row} is {values[row]}")
    labels = values.astype(np.int64)
    require_classes_present(path, labels, DIGITS, "rows")
    return labels

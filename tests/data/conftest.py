"""Real WAV and PNG files, written small, that the sources of a data set can be made of."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from mmtune.data.pictures import normalise

WriteWav = Callable[..., Path]


def tone(seed: int, rate: int = 8000, seconds: float = 0.5) -> NDArray[np.float64]:
    """A chord with a little noise, different for every seed."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(rate * seconds)) / rate
    chord = sum(np.sin(2 * np.pi * f * time) for f in rng.uniform(200, 3000, 3))
    return np.asarray(0.2 * chord + rng.normal(0, 0.01, len(time)))


@pytest.fixture(scope="session")
def write_wav() -> WriteWav:
    """Write a recording of its own for every path: write_wav(path, rate=, seconds=, subtype=, channels=)."""

    def write(
        path: Path, rate: int = 8000, seconds: float = 0.5, subtype: str = "PCM_16", channels: int = 1, seed: int = 0
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        own = int.from_bytes(path.name.encode() + path.parent.name.encode(), "little") % 2**32 + seed
        samples = tone(own, rate, seconds)
        soundfile.write(path, np.repeat(samples[:, None], channels, axis=1), rate, subtype=subtype)
        return path

    return write


@pytest.fixture(scope="session")
def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """140 real digits at 28 x 28, and their labels, 14 of each."""
    pixels, labels = load_digits(return_X_y=True)
    rows = np.concatenate([np.flatnonzero(labels == digit)[:14] for digit in range(10)])
    return np.stack([normalise(x / 16) for x in pixels[rows].reshape(-1, 8, 8)]), labels[rows].astype(np.int64)


def idx_bytes(array: NDArray[np.uint8], magic: int) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.tobytes()


@pytest.fixture
def idx_folder(tmp_path: Path, digits: tuple[NDArray[np.uint8], NDArray[np.int64]]) -> Path:
    """MNIST's four files, compressed, with 120 + 20 images."""
    folder = tmp_path / "idx"
    folder.mkdir()
    pixels, labels = digits
    test = np.arange(len(labels)) % 7 == 0
    for stem, chosen in (("train", ~test), ("t10k", test)):
        images, names = pixels[chosen], labels[chosen].astype(np.uint8)
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images, 2051), 1))
        (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(names, 2049), 1))
    return folder


@pytest.fixture
def fsdd_folder(tmp_path: Path, write_wav: WriteWav) -> Path:
    """FSDD in small: 2 speakers, indices 0, 4, 5, 6 of every digit."""
    for digit in range(10):
        for speaker in ("ann", "bob"):
            for index in (0, 4, 5, 6):
                write_wav(tmp_path / "fsdd" / "recordings" / f"{digit}_{speaker}_{index}.wav", seconds=0.3)
    return tmp_path / "fsdd"

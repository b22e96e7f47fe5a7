"""Small files of every kind that data sets are built from, each with a content of its own."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mmtune.base.errors import InputError
from mmtune.data.dataset import RECORDING, SPEAKER, Bank, Partition

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ARABIC = "٠١٢٣٤٥٦٧٨٩"


def write_wav(path: Path, own: str = "", rate: int = 8000, seconds: float = 0.3) -> Path:
    """A chord with a little noise, different for every text `own`, which is the path if not given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32((own or path.as_posix()).encode()))
    time = np.arange(int(rate * seconds)) / rate
    chord = sum(np.sin(2 * np.pi * f * time) for f in rng.uniform(200, 3000, 3))
    coding = "flac" if path.suffix.lower() == ".flac" else "wav"
    soundfile.write(path, 0.2 * chord + rng.normal(0, 0.01, len(time)), rate, format=coding, subtype="PCM_16")
    return path


def write_picture(path: Path, text: str, own: str = "", size: tuple[int, int] = (28, 28), colour: bool = False) -> Path:
    """A text in light ink somewhere on black, with a dot or two that `own`, or the path, decides."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(zlib.crc32((own or path.as_posix()).encode()))
    picture = Image.new("RGB", (size[1], size[0]))
    ImageDraw.Draw(picture).text(tuple(rng.integers(2, 9, 2).tolist()), text, fill="white", font_size=12)
    pixels = np.array(picture)
    dots = rng.integers(60, 255, (4, 3))
    pixels[rng.integers(0, size[0], 4), rng.integers(0, size[1], 4)] = dots if colour else dots[:, :1]
    Image.fromarray(pixels).convert("RGB" if colour else "L").save(path)
    return path


def pictures(folder: Path, labels: Iterable[str], each: int = 7, **how: object) -> Path:
    """`label/*.png` that show the first letters of their label."""
    for label in labels:
        for turn in range(each):
            write_picture(folder / label / f"{turn}.png", label[:2], **how)  # type: ignore[arg-type]
    return folder


def recordings(folder: Path, names: Iterable[str]) -> Path:
    """Recordings of these names, each with its own content."""
    for name in names:
        write_wav(folder / name, name)
    return folder


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 2048 + array.ndim, *array.shape) + array.tobytes()


def write_idx(path: Path, array: NDArray[np.integer]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = idx_bytes(array.astype(np.uint8))
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    return path


def random_idx(labels: Sequence[int], sides: tuple[int, int] = (28, 28), seed: int = 0) -> tuple[NDArray, NDArray]:
    """Random pictures of these labels."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (len(labels), *sides), np.uint8), np.array(labels, np.uint8)


def random_partition(rows: int, values: int, seed: int = 0, classes: int = 10, speakers: int = 4) -> Partition:
    """Random rows of pictures, each with one of `values` recordings of its class, as features and as samples."""
    rng = np.random.default_rng(seed)
    index = rng.permutation(np.concatenate([np.arange(values), rng.integers(0, values, rows - values)]))
    return Partition(
        banks={
            "image": Bank(values=rng.integers(0, 256, (rows, 28, 28), np.uint8), index=np.arange(rows)),
            "audio": Bank(values=rng.random((values, 39, 13), np.float32), index=index),
            "waveform": Bank(values=rng.integers(-9999, 9999, (values, 1600), np.int16), index=index),
        },
        labels=index % classes,
        groups={
            RECORDING: np.array([f"clip {seed} {one}" for one in index]),
            SPEAKER: np.array([f"s{one // classes % speakers}" for one in index]),
        },
    )


def refusal(call: Callable[[], object]) -> str:
    """The one printable line that a call is refused with."""
    try:
        call()
    except InputError as error:
        line = str(error)
        assert line.isprintable()
        return line
    raise AssertionError("must be refused")

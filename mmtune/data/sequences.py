"""Audiovisual sequences that a user brings as one .npz file.

    frames  N x T x H x W   uint8, or floats in [0, 1]
    mfcc    N x T x K       floats
    lengths N               how many of the T steps are a sequence's own, 1..T; the others are padding
    labels  N               0..C-1, each of them present
    person  N               names or whole numbers

Other arrays in the file are not read. Nothing is unpickled, and headers are checked before anything is unpacked.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.archives import MOST_BYTES, Header, opened, read_array, read_header, require_size
from mmtune.data.checks import require_names
from mmtune.data.dataset import Dataset, Partition

ARRAYS = {
    "frames": (4, "uf", "uint8 or floats in [0, 1]"),
    "mfcc": (3, "f", "floats"),
    "lengths": (1, "iu", "integers"),
    "labels": (1, "iu", "integers"),
    "person": (1, "Uiu", "text or integers"),
}
CHUNK = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Sequences:
    """N audiovisual sequences of up to T steps, padded with zeros.

    frames (N, T, H, W) uint8; mfcc (N, T, K) float32; lengths (N,) int64 in 1..T; labels (N,) int64 in 0..C-1;
    person (N,) str. The MFCCs of a sequence's last own step are never all zero, so that padding can be told from them.
    digest: SHA-256 over the content, whatever types and compression carry it.
    """

    frames: NDArray[np.uint8]
    mfcc: NDArray[np.float32]
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]
    person: NDArray[np.str_]
    name: str
    digest: str

    def __len__(self) -> int:
        return len(self.labels)


def load_sequences(path: Path) -> Sequences:
    """Read such a file; InputError on the first rule that it breaks."""
    path = Path(path)
    arrays = read_archive(path)
    steps = arrays["frames"].shape[1]
    lengths = read_lengths(path, arrays["lengths"], steps)
    own = np.arange(steps) < lengths[:, None]
    content: dict[str, Any] = {
        "frames": read_frames(path, arrays["frames"], own),
        "mfcc": read_mfcc(path, arrays["mfcc"], own),
        "lengths": lengths,
        "labels": read_labels(path, arrays["labels"]),
        "person": read_person(path, arrays["person"]),
    }
    return Sequences(**content, name=path.stem, digest=content_digest(content))


def as_partition(sequences: Sequences) -> Partition:
    """The sequences as pairs of frames and MFCCs, each with a recording of its own, named "person/row"."""
    rows = np.arange(len(sequences), dtype=np.int64)
    names = [f"{person}/{row}" for person, row in zip(sequences.person, rows, strict=True)]
    return Partition(
        images=sequences.frames,
        clips=sequences.mfcc,
        clip_index=rows,
        labels=sequences.labels,
        speaker=sequences.person,
        clip_id=np.array(names, dtype=np.str_),
    )


def as_dataset(sequences: Sequences, path: Path) -> Dataset:
    """The sequences as a data set that is all training partition: its folds hold persons out."""
    return Dataset(
        name=sequences.name,
        folder=path,
        train=as_partition(sequences),
        test=None,
        digest=sequences.digest,
        provenance={"source": "audiovisual sequences", "file": path.name},
        features=None,
    )


def read_archive(path: Path) -> dict[str, NDArray[Any]]:
    """The five arrays, their shapes and types as the format has them, their values not yet looked at."""
    with opened(path) as archive:
        headers = {name: read_header(path, archive, name) for name in ARRAYS}
        check_headers(path, headers)
        require_size(path, headers, MOST_BYTES)
        return {name: read_array(archive, name) for name in ARRAYS}


def check_headers(path: Path, headers: dict[str, Header]) -> None:
    """Raise InputError unless shapes and types are the format's and agree."""
    for name, (shape, dtype) in headers.items():
        axes, kinds, words = ARRAYS[name]
        allowed = dtype.kind in kinds and (name != "frames" or dtype.kind == "f" or dtype == np.uint8)
        if len(shape) != axes or min(shape) < 1 or not allowed:
            raise InputError(f"{path}: {name} must have {axes} axes, none empty, of {words}; got {shape} {dtype}")
    rows, steps = headers["frames"][0][:2]
    for name, (shape, _) in headers.items():
        expected = (rows, steps)[: min(2, len(shape))]
        if shape[: len(expected)] != expected:
            raise InputError(f"{path}: {name} must begin with {expected} as frames does, has shape {shape}")


def read_lengths(path: Path, lengths: NDArray[Any], steps: int) -> NDArray[np.int64]:
    wrong = (lengths < 1) | (lengths > steps)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(f"{path}: lengths must lie in 1..{steps}, row {row} is {lengths[row]}")
    return lengths.astype(np.int64)


def read_frames(path: Path, frames: NDArray[Any], own: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Frames as bytes, zero beyond their sequence's length."""
    made = np.zeros(frames.shape, np.uint8)
    for start in range(0, len(frames), CHUNK):
        part, kept = frames[start : start + CHUNK], own[start : start + CHUNK]
        values = part[kept]
        if frames.dtype.kind == "f":
            values = to_bytes(path, values)
        made[start : start + CHUNK][kept] = values
    return made


def to_bytes(path: Path, values: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= 1):  # NaN compares as false
        raise InputError(f"{path}: frames of floats must lie in [0, 1], got {low:g} to {high:g}")
    scaled: NDArray[np.uint8] = np.rint(values.astype(np.float64) * 255).astype(np.uint8)
    return scaled


def read_mfcc(path: Path, mfcc: NDArray[Any], own: NDArray[np.bool_]) -> NDArray[np.float32]:
    """MFCCs as float32, zero beyond their sequence's length; what a file holds there is padding, NaN or not."""
    with np.errstate(over="ignore"):
        made = np.where(own[:, :, None], mfcc, 0).astype(np.float32)
    made += np.float32(0)  # -0.0 and 0.0 are one value
    wrong = ~np.isfinite(made).all(axis=(1, 2))
    if wrong.any():
        raise InputError(f"{path}: mfcc must be finite in float32, row {int(np.argmax(wrong))} holds NaN or infinity")
    silent = ~made[np.arange(len(made)), own.sum(axis=1) - 1].any(axis=1)
    if silent.any():
        row = int(np.argmax(silent))
        raise InputError(
            f"{path}: a sequence's last step must have an MFCC that is not zero, or it is padding; row {row} has none"
        )
    return made


def read_labels(path: Path, labels: NDArray[Any]) -> NDArray[np.int64]:
    found = np.unique(labels)
    if not np.array_equal(found, np.arange(len(found))) or len(found) < 2:
        raise InputError(f"{path}: labels must be 0..C-1, each present, C >= 2; got {shown(found)}")
    return labels.astype(np.int64)


def read_person(path: Path, person: NDArray[Any]) -> NDArray[np.str_]:
    names: NDArray[np.str_] = person.astype(np.str_)
    require_names(names, f"{path}: person")
    found = np.unique(names)
    odd = [name for name in found.tolist() if not name.isprintable() or name != name.strip() or not name]
    if odd:
        raise InputError(f"{path}: person must be named in printable characters, got {odd[0]!r}")
    if len(found) < 2:
        raise InputError(f"{path}: there must be at least 2 persons, to keep one out of training; got {shown(found)}")
    return names


def shown(values: NDArray[Any]) -> str:
    """Up to five values, and how many there are."""
    listed = ", ".join(str(value) for value in values[:5])
    return listed if len(values) <= 5 else f"{listed}, ... ({len(values)} in all)"


def content_digest(content: dict[str, Any]) -> str:
    digest = hashlib.sha256(b"mmtune sequences 1")
    for name in ("frames", "mfcc", "lengths", "labels"):
        array = np.ascontiguousarray(content[name])
        digest.update(f"{name}{array.shape}{array.dtype.str}".encode())
        digest.update(array.data)
    digest.update(json.dumps(content["person"].tolist()).encode())
    return digest.hexdigest()

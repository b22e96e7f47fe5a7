"""Audiovisual sequences that a user brings as one .npz file.

    frames  N x T x H x W   uint8, or floats in [0, 1]
    mfcc    N x T x K       floats
    lengths N               how many of the T steps are a sequence's own, 1..T; the others are padding
    labels  N               0..C-1, each of them present
    person  N               names or whole numbers

Other arrays in the file are not read. Nothing is unpickled, and headers are checked before anything is unpacked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.checks import content_digest, require_names
from mmtune.data.dataset import RECORDING, SPEAKER, Dataset, Partition
from mmtune.data.forms import Ready
from mmtune.data.identity import distinct
from mmtune.data.media.archives import read_npz

ARRAYS = {
    "frames": (4, "uf", "uint8 or floats in [0, 1]"),
    "mfcc": (3, "f", "floats"),
    "lengths": (1, "iu", "integers"),
    "labels": (1, "iu", "integers"),
    "person": (1, "Uiu", "text or integers"),
}


def load_sequences(path: Path) -> Dataset:
    """Such a file as a data set that is all training partition: its folds hold persons out.

    Frames are the bank image and MFCCs the bank audio, zero beyond a sequence's length; each sequence is a recording of
    its own, named "person/row". The MFCCs of its last own step are never all zero, which tells padding from them.
    Raises InputError on the first rule that the file breaks.
    """
    path = Path(path)
    arrays = read_npz(path, ARRAYS)
    require_shapes(path, arrays)
    lengths = read_lengths(path, arrays["lengths"], arrays["frames"].shape[1])
    images = read_frames(path, arrays["frames"], lengths)
    clips = read_mfcc(path, arrays["mfcc"], lengths)
    labels, person = read_labels(path, arrays["labels"]), read_person(path, arrays["person"])
    recordings = np.array([f"{name}/{row}" for row, name in enumerate(person)])
    train = Partition(
        banks={"image": distinct(images), "audio": distinct(clips)},
        labels=labels,
        groups={RECORDING: recordings, SPEAKER: person},
    )
    classes = tuple(map(str, range(int(labels.max()) + 1)))
    return Dataset(
        name=path.stem,
        folder=path,
        classes=classes,
        forms={"image": Ready(sides=images.shape[1:], of="uint8"), "audio": Ready(sides=clips.shape[1:])},
        train=train,
        test=None,
        digest=content_digest(classes, train),
        provenance={"source": "audiovisual sequences", "file": path.name},
    )


def require_shapes(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Raise InputError unless shapes and types are the format's and agree."""
    steps = arrays["frames"].shape[:2]
    for name, (axes, kinds, words) in ARRAYS.items():
        shape, dtype = arrays[name].shape, arrays[name].dtype
        allowed = dtype.kind in kinds and (name != "frames" or dtype.kind == "f" or dtype == np.uint8)
        if len(shape) != axes or min(shape) < 1 or not allowed:
            raise InputError(f"{path}: {name} must have {axes} axes, none empty, of {words}; got {shape} {dtype}")
        if shape[:2] != steps[:axes]:
            raise InputError(f"{path}: {name} must begin with {steps[:axes]} as frames does, has shape {shape}")


def read_lengths(path: Path, lengths: NDArray[Any], steps: int) -> NDArray[np.int64]:
    wrong = (lengths < 1) | (lengths > steps)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(f"{path}: lengths must lie in 1..{steps}, row {row} is {lengths[row]}")
    return lengths.astype(np.int64)


def read_frames(path: Path, frames: NDArray[Any], lengths: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Frames as bytes, zero beyond their sequence's length; one by one, as all at once would take eight times more."""
    made = np.zeros(frames.shape, np.uint8)
    for row, length in enumerate(lengths):
        values = frames[row, :length]
        if frames.dtype.kind == "f":
            low, high = values.min(), values.max()
            if not (low >= 0 and high <= 1):  # NaN compares as false
                raise InputError(f"{path}: frames of floats must lie in [0, 1], got {low:g} to {high:g}")
            values = np.rint(values.astype(np.float64) * 255)
        made[row, :length] = values
    return made


def read_mfcc(path: Path, mfcc: NDArray[Any], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
    """MFCCs as float32, zero beyond their sequence's length; what a file holds there is padding, NaN or not."""
    own = np.arange(mfcc.shape[1]) < lengths[:, None]
    with np.errstate(over="ignore"):
        made = np.where(own[:, :, None], mfcc, 0).astype(np.float32)
    made += np.float32(0)  # -0.0 and 0.0 are one value
    wrong = ~np.isfinite(made).all(axis=(1, 2))
    if wrong.any():
        raise InputError(f"{path}: mfcc must be finite in float32, row {int(np.argmax(wrong))} holds NaN or infinity")
    silent = ~made[np.arange(len(made)), lengths - 1].any(axis=1)
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

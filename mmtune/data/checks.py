"""The rules that every partition of a data set keeps, whatever it was made from."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.base.rules import CLASSES
from mmtune.data.dataset import AUDIO_SHAPE, IMAGE_SHAPE, SAMPLE_RATE, Partition
from mmtune.data.digits import require_digits

LONGEST_NAME = 1024


def check_partition(partition: Partition, where: str) -> None:
    """Raise InputError, its line beginning with `where`, unless a partition keeps the contract of `Partition`."""
    check_arrays(partition, where)
    clips, index, labels = len(partition.clips), partition.clip_index, partition.labels
    strange = labels[(labels < 0) | (labels >= CLASSES)]
    if len(strange):
        raise InputError(f"{where}: labels must lie in 0..{CLASSES - 1}, got {strange[0]}")
    require_digits(where, labels, "rows")
    outside = (index < 0) | (index >= clips)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise InputError(f"{where}: clip_index must lie in 0..{clips - 1}, row {row} is {index[row]}")
    used = np.bincount(index, minlength=clips)
    if not used.all():
        raise InputError(f"{where}: every clip must be paired with an image, clip {int(np.argmin(used))} is not")
    digit = clip_labels(partition)
    if np.any(digit[index] != labels):
        row = int(np.flatnonzero(digit[index] != labels)[0])
        said = f"clip {index[row]} is used as {digit[index[row]]} and as {labels[row]}"
        raise InputError(f"{where}: a clip must be paired with images of one digit, {said}")
    require_names(partition.speaker, f"{where}: speaker")
    require_names(partition.clip_id, f"{where}: clip_id")
    names, times = np.unique(partition.clip_id, return_counts=True)
    if times.max() > 1:
        raise InputError(f"{where}: clip ids must be unique, {names[np.argmax(times)]} occurs {times.max()} times")


def check_arrays(partition: Partition, where: str) -> None:
    """Shapes, dtypes and finite values."""
    rows, clips = partition.labels.size, partition.clip_id.size
    expected = {
        "images": ((rows, *IMAGE_SHAPE), "u1"),
        "clips": ((clips, *AUDIO_SHAPE), "f4"),
        "clip_index": ((rows,), "i8"),
        "labels": ((rows,), "i8"),
        "speaker": ((clips,), "U"),
        "clip_id": ((clips,), "U"),
        "waveforms": ((clips, SAMPLE_RATE), "i2"),
    }
    for name, (shape, kind) in expected.items():
        array = getattr(partition, name)
        if array is None and name == "waveforms":
            continue
        if array.shape != shape or not array.dtype.str[1:].startswith(kind) or not array.dtype.isnative:
            raise InputError(f"{where}: {name} must be {shape} of type {kind}, got {array.shape} {array.dtype}")
    if not np.all(np.isfinite(partition.clips)):
        raise InputError(f"{where}: clips must be finite, got NaN or infinity")


def require_modalities(partition: Partition, modalities: tuple[str, ...]) -> None:
    """Raise InputError where a partition lacks what a model reads."""
    if "waveform" in modalities and partition.waveforms is None:
        raise InputError(
            "this model hears waveforms, and the data set came as features only: build one from recordings with "
            "`mmtune data build`, or let the model hear features with `--fix view=mfcc`"
        )


def require_names(names: NDArray[np.str_], what: str) -> None:
    """Raise InputError, its line beginning with `what`, unless names are text of LONGEST_NAME characters at most.

    Text has no control characters, which would reach a terminal, and no numbers that are no character, which numpy
    reads from a file all the same.
    """
    if names.dtype.itemsize > 4 * LONGEST_NAME:
        raise InputError(f"{what} must have {LONGEST_NAME} characters at most, may have {names.dtype.itemsize // 4}")
    if not names.dtype.itemsize:
        return
    codes = np.ascontiguousarray(names, dtype=names.dtype.newbyteorder("=")).reshape(-1, 1).view(np.uint32)
    control = ((codes > 0) & (codes < 0x20)) | ((codes >= 0x7F) & (codes < 0xA0))
    wrong = (control | ((codes >= 0xD800) & (codes < 0xE000)) | (codes > 0x10FFFF)).any(axis=1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(f"{what} must be text, row {row} holds a control character or what is no character")


def clip_labels(partition: Partition) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The digit that each clip says, (M,) int64, read off the rows that use it."""
    digit = np.full(len(partition.clips), -1, np.int64)
    digit[partition.clip_index] = partition.labels
    return digit


def content_digest(*partitions: Partition) -> str:
    """SHA-256 over the content of a data set's partitions: the same whatever types and files carry it."""
    digest = hashlib.sha256(b"mmtune data 1")
    for partition in partitions:
        for name in ("images", "labels", "clips", "clip_index", "waveforms"):
            array = getattr(partition, name)
            if array is not None:
                digest.update(f"{name}{array.shape}{array.dtype.str}".encode())
                digest.update(np.ascontiguousarray(array).data)
        digest.update(json.dumps([partition.speaker.tolist(), partition.clip_id.tolist()]).encode())
    return digest.hexdigest()

"""A data set on disk: Khacef's six files, and beside them what they cannot say.

    data_wr_{train,test}.npy   images, N x 784 uint8
    data_sp_{train,test}.npy   audio features, N x 507 float32, a clip repeated for every image it is paired with
    labels_{train,test}.npy    digits, N int64
    clips.npz                  of each partition: clip_index (N,), clip_id (M,), speaker (M,)
    manifest.json              name, provenance, feature statistics, content digest, SHA-256 of every file
    waveforms_{train,test}.npy M x 16,000 int16, where recordings are at hand

The first three are a set by themselves, as Khacef published it; clips are then told apart by equal rows.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.bounds import inside, require_file
from mmtune.base.errors import InputError
from mmtune.base.files import read_json
from mmtune.data.archives import MOST_BYTES, read_npz
from mmtune.data.arrays import (
    AUDIO_VALUES,
    IMAGE_VALUES,
    open_labels,
    read_audio,
    read_images,
    read_labels,
    read_waveforms,
    rows_of,
)
from mmtune.data.atomic import new_folder
from mmtune.data.checks import check_partition, content_digest, require_classes
from mmtune.data.dataset import AUDIO_SHAPE, SAMPLE_RATE, Dataset, Partition
from mmtune.data.features import FeatureStats
from mmtune.data.sequences import load_sequences

FORMAT = 1
PARTS = ("train", "test")
KHACEF_FILES = tuple(f"{kind}_{part}.npy" for part in PARTS for kind in ("data_wr", "data_sp", "labels"))
MANIFEST, CLIPS = "manifest.json", "clips.npz"
NAMED_FILES = (*KHACEF_FILES, CLIPS, *(f"waveforms_{part}.npy" for part in PARTS))
MOST_SIDECAR = 2**30
LONGEST_SET_NAME = 255
SIDECAR_ARRAYS = {"clip_index": "i8", "clip_id": "U", "speaker": "U"}


def save(dataset: Dataset, folder: Path, *, keep: bool = False) -> Dataset:
    """Write a data set, whole or not at all; return it with its new folder and its digest.

    A data set of mmtune that stands in `folder` is replaced, or kept if `keep`; InputError where anything else
    stands there.
    """
    folder = Path(os.path.realpath(folder))
    require_name(dataset.name, str(folder))
    require_replaceable(folder)
    parts = {"train": dataset.train, "test": dataset.require_test()}
    for part, partition in parts.items():
        check_partition(partition, f"{folder} ({part})")
    digest = content_digest(parts["train"], parts["test"])
    with new_folder(folder, keep=keep) as temporary:
        for part, partition in parts.items():
            write_arrays(temporary, part, partition)
        named = {f"{part}_{name}": getattr(p, name) for part, p in parts.items() for name in SIDECAR_ARRAYS}
        np.savez_compressed(temporary / CLIPS, **named)
        manifest = {
            "format": FORMAT,
            "name": dataset.name,
            "digest": digest,
            "provenance": dict(dataset.provenance),
            "features": None if dataset.features is None else dict(dataset.features),
            "files": {path.name: sha256(path) for path in sorted(temporary.iterdir())},
        }
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return replace(dataset, folder=folder, digest=digest)


def write_arrays(folder: Path, part: str, partition: Partition) -> None:
    np.save(folder / f"data_wr_{part}.npy", partition.images.reshape(len(partition), -1))
    np.save(folder / f"data_sp_{part}.npy", partition.clips.reshape(len(partition.clips), -1)[partition.clip_index])
    np.save(folder / f"labels_{part}.npy", partition.labels)
    if partition.waveforms is not None:
        np.save(folder / f"waveforms_{part}.npy", partition.waveforms)


def require_replaceable(folder: Path) -> None:
    """Raise InputError where `folder` is something other than nothing, an empty folder, or a data set of mmtune."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not (folder / MANIFEST).is_file():
        raise InputError(f"{folder}: must not exist, or be a data set of mmtune to replace; it is something else")
    read_manifest(folder)


def load(folder: Path, *, verify: bool = True) -> Dataset:
    """Read a data set: a folder in Khacef's format, with or without mmtune's sidecar, or an .npz of sequences.

    verify: whether the files must have the SHA-256 that the manifest names; workers that read what their
        coordinator has verified leave it out. Every other check is always made.
    The folder may be, or lie behind, a symbolic link; a link in it may not lead out of it.
    Raises InputError on the first file that breaks a rule.
    """
    folder = Path(os.path.realpath(folder))
    require_name(folder.name, str(folder))
    if folder.suffix == ".npz" and folder.is_file():
        return load_sequences(folder)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "is missing"
        raise InputError(f"{folder}: must be a folder with a data set, {found}")
    missing = [name for name in KHACEF_FILES if not inside(folder, name).is_file()]
    if missing:
        raise InputError(f"{folder}: a data set must have {', '.join(KHACEF_FILES)}; missing {', '.join(missing)}")
    sidecar = [inside(folder, name).is_file() for name in (MANIFEST, CLIPS)]
    if not any(sidecar):
        return load_bare(folder)
    if not all(sidecar):
        raise InputError(f"{folder}: {MANIFEST} and {CLIPS} must both be there or both be missing, one is missing")
    return load_with_sidecar(folder, verify)


def require_name(name: str, where: str) -> None:
    """Raise InputError unless a data set's name is one printable part of a path: files are named after it."""
    if not name.isprintable() or "/" in name or name in ("", ".", "..") or len(os.fsencode(name)) > LONGEST_SET_NAME:
        raise InputError(
            f"{where}: a data set's name must be printable, without / and of {LONGEST_SET_NAME} bytes at most, "
            f"got {name!r}"
        )


def load_bare(folder: Path) -> Dataset:
    """A set of six files alone: clips are the distinct rows within a digit, their speakers unknown."""
    train, test = (bare_partition(folder, part) for part in PARTS)
    provenance = {"source": "files without sidecar", "clips": "equal rows within a digit are one clip"}
    digest = content_digest(train, test)
    return Dataset(
        name=folder.name, folder=folder, train=train, test=test, digest=digest, provenance=provenance, features=None
    )


def bare_partition(folder: Path, part: str) -> Partition:
    images, rows, labels = read_rows(folder, part)
    first: dict[str, int] = {}
    index = np.empty(len(rows), np.int64)
    position: dict[str, int] = {}
    for row, (label, values) in enumerate(zip(labels, rows, strict=True)):
        clip = f"{label}-{hashlib.blake2b(values.data, digest_size=12).hexdigest()}"
        first.setdefault(clip, row)
        index[row] = position.setdefault(clip, len(position))
    clips = rows[list(first.values())].reshape(-1, *AUDIO_SHAPE)
    ids = np.array(list(first), dtype=np.str_)
    unknown = np.full(len(clips), "", dtype="<U1")
    return Partition(images=images, clips=clips, clip_index=index, labels=labels, speaker=unknown, clip_id=ids)


def read_rows(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int64]]:
    """The images, audio rows and labels of a partition, equally many, every digit among them."""
    of_labels, of_images, of_audio = (inside(folder, f"{kind}_{part}.npy") for kind in ("labels", "data_wr", "data_sp"))
    rows = len(open_labels(of_labels))
    for path, width in ((of_images, IMAGE_VALUES), (of_audio, AUDIO_VALUES)):
        found = len(rows_of(path, width))
        if found != rows:
            raise InputError(f"{path}: must have as many rows as labels_{part}.npy ({rows}), has {found}")
    labels = read_labels(of_labels)
    require_classes(labels, str(of_labels))
    return read_images(of_images), read_audio(of_audio), labels


def load_with_sidecar(folder: Path, verify: bool) -> Dataset:
    manifest = read_manifest(folder)
    if verify:
        check_files(folder, manifest["files"])
    sidecar = read_sidecar(inside(folder, CLIPS))
    train, test = (sidecar_partition(folder, part, sidecar, manifest["files"]) for part in PARTS)
    if verify and content_digest(train, test) != manifest["digest"]:
        raise InputError(f"{folder / MANIFEST}: digest must be that of the content, got {manifest['digest']}")
    fields = {name: manifest[name] for name in ("name", "digest", "provenance", "features")}
    return Dataset(folder=folder, train=train, test=test, **fields)


def sidecar_partition(
    folder: Path, part: str, sidecar: Mapping[str, NDArray[Any]], files: Mapping[str, str]
) -> Partition:
    images, rows, labels = read_rows(folder, part)
    index, clip_id, speaker = (sidecar[f"{part}_{name}"] for name in SIDECAR_ARRAYS)
    where = f"{folder / CLIPS} ({part})"
    if index.shape != labels.shape or len(index) == 0 or index.min() < 0 or index.max() >= len(clip_id):
        raise InputError(
            f"{where}: clip_index must be {len(labels)} numbers in 0..{len(clip_id) - 1}, "
            f"got {len(index)} in {index.min(initial=0)}..{index.max(initial=0)}"
        )
    clips = np.empty((len(clip_id), rows.shape[1]), np.float32)
    clips[index] = rows
    changed = np.flatnonzero((clips[index] != rows).any(axis=1))
    unused = np.bincount(index, minlength=len(clips)) == 0
    clips[unused] = 0
    if len(changed):
        raise InputError(f"{folder / f'data_sp_{part}.npy'}: row {changed[0]} must equal the other rows of its clip")
    waves = f"waveforms_{part}.npy"
    partition = Partition(
        images=images,
        clips=clips.reshape(-1, *AUDIO_SHAPE),
        clip_index=index,
        labels=labels,
        speaker=speaker,
        clip_id=clip_id,
        waveforms=read_waveforms(inside(folder, waves), SAMPLE_RATE) if waves in files else None,
    )
    check_partition(partition, where)
    return partition


def read_sidecar(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of clips.npz, typed and one-dimensional."""
    arrays = read_npz(path, [f"{part}_{name}" for part in PARTS for name in SIDECAR_ARRAYS], most=MOST_SIDECAR)
    for name, array in arrays.items():
        kind = SIDECAR_ARRAYS[name.split("_", 1)[1]]
        if array.ndim != 1 or not array.dtype.str[1:].startswith(kind):
            raise InputError(f"{path}: {name} must be one-dimensional of type {kind}, got {array.shape} {array.dtype}")
    return arrays


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, its fields present and of the right types."""
    path = inside(folder, MANIFEST)
    manifest = read_json(path)
    if manifest.get("format") != FORMAT:
        raise InputError(f"{path}: format must be {FORMAT}, got {manifest.get('format')!r}")
    types = {"name": str, "digest": str, "provenance": dict, "files": dict}
    for name, kind in types.items():
        if not isinstance(manifest.get(name), kind):
            raise InputError(f"{path}: {name} must be a {kind.__name__}, got {manifest.get(name)!r}")
    require_name(manifest["name"], str(path))
    if manifest.setdefault("features", None) is not None:
        FeatureStats.from_json(manifest["features"], str(path))
    return manifest


def check_files(folder: Path, files: Mapping[str, str]) -> None:
    """Raise InputError unless every file has the SHA-256 that the manifest names."""
    unnamed = [name for name in (*KHACEF_FILES, CLIPS) if name not in files]
    if unnamed:
        raise InputError(f"{folder / MANIFEST}: files must name {unnamed[0]}, it does not")
    strange = [name for name in files if name not in NAMED_FILES]
    if strange:
        raise InputError(f"{folder / MANIFEST}: files must be among {', '.join(NAMED_FILES)}, got {strange[0]!r}")
    for name, expected in files.items():
        path = inside(folder, name)
        require_file(path, MOST_BYTES)
        if sha256(path) != expected:
            raise InputError(f"{path}: SHA-256 must be {str(expected)[:16]}... as in {MANIFEST}, the file was changed")


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

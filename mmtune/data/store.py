"""A data set on disk: a file of arrays for each partition, and beside them what these cannot say.

train.npz, test.npz  images (N, 28, 28), clips (M, 39, 13), clip_index (N,), labels (N,), speaker (M,), clip_id (M,),
                     and waveforms (M, 16000) where recordings are at hand
manifest.json        name, provenance, feature statistics, content digest
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.base.bounds import inside
from mmtune.base.errors import InputError
from mmtune.base.files import read_json
from mmtune.data.archives import read_npz
from mmtune.data.atomic import new_folder
from mmtune.data.checks import check_partition, content_digest
from mmtune.data.dataset import Dataset, Partition
from mmtune.data.features import FeatureStats
from mmtune.data.khacef import KHACEF_FILES, load_khacef
from mmtune.data.sequences import load_sequences

FORMAT = 2
MANIFEST, TRAIN, TEST = "manifest.json", "train.npz", "test.npz"
ARRAYS = ("images", "clips", "clip_index", "labels", "speaker", "clip_id")
LONGEST_SET_NAME = 255


def save(dataset: Dataset, folder: Path, *, keep: bool = False) -> Dataset:
    """Write a data set, whole or not at all; return it with its new folder and its digest.

    A data set of mmtune that stands in `folder` is replaced, or kept if `keep`; InputError where anything else
    stands there.
    """
    folder = Path(os.path.realpath(folder))
    require_name(dataset.name, str(folder))
    require_replaceable(folder)
    parts = {TRAIN: dataset.train, TEST: dataset.require_test()}
    for name, partition in parts.items():
        check_partition(partition, str(folder / name))
    digest = content_digest(*parts.values())
    manifest = {
        "format": FORMAT,
        "name": dataset.name,
        "digest": digest,
        "provenance": dict(dataset.provenance),
        "features": None if dataset.features is None else dict(dataset.features),
    }
    with new_folder(folder, keep=keep) as temporary:
        for name, partition in parts.items():
            arrays: dict[str, Any] = {array: getattr(partition, array) for array in (*ARRAYS, "waveforms")}
            np.savez(temporary / name, **{array: own for array, own in arrays.items() if own is not None})
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return replace(dataset, folder=folder, digest=digest)


def require_replaceable(folder: Path) -> None:
    """Raise InputError where `folder` is something other than nothing, an empty folder, or a data set of mmtune."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not (folder / MANIFEST).is_file():
        raise InputError(f"{folder}: must not exist, or be a data set of mmtune to replace; it is something else")
    read_manifest(folder)


def load(folder: Path, *, verify: bool = True) -> Dataset:
    """Read a data set: a folder of mmtune's, one with the six files of Khacef's, or an .npz of sequences.

    verify: whether the content must have the digest that the manifest names; workers that read what their
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
    if inside(folder, MANIFEST).is_file():
        return load_own(folder, verify)
    missing = [name for name in KHACEF_FILES if not inside(folder, name).is_file()]
    if missing:
        names = ", ".join(KHACEF_FILES)
        raise InputError(f"{folder}: a data set must have {MANIFEST}, or {names}; missing {', '.join(missing)}")
    return load_khacef(folder)


def require_name(name: str, where: str) -> None:
    """Raise InputError unless a data set's name is one printable part of a path: files are named after it."""
    if not name.isprintable() or "/" in name or name in ("", ".", "..") or len(os.fsencode(name)) > LONGEST_SET_NAME:
        raise InputError(
            f"{where}: a data set's name must be printable, without / and of {LONGEST_SET_NAME} bytes at most, "
            f"got {name!r}"
        )


def load_own(folder: Path, verify: bool) -> Dataset:
    manifest = read_manifest(folder)
    train, test = (read_partition(inside(folder, name)) for name in (TRAIN, TEST))
    if verify and content_digest(train, test) != manifest["digest"]:
        raise InputError(
            f"{folder / MANIFEST}: digest must be that of the content, got {manifest['digest']}; a file was changed"
        )
    fields = {name: manifest[name] for name in ("name", "digest", "provenance", "features")}
    return Dataset(folder=folder, train=train, test=test, **fields)


def read_partition(path: Path) -> Partition:
    partition = Partition(**read_npz(path, ARRAYS, ["waveforms"]))
    check_partition(partition, str(path))
    return partition


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, its fields present and of the right types."""
    path = inside(folder, MANIFEST)
    manifest = read_json(path)
    if manifest.get("format") != FORMAT:
        found = repr(manifest.get("format"))
        raise InputError(f"{path}: format must be {FORMAT}, got {found}; remove the folder and make the set again")
    types = {"name": str, "digest": str, "provenance": dict}
    for name, kind in types.items():
        if not isinstance(manifest.get(name), kind):
            raise InputError(f"{path}: {name} must be a {kind.__name__}, got {manifest.get(name)!r}")
    require_name(manifest["name"], str(path))
    if manifest.setdefault("features", None) is not None:
        FeatureStats.from_json(manifest["features"], str(path))
    return manifest

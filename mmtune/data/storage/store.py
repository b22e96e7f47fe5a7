"""A data set on disk: a folder of arrays for each partition, and beside them what these cannot say.

manifest.json               name, classes, what each bank is, groups, provenance, content digest
train/labels.npy            (N,) int64; test/ has the same files
train/image.values.npy      (M, ...) of the bank `image`; image.index.npy (N,) int64
train/speaker.group.npy     (N,) str

Arrays are memory-mapped: all processes of a machine share one copy, and a bank may be larger than the memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.base.bounds import inside
from mmtune.base.errors import InputError
from mmtune.base.files import read_json
from mmtune.data.checks import (
    check_partition,
    content_digest,
    require_bank_names,
    require_classes,
    require_group_names,
    require_name,
)
from mmtune.data.dataset import TEST, TRAIN, Bank, Dataset, Partition
from mmtune.data.forms import form_from_json, form_to_json
from mmtune.data.media.archives import open_npy
from mmtune.data.storage.atomic import new_folder
from mmtune.data.storage.khacef import KHACEF_FILES, load_khacef
from mmtune.data.storage.sequences import load_sequences

FORMAT = 3
MANIFEST = "manifest.json"
LABELS, VALUES, INDEX, GROUP = "labels.npy", ".values.npy", ".index.npy", ".group.npy"
MOST_BYTES = 2**50


def save(dataset: Dataset, folder: str | Path, *, keep: bool = False) -> Dataset:
    """Write a data set, whole or not at all; return it as it is read from its new folder, with its digest.

    A data set of mmtune that stands in `folder` is replaced, or kept if `keep`; InputError where anything else
    stands there.
    """
    folder = Path(os.path.realpath(folder))
    require_name(dataset.name, str(folder))
    require_replaceable(folder)
    parts = dataset.partitions
    require_contract(dataset, folder)
    manifest = {
        "format": FORMAT,
        "name": dataset.name,
        "digest": content_digest(dataset.classes, *parts.values()),
        "classes": list(dataset.classes),
        "forms": {name: form_to_json(form) for name, form in dataset.forms.items()},
        "groups": list(dataset.train.groups),
        "keep_apart": dataset.keep_apart,
        "partitions": list(parts),
        "provenance": dict(dataset.provenance),
    }
    with new_folder(folder, keep=keep) as temporary:
        for name, partition in parts.items():
            write_partition(temporary / name, partition)
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    return load_own(folder, verify=False)


def kept(dataset: Dataset, root: Path) -> Dataset:
    """A data set as it lies in a folder: one that lies in none yet is saved in `root`, once, by what is in it."""
    if dataset.folder.name:
        return dataset
    # What its values are is not in the digest, and yet is what a file becomes.
    forms = json.dumps({name: form_to_json(form) for name, form in sorted(dataset.forms.items())}, sort_keys=True)
    content = hashlib.sha256(f"{dataset.digest} {forms}".encode()).hexdigest()
    folder = root / f"{dataset.name}-{content[:16]}"
    found = load(folder) if (folder / MANIFEST).is_file() else save(dataset, folder, keep=True)
    return replace(found, keep_apart=dataset.keep_apart)


def require_contract(dataset: Dataset, folder: Path) -> None:
    """Raise InputError unless a data set is one."""
    require_classes(dataset.classes, str(folder))
    require_bank_names(list(dataset.forms), str(folder))
    require_group_names(list(dataset.train.groups), str(folder))
    for name, partition in dataset.partitions.items():
        if set(partition.groups) != set(dataset.train.groups):
            there = ", ".join(dataset.train.groups) or "none"
            raise InputError(f"{folder / name}: groups must be those of training, {there}")
        check_partition(partition, dataset.forms, dataset.classes, str(folder / name))


def write_partition(folder: Path, partition: Partition) -> None:
    folder.mkdir()
    np.save(folder / LABELS, partition.labels)
    for name, bank in partition.banks.items():
        np.save(folder / f"{name}{VALUES}", bank.values)
        np.save(folder / f"{name}{INDEX}", bank.index)
    for name, group in partition.groups.items():
        np.save(folder / f"{name}{GROUP}", group)


def require_replaceable(folder: Path) -> None:
    """Raise InputError where `folder` is something other than nothing, an empty folder, or a data set of mmtune."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir() or not (folder / MANIFEST).is_file():
        raise InputError(f"{folder}: must not exist, or be a data set of mmtune to replace; it is something else")
    read_manifest(folder)


def load(folder: str | Path, *, verify: bool = True) -> Dataset:
    """Read a data set: a folder of mmtune's, one with the six files of Khacef's, or an .npz of sequences.

    verify: whether the content must keep the contract and have the digest that the manifest names; workers that read
        what their coordinator has verified leave it out.
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


def load_own(folder: Path, verify: bool) -> Dataset:
    manifest = read_manifest(folder)
    parts = {name: read_partition(folder, name, manifest) for name in manifest["partitions"]}
    dataset = Dataset(
        name=manifest["name"],
        folder=folder,
        classes=tuple(manifest["classes"]),
        forms={name: form_from_json(form, f"{folder / MANIFEST}: {name}") for name, form in manifest["forms"].items()},
        train=parts[TRAIN],
        test=parts.get(TEST),
        digest=manifest["digest"],
        provenance=manifest["provenance"],
        keep_apart=manifest.get("keep_apart", ""),
    )
    if verify:
        require_contract(dataset, folder)
        if content_digest(dataset.classes, *parts.values()) != dataset.digest:
            raise InputError(
                f"{folder / MANIFEST}: digest must be that of the content, got {dataset.digest}; a file was changed"
            )
    return dataset


def read_partition(folder: Path, part: str, manifest: dict[str, Any]) -> Partition:
    def array(name: str) -> np.ndarray[Any, np.dtype[Any]]:
        return open_npy(inside(folder, f"{part}/{name}"), MOST_BYTES)

    return Partition(
        banks={
            name: Bank(values=array(f"{name}{VALUES}"), index=array(f"{name}{INDEX}")) for name in manifest["forms"]
        },
        labels=array(LABELS),
        groups={name: array(f"{name}{GROUP}") for name in manifest["groups"]},
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, its fields present and of the right types."""
    path = inside(folder, MANIFEST)
    manifest = read_json(path)
    if manifest.get("format") != FORMAT:
        found = repr(manifest.get("format"))
        raise InputError(f"{path}: format must be {FORMAT}, got {found}; remove the folder and make the set again")
    types = {"name": str, "digest": str, "classes": list, "forms": dict, "groups": list, "partitions": list}
    for name, kind in {**types, "provenance": dict}.items():
        if not isinstance(manifest.get(name), kind):
            raise InputError(f"{path}: {name} must be a {kind.__name__}, got {manifest.get(name)!r}")
    for name in ("classes", "groups", "partitions"):
        if not all(isinstance(own, str) for own in manifest[name]):
            raise InputError(f"{path}: {name} must be names, got {manifest[name]!r:.200}")
    require_name(manifest["name"], str(path))
    require_classes(manifest["classes"], str(path))
    require_bank_names(list(manifest["forms"]), str(path))
    require_group_names(manifest["groups"], str(path))
    if manifest.get("keep_apart", "") not in ("", *manifest["groups"]):
        raise InputError(f"{path}: keep_apart must be one of the groups, got {manifest['keep_apart']!r:.200}")
    if manifest["partitions"] not in ([TRAIN], [TRAIN, TEST]):
        raise InputError(f"{path}: partitions must be train, or train and test, got {manifest['partitions']!r:.200}")
    return manifest

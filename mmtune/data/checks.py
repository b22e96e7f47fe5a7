"""The rules that every data set keeps, whatever it was made from."""

from __future__ import annotations

import hashlib
import json
import keyword
import os
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.dataset import Bank, Partition
from mmtune.data.forms import Form, dtype_of

LONGEST_NAME, LONGEST_CLASS, LONGEST_BANK = 1024, 100, 40
TAKEN_NAMES = ("labels", "combined", "together", "scaled", "self", "kind")
"""What else goes by the names of banks: a file, the whole embedding, a metric of the whole network, the network, the
class of a configuration in its card."""
LONGEST_SET_NAME = 255
MOST_CLASSES, MOST_NAMES = 4096, 64
CHUNK = 1024


def check_partition(partition: Partition, forms: Mapping[str, Form], classes: Sequence[str], where: str) -> None:
    """Raise InputError, its line beginning with `where`, unless a partition keeps the contract of `Partition`.

    Every class has at least one row in it.
    """
    check_shapes(partition, forms, where)
    strange = partition.labels[(partition.labels < 0) | (partition.labels >= len(classes))]
    if len(strange):
        raise InputError(f"{where}: labels must lie in 0..{len(classes) - 1}, got {strange[0]}")
    require_classes_present(where, partition.labels, classes, "rows")
    for name, bank in partition.banks.items():
        check_bank(bank, f"{where}: {name}")
    for name, group in partition.groups.items():
        require_names(group, f"{where}: group {name}")


def check_shapes(partition: Partition, forms: Mapping[str, Form], where: str) -> None:
    """Shapes and types, which a few bytes of a file tell: nothing of it is read before all of them agree."""
    rows = partition.labels.size
    require_array(partition.labels, (rows,), np.dtype(np.int64), f"{where}: labels")
    if set(partition.banks) != set(forms):
        raise InputError(f"{where}: banks must be {', '.join(forms)}, got {', '.join(partition.banks)}")
    for name, bank in partition.banks.items():
        own = (*bank.values.shape[:1], *forms[name].shape)
        require_array(bank.values, own, dtype_of(forms[name]), f"{where}: {name}")
        require_array(bank.index, (rows,), np.dtype(np.int64), f"{where}: {name} index")
        if len(bank.values) > rows:
            raise InputError(f"{where}: {name}: every value must be some row's, {len(bank.values)} cannot be of {rows}")
    for name, group in partition.groups.items():
        require_array(group, (rows,), None, f"{where}: group {name}")


def check_bank(bank: Bank, where: str) -> None:
    """Finite values, and an index that leads to every one of them."""
    count = len(bank.values)
    outside = (bank.index < -1) | (bank.index >= count)
    if outside.any():
        row = int(np.flatnonzero(outside)[0])
        raise InputError(f"{where} index must lie in -1..{count - 1}, row {row} is {bank.index[row]}")
    used = np.bincount(bank.index[bank.index >= 0], minlength=count)
    if not used.all():
        raise InputError(f"{where}: every value must be some row's, value {int(np.argmin(used))} is not")
    if bank.values.dtype.kind == "f":
        for start in range(0, count, CHUNK):
            if not np.isfinite(bank.values[start : start + CHUNK]).all():
                raise InputError(f"{where} must be finite, got NaN or infinity")


def require_array(
    array: NDArray[np.generic], shape: tuple[int, ...], kind: np.dtype[np.generic] | None, what: str
) -> None:
    """Raise InputError unless an array has a shape and a type, None standing for text."""
    sound = array.dtype == kind if kind is not None else array.dtype.kind == "U"
    if array.shape != shape or not sound or not array.dtype.isnative:
        raise InputError(f"{what} must be {shape} of {kind or 'text'}, got {array.shape} {array.dtype}")


def require_classes_present(where: object, labels: NDArray[np.int64], classes: Sequence[str], what: str) -> None:
    """Raise InputError unless every class has a label."""
    missing = np.setdiff1d(np.arange(len(classes)), labels)
    if len(missing):
        names = ", ".join(classes[number] for number in missing[:5])
        of = f"{len(missing)} of {len(classes)}, such as {names}," if len(missing) > 5 else names
        raise InputError(f"{where}: every class must have {what}, {of} {'has' if len(missing) == 1 else 'have'} none")


def require_classes(classes: Sequence[str], where: str) -> None:
    """Raise InputError unless these are 2 to 4,096 names of classes."""
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise InputError(f"{where}: classes must be 2 to {MOST_CLASSES:,}, got {len(classes)}")
    if len(set(classes)) != len(classes):
        raise InputError(f"{where}: classes must have different names")
    for name in classes:
        if not name.isprintable() or name != name.strip() or not 0 < len(name) <= LONGEST_CLASS:
            raise InputError(
                f"{where}: a class must have a name of 1 to {LONGEST_CLASS} printable letters, got {name!r}"
            )


def require_bank_names(names: Sequence[str], where: str) -> None:
    """Raise InputError unless these can be names of banks: they become arguments of a network and names of files."""
    if not names or len(names) > MOST_NAMES:
        raise InputError(f"{where}: banks must be 1 to {MOST_NAMES}, got {len(names)}")
    for name in names:
        sound = name.isidentifier() and name.isascii() and len(name) <= LONGEST_BANK and not keyword.iskeyword(name)
        if not sound or name.startswith("_") or name in TAKEN_NAMES:
            raise InputError(f"{where}: a bank must have a name such as image or heart_rate, got {name!r}")
    require_different(names, f"{where}: banks")


def require_group_names(names: Sequence[str], where: str) -> None:
    """Raise InputError unless these can be names of groups: protocols and files are named after them."""
    for name in names:
        if not name.isidentifier() or not name.isascii() or len(name) > LONGEST_BANK:
            raise InputError(f"{where}: a group must have a name such as speaker, got {name!r}")
    if len(names) > MOST_NAMES:
        raise InputError(f"{where}: groups must be {MOST_NAMES} at most, got {len(names)}")
    require_different(names, f"{where}: groups")


def require_different(names: Sequence[str], what: str) -> None:
    """Raise InputError where names differ in nothing but capitals: files are named after them, on any system."""
    small = [name.lower() for name in names]
    again = [name for name in names if small.count(name.lower()) > 1 and names.count(name) == 1]
    if again:
        raise InputError(f"{what} must have names that differ in more than capitals, got {' and '.join(again[:2])}")


def require_name(name: str, where: str) -> None:
    """Raise InputError unless a data set's name is one printable part of a path: files are named after it."""
    if not name.isprintable() or "/" in name or name in ("", ".", "..") or len(os.fsencode(name)) > LONGEST_SET_NAME:
        raise InputError(
            f"{where}: a data set's name must be printable, without / and of {LONGEST_SET_NAME} bytes at most, "
            f"got {name!r}"
        )


def require_banks(partition: Partition, reads: Sequence[str], allowed: Sequence[str] = ()) -> None:
    """Raise InputError where a partition lacks what a model reads.

    allowed: banks in which rows may have no value.
    """
    for name in reads:
        if name not in partition.banks:
            more = "; build it from recordings with `mmtune data build`" if name in ("waveform", "speech") else ""
            raise InputError(f"this model reads {name}, the data set has {', '.join(partition.banks)}{more}")
        missing = int((partition.banks[name].index < 0).sum())
        if missing and name not in allowed:
            raise InputError(
                f"{missing} of {len(partition)} rows have no {name}: the study must say that it can live with that, "
                f"missing=({name!r},)"
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


def content_digest(classes: Sequence[str], *partitions: Partition) -> str:
    """SHA-256 over the content of a data set's partitions: the same whatever types and files carry it."""
    digest = hashlib.sha256(f"mmtune data 3 {json.dumps(list(classes))}".encode())
    for partition in partitions:
        arrays = {"labels": partition.labels}
        for name, bank in sorted(partition.banks.items()):
            arrays |= {f"{name} index": bank.index, f"{name} values": bank.values}
        for name, array in arrays.items():
            digest.update(f"{name} {array.shape} {array.dtype.str}".encode())
            for start in range(0, len(array), CHUNK):
                digest.update(np.ascontiguousarray(array[start : start + CHUNK]).data)
        for name, group in sorted(partition.groups.items()):
            digest.update(json.dumps([name, group.tolist()]).encode())
    return digest.hexdigest()

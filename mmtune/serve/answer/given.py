"""What a user gives a model, bank by bank, and the values that it becomes: those that the data set would have of it."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmtune.base.errors import InputError
from mmtune.data.forms import Form, Sound, Vector, dtype_of
from mmtune.data.media.recordings import to_float

LOG = logging.getLogger("mmtune")
Given = str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, Any] | ArrayLike
"""What may be given for a bank."""
T = TypeVar("T")
KINDS = {"image": "picture", "audio": "recording"}
SAMPLE = np.iinfo(np.int16)


def assigned(given: Mapping[str, T], forms: Mapping[str, Form], missing: Collection[str] = ()) -> dict[str, T]:
    """By bank what was given for it; InputError where something is given for none, or for a bank nothing."""
    found: dict[str, T] = {}
    for name, value in given.items():
        of_kind = [bank for bank, form in forms.items() if KINDS.get(name) == form.source]
        # What is made of one column is given once, by the column's name (`mmtune.data.building.asking`).
        beside = [bank for bank, form in forms.items() if bank == f"{name}_{form.kind}" and bank not in given]
        own = [name, *beside] if name in forms else of_kind
        # Whatever is made from one recording is given once.
        if not own or (name not in forms and len(own) > 1 and name != "audio"):
            takes = " and ".join(f"{bank} ({form.source or 'ready-made'})" for bank, form in forms.items())
            raise InputError(f"this model takes {takes}, got {name}")
        if found.keys() & set(own):
            raise InputError(f"{own[0]} must be given once, got it as {' and as '.join(given)}")
        found |= dict.fromkeys(own, value)
    require_taken(found, [name for name in forms if name in found or name not in missing])
    return found


def values_given(name: str, given: Given, form: Form, data: str) -> NDArray[Any]:
    """The values (B, *form.shape) that what is given for a bank becomes, one row or several.

    Files: a path, or a list of them. Numbers of a vector, in the units of the table: a text ("41, 1.70"), a mapping or
    a frame by column, or an array (D,) or (B, D). Sounds: samples (n,) or (B, n) at 16 kHz, int16 or floats in [-1, 1),
    cut or padded as files are. Pictures and all other values: an array of the form's shape, or (B, *shape).
    data: the name of the data set that the model was trained on. Raises InputError where it is none of these.
    """
    if isinstance(given, str | os.PathLike):
        return of_files(name, [given], form, data)
    if isinstance(given, list | tuple) and given and all(isinstance(own, str | os.PathLike) for own in given):
        return of_files(name, given, form, data)
    if isinstance(form, Vector) and hasattr(given, "keys"):
        given = by_column(name, given, form)
    array = as_array(name, given, form)
    if isinstance(form, Sound):
        return of_samples(name, array, form)
    if not isinstance(form, Vector):
        return array
    note_gaps(name, array, form)
    return form.scaled(array)


def note_gaps(name: str, rows: NDArray[Any], form: Vector) -> None:
    """Note in the log which numbers of rows (B, D) are missing and filled."""
    if told := ", ".join(column for column, own in zip(form.columns, rows.T, strict=True) if np.isnan(own).any()):
        LOG.warning("%s: empty, so the mean of training: %s", name, told)


def of_files(name: str, paths: Sequence[str | os.PathLike[str]], form: Form, data: str) -> NDArray[Any]:
    """The values of files, or of numbers in texts."""
    if isinstance(form, Vector):
        texts = [os.fspath(text) for text in paths]
        rows = np.stack([form.read_numbers(text) for text in texts])
        note_gaps(name, rows, form)
        return np.stack([form.of_numbers(own, text) for own, text in zip(rows, texts, strict=True)])
    if not form.source:
        raise InputError(
            f"{os.fspath(paths[0])}: this model was trained on {data}, whose {name} came ready-made, so no file can be "
            "turned into its input"
        )
    return np.stack([form.read(Path(path)) for path in paths])


def by_column(name: str, given: Any, form: Vector) -> NDArray[Any]:
    """The numbers of a mapping or a frame (B, D), in the order that the model takes them in."""
    by_name = {str(column): given[column] for column in given.keys()}  # noqa: SIM118 (a frame's rows are not its keys)
    if by_name.keys() != {*form.columns}:
        raise InputError(f"{name} must have the numbers {', '.join(form.columns)}, got {', '.join(by_name) or 'none'}")
    rule = f"{name} must have as many numbers in each of {', '.join(form.columns)}"
    try:
        columns = [np.asarray(by_name[column]) for column in form.columns]
    except ValueError as error:
        raise InputError(f"{rule}, some of one have more than others") from error
    if len({column.shape for column in columns}) > 1:
        raise InputError(rule)
    return np.stack(columns, axis=-1)


def nan_for_none(values: NDArray[Any]) -> NDArray[Any]:
    """Numbers of which some are None, which becomes NaN; anything else as it is."""
    if values.dtype != object or not all(one is None or isinstance(one, Real) for one in values.flat):
        return values
    return values.astype(np.float64)


def as_array(name: str, given: Any, form: Form) -> NDArray[Any]:
    """A batch of what an array holds, of one row (*shape) or several (B, *shape), in the type that the form asks for.

    Of a sound any number of samples is its shape, and float32 its type; numbers of a vector keep their precision.
    InputError where it does not fit.
    """
    rule, sound = rule_of(name, form), isinstance(form, Sound)
    try:
        array = np.asarray(given)
    except Exception as error:  # a stranger's object may raise anything when it is made an array
        raise InputError(f"{rule}, got {type(given).__name__}") from error
    filled = isinstance(form, Vector) and form.filled
    array = nan_for_none(array) if filled else array
    if array.dtype.kind not in "fiub" or isinstance(given, np.ma.MaskedArray):
        raise InputError(f"{rule}, got {type(given).__name__} of {array.dtype}")
    sides = 1 if sound else len(form.shape)
    rows = array[None] if array.ndim == sides else array
    # Of a single number a row an array (B,) is as many rows, as it is where a data set is made of arrays.
    rows = array[:, None] if form.shape == (1,) and array.ndim == 1 else rows
    if rows.ndim != sides + 1 or not rows.size or not (sound or rows.shape[1:] == form.shape):
        raise InputError(f"{rule}, got {array.dtype} of shape {array.shape}")
    if filled:
        require_some(name, rows)
    require_finite(name, np.where(np.isnan(rows), 0, rows) if filled else rows)
    kind = np.dtype(np.float64) if isinstance(form, Vector) else dtype_of(form)
    return in_range(rows, rule) if sound else in_type(rows, kind, rule)


def rule_of(name: str, form: Form) -> str:
    """What may be given for a bank, as the beginning of a sentence."""
    inner: tuple[object, ...] = ("n",) if isinstance(form, Sound) else form.shape
    shapes = [f"({', '.join(map(str, own))}{',' * (len(own) == 1)})" for own in (inner, ("B", *inner))]
    what = "16 kHz as int16 or as floats in [-1, 1)" if isinstance(form, Sound) else str(dtype_of(form))
    besides = {"": "", Vector.source: "a text, a mapping or "}.get(form.source, "a file or ")
    return f"{name} must be {besides}an array {' or '.join(shapes)} of {what}"


def in_type(rows: NDArray[Any], kind: np.dtype[Any], rule: str) -> NDArray[Any]:
    """Numbers in another type, which whole ones must be able to hold."""
    if kind.kind == "f":
        with np.errstate(over="ignore"):
            return rows.astype(kind)
    limits, least, most = np.iinfo(kind), float(rows.min()), float(rows.max())
    if rows.dtype.kind in "fb" or least < limits.min or most > limits.max:
        raise InputError(f"{rule}, got {rows.dtype} from {least:g} to {most:g}")
    return rows.astype(kind)


def in_range(rows: NDArray[Any], rule: str) -> NDArray[np.float32]:
    """Samples as float32 in [-1, 1); of 16 bits they may also be whole numbers as JSON has them."""
    least, most = float(rows.min()), float(rows.max())
    if rows.dtype == np.int16 or (rows.dtype == np.int64 and SAMPLE.min <= least and most <= SAMPLE.max):
        return to_float(rows.astype(np.int16))
    if rows.dtype.kind != "f" or least < -1 or most > 1:
        raise InputError(f"{rule}, got {rows.dtype} from {least:g} to {most:g}")
    return rows.astype(np.float32)


def of_samples(name: str, waves: NDArray[np.float32], form: Sound) -> NDArray[Any]:
    """The values of waves (B, n) at 16 kHz, as files of them would give."""
    return form.of_sounds(list(waves), [f"{name}, row {row}" for row in range(len(waves))])


def check_inputs(given: Mapping[str, Any], forms: Mapping[str, Form]) -> int:
    """The number of rows; InputError unless `given` holds what the forms ask for, sound and equally long."""
    require_taken(given, forms)
    for name, form in forms.items():
        check_input(name, given[name], form)
    counts = {name: len(given[name]) for name in forms}
    if len(set(counts.values())) > 1:
        found = " and ".join(f"{count} of {name}" for name, count in counts.items())
        raise InputError(f"inputs must have equally many rows, got {found}")
    return next(iter(counts.values()))


def require_taken(given: Collection[object], wanted: Collection[str]) -> None:
    """Raise InputError unless the names of what is given are those of what a model takes."""
    if set(given) != set(wanted):
        got = " and ".join(map(str, given)) or "nothing"
        raise InputError(f"this model takes {' and '.join(wanted)}, got {got}")


def check_input(name: str, array: Any, form: Form) -> None:
    """Raise InputError unless `array` is a batch of values of a form: type, shape, at least one row, finite."""
    kind = dtype_of(form)
    rule = f"{name} must be an array (B, {', '.join(map(str, form.shape))}) of {kind} with B >= 1"
    # What a masked array hides would be predicted from all the same.
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise InputError(f"{rule}, got {type(array).__name__}")
    if array.dtype != kind or array.shape[1:] != form.shape or not len(array):
        raise InputError(f"{rule}, got {array.shape} of {array.dtype}")
    require_finite(name, array)


def require_some(name: str, rows: NDArray[Any]) -> None:
    """Raise InputError, naming the first row, where no number of a row is known."""
    if (nothing := np.isnan(rows).all(axis=1)).any():
        raise InputError(f"{name} must have a number in each row, row {int(nothing.argmax())} has none")


def require_finite(name: str, rows: NDArray[Any]) -> None:
    """Raise InputError, naming the first row, where a number is NaN or infinite."""
    if not np.isfinite(rows).all():
        row = int(np.flatnonzero(~np.isfinite(rows.reshape(len(rows), -1)).all(axis=1))[0])
        raise InputError(f"{name} must be finite, row {row} holds NaN or infinity")

"""Every form by its name, and a form as JSON and back: what is read may be of unknown origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from mmtune.base.errors import InputError
from mmtune.data.forms.arrays import Array, Ready
from mmtune.data.forms.form import Form
from mmtune.data.forms.pictures import Digit, Picture
from mmtune.data.forms.sounds import LogMel, Mfcc, Speech, Waveform
from mmtune.data.forms.vectors import Vector

FORMS: dict[str, type[Any]] = {
    form.kind: form for form in (Digit, Picture, Waveform, Speech, Mfcc, LogMel, Vector, Array, Ready)
}


def dtype_of(form: Form) -> np.dtype[Any]:
    """The type of a form's values."""
    return np.dtype(form.of if isinstance(form, Ready) else form.dtype)


def form_to_json(form: Form) -> dict[str, Any]:
    """A form as plain JSON, with its kind."""
    return {"kind": form.kind, **asdict(form)}


def form_from_json(data: object, where: str) -> Form:
    """The inverse of `form_to_json`; InputError, naming `where`, on an unknown kind and on missing or bad fields."""
    kind = data.get("kind") if isinstance(data, Mapping) else data
    if not isinstance(data, Mapping) or not isinstance(kind, str) or kind not in FORMS:
        raise InputError(f"{where}: what a bank is must be one of {', '.join(FORMS)}, got {kind!r:.80}")
    cls, given = FORMS[kind], {name: value for name, value in data.items() if name != "kind"}
    asked = {field.name: field.type for field in fields(cls)}
    try:
        made = {name: tuple(own) if isinstance(own, list) else own for name, own in given.items()}
        require_types(made, asked)
        return cls(**made)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{where}: {kind} does not take these fields: {error}") from error
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def require_types(given: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise TypeError unless every value is of its field's type; a field's default is of no use in a file."""
    kinds = {"int": int, "bool": bool, "str": str, "float": float}
    inner = {"Scale": float, "tuple[int, ...]": int, "tuple[str, ...]": str}
    if set(given) != set(asked):
        raise TypeError(f"must be {', '.join(asked) or 'none'}, got {', '.join(map(str, given)) or 'none'}")
    for name, value in given.items():
        kind = asked[name]
        several = isinstance(value, tuple) and kind in inner
        sound = all(type(one) is inner[kind] for one in value) if several else type(value) is kinds.get(kind)
        if not sound:
            raise TypeError(f"{name} must be {kind}, got {value!r:.80}")

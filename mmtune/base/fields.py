"""Configurations by the dotted paths of their fields: read, and changed in a copy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from mmtune.base.errors import InputError


def replace_path(config: Any, path: str, value: object) -> Any:
    """A copy of a configuration with the field at a dotted `path` set; InputError if there is no such field."""
    return replace_paths(config, {path: value})


def replace_paths(config: Any, values: Mapping[str, object]) -> Any:
    """`replace_path` for many paths at once, so that fields which depend on each other can change together."""
    known = {f.name for f in dataclasses.fields(config)}
    inner: dict[str, dict[str, object]] = {}
    fields: dict[str, object] = {}
    for path, value in values.items():
        head, _, rest = path.partition(".")
        if head not in known:
            names = ", ".join(f.name for f in dataclasses.fields(config))
            raise InputError(f"{type(config).__name__} has no field {head!r}; it has {names}")
        if rest:
            inner.setdefault(head, {})[rest] = value
        else:
            fields[head] = value
    below = {head: replace_paths(getattr(config, head), own) for head, own in inner.items()}
    return dataclasses.replace(config, **fields, **below)


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """A configuration as {dotted path: plain value}, in the order of its fields."""
    flat: dict[str, Any] = {}
    for f in dataclasses.fields(config):
        value, path = getattr(config, f.name), f"{prefix}{f.name}"
        flat |= flatten(value, f"{path}.") if dataclasses.is_dataclass(value) else {path: value}
    return flat

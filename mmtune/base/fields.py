"""Configurations by the dotted paths of their fields: read, and changed in a copy.

A field may hold another configuration, or several by name: `model.encoders.image.width`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmtune.base.errors import InputError


def replace_path(config: Any, path: str, value: object) -> Any:
    """A copy of a configuration with the field at a dotted `path` set; InputError if there is no such field."""
    return replace_paths(config, {path: value})


def replace_paths(config: Any, values: Mapping[str, object]) -> Any:
    """`replace_path` for many paths at once, so that fields which depend on each other can change together."""
    known = inner_of(config)
    below: dict[str, dict[str, object]] = {}
    changed: dict[str, Any] = {}
    for path, value in values.items():
        head, _, rest = path.partition(".")
        if head not in known:
            raise InputError(f"{type(config).__name__} has no field {head!r}; it has {', '.join(known)}")
        if rest:
            below.setdefault(head, {})[rest] = value
        else:
            changed[head] = value
    changed |= {head: replace_paths(changed.get(head, known[head]), own) for head, own in below.items()}
    return {**config, **changed} if isinstance(config, Mapping) else dataclasses.replace(config, **changed)


def inner_of(config: Any) -> dict[str, Any]:
    """What a configuration, or several by name, have by the next part of a path."""
    if isinstance(config, Mapping):
        return {str(name): value for name, value in config.items()}
    if not has_fields(config):
        return {}
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}


def has_fields(value: object) -> bool:
    """Whether this is a configuration; a class of them is none."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def flatten(config: Any, prefix: str = "", inner: Callable[[Any], dict[str, Any]] = inner_of) -> dict[str, Any]:
    """A configuration as {dotted path: plain value}, in the order of its fields. inner: what each has, by name."""
    flat: dict[str, Any] = {}
    for name, value in inner(config).items():
        nested = has_fields(value) or isinstance(value, Mapping)
        flat |= flatten(value, f"{prefix}{name}.", inner) if nested else {f"{prefix}{name}": value}
    return flat


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """The shortest ending of each dotted path that no other path shares: kernel, or image.dropout."""
    endings = {p: [p.split(".", i)[-1] for i in range(p.count("."), -1, -1)] for p in paths}
    shared = Counter(ending for own in endings.values() for ending in own)
    return {p: next((e for e in own if shared[e] == 1), p) for p, own in endings.items()}

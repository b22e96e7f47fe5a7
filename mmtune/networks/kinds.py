"""Configurations as plain JSON, by the name under which this process knows their class. Free of torch.

A class of this package is known by its own name, one of a study file by that file's and its own, `my_study.Net`. One
that a script or a notebook defines is known by its study's name in the place of a file's, so that its models stay
readable when it moves into `my_study.py`. What is read from a file never imports anything: a name that this process
does not know is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from mmtune.base.errors import InputError
from mmtune.networks import config as shipped

OWN, SHIPPED = "studies.", "mmtune.networks.config"
MAIN = "__main__"
"""Of a script or a notebook, the module; another one has the same."""
Plain = str | int | float | bool | None
KNOWN: dict[str, type[Any]] = {}
"""The classes of studies that the user has named."""


def remember(config: object, study: str = "") -> None:
    """Know the classes of a configuration, those of its parts among them, from now on.

    study: the name under which those of a script or a notebook are known.
    """
    for cls in map(type, parts_of(config)):
        kind = f"{study}.{cls.__qualname__}" if study and cls.__module__ == MAIN else kind_of(cls)
        # The last name is the one that counts.
        KNOWN.pop(kind, None)
        KNOWN[kind] = cls


def parts_of(config: Any) -> Iterator[Any]:
    """A configuration, and every one that is in its fields."""
    if isinstance(config, Mapping | tuple):
        for value in config.values() if isinstance(config, Mapping) else config:
            yield from parts_of(value)
    elif dataclasses.is_dataclass(config):
        yield config
        for field in dataclasses.fields(config):
            yield from parts_of(getattr(config, field.name))


def kind_of(cls: type[Any]) -> str:
    """The name under which a class is known; of several, the last."""
    if cls.__module__ == SHIPPED or cls.__module__.startswith(f"{SHIPPED}."):
        return cls.__name__
    named = [kind for kind, known in KNOWN.items() if known is cls] if cls.__module__ == MAIN else []
    return named[-1] if named else f"{cls.__module__.removeprefix(OWN)}.{cls.__qualname__}"


def class_of(kind: str) -> type[Any]:
    """The inverse of `kind_of`; InputError where this process knows no such class."""
    found = KNOWN.get(kind) or vars(shipped).get(kind if kind in shipped.__all__ else "")
    if not isinstance(found, type):
        rule = "kind of a network must be one of mmtune's own or of a study that is at hand"
        how = "name the folder of its study file with --studies, or give mmtune.load its study"
        raise InputError(f"{rule}, got {kind!r:.200}: {how}")
    return found


def kinds_in(data: Any) -> list[str]:
    """The kinds that plain JSON names, of a configuration and of all its parts, in no order; it may be of any depth."""
    found, waiting = list[str](), [data]
    while waiting:
        own = waiting.pop()
        if isinstance(own, Mapping):
            found += [own["kind"]] if isinstance(own.get("kind"), str) else []
            waiting += own.values()
        elif isinstance(own, list):
            waiting += own
    return found


def config_to_json(config: Any) -> Any:
    """A configuration as plain JSON, each with its kind."""
    if dataclasses.is_dataclass(config):
        own = {f.name: config_to_json(getattr(config, f.name)) for f in dataclasses.fields(config)}
        return {"kind": kind_of(type(config)), **own}
    if isinstance(config, Mapping):
        return {name: config_to_json(value) for name, value in config.items()}
    return [config_to_json(value) for value in config] if isinstance(config, tuple) else config


def config_from_json(data: Any) -> Any:
    """The inverse of `config_to_json`; a field that is not there has its default.

    InputError on an unknown kind, an unknown field or a bad value.
    """
    if isinstance(data, list):
        return tuple(map(config_from_json, data))
    if not isinstance(data, Mapping):
        return data
    values = {name: config_from_json(value) for name, value in data.items() if name != "kind"}
    if "kind" not in data:
        return values
    kind = data["kind"]
    cls = class_of(kind if isinstance(kind, str) else "")
    known = {field.name for field in dataclasses.fields(cls)}
    if not values.keys() <= known:
        raise InputError(f"network of kind {kind!r} does not take {', '.join(sorted(values.keys() - known))}")
    try:
        return cls(**values)
    except Exception as error:  # anybody may have written the class
        raise InputError(f"network of kind {kind!r} does not take these fields: {error}") from error


def model_from_json(data: Any) -> Any:
    """The configuration of a whole network; InputError unless it is one."""
    try:
        found = config_from_json(data)
    except RecursionError as error:
        raise InputError("a network must not be described by parts in parts without end") from error
    if not dataclasses.is_dataclass(found) or not hasattr(found, "build"):
        raise InputError(f"a network must be named by its kind, got {data!r:.200}")
    return found

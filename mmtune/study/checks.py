"""What a study must keep to be one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from functools import reduce
from typing import Any

from mmtune.base.errors import InputError
from mmtune.base.fields import has_fields, inner_of
from mmtune.study.space import Choice, Real, listed
from mmtune.train.recipe import TrialConfig


def require_kind(study: str, path: str, value: object, usual: object) -> None:
    """Raise InputError unless a value that may be drawn is of the kind that the field usually holds."""
    kind = type(usual)
    fits = isinstance(value, int | float) and not isinstance(value, bool) if kind is float else type(value) is kind
    if usual is not None and not fits:
        raise InputError(f"study {study}: {path} must be of type {kind.__name__} as {usual!r} is, got {value!r}")


def require_parts(study: Any) -> None:
    """Raise InputError unless what a study is made of is of the kinds that its fields name."""

    def require(name: str, value: object, kind: Any, told: str) -> None:
        if not isinstance(value, kind):
            raise InputError(f"study {study.name}: {name} must be {told}, got {value!r:.80}")

    require("base", study.base, TrialConfig, "a TrialConfig(model=..., train=...)")
    require("space", study.space, tuple | list, "a tuple of choices, such as (Real(...), Categorical(...))")
    for choice in study.space:
        require("space", choice, Choice, "a tuple of choices, such as (Real(...), Categorical(...))")
    require("grid", study.grid, Mapping | None, "values by path")
    for name in ("tries", "going_on", "encoders", "reported", "published"):
        require(name, getattr(study, name), Mapping, "a mapping by name")
    for path, values in (study.grid or {}).items():
        require(f"grid of {path}", values, tuple | list, "a tuple of values")
    for name, own in study.tries.items():
        require(f"try {name}", own, Mapping, "values by path")


def require_name(name: str) -> None:
    """Raise InputError unless this can be the name of a study, of its file, of its experiment and of its model."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,79}", name):
        raise InputError(f"a study must have a name such as my_study, got {name!r}")


def require_contract(study: str, model: Any) -> None:
    """Raise InputError unless a configuration says what its network reads, and builds it."""
    reads = getattr(model, "reads", None)
    if (
        not has_fields(model)
        or not callable(getattr(model, "build", None))
        or not isinstance(reads, tuple | list)
        or not reads
    ):
        rule = "model must be an instance of a dataclass with build(shapes) and reads, the names of its banks"
        raise InputError(f"study {study}: {rule}; got {type(model).__name__} with reads {reads!r:.80}")


def require_plain(study: str, path: str, value: object) -> None:
    """Raise InputError unless a field holds what a card, a run and a worker can be told as it is."""
    parts = value if isinstance(value, tuple) else (value,)
    if not all(part is None or isinstance(part, str | int | float | bool) for part in parts):
        kinds = "a text, a number, a truth value, a tuple of such, or another configuration"
        raise InputError(f"study {study}: {path} must be {kinds}, got {type(value).__name__}")


def require_condition(study: str, choice: Choice, space: Mapping[str, Choice], known: Mapping[str, Any]) -> None:
    """Raise InputError unless a choice's condition can come true: by what is drawn before it, or else by the base.

    space: all choices by path, in their order. known: the base by path; what nothing draws may still be fixed at
    another value than that.
    """
    if choice.when is None:
        return
    place = f"study {study}: when of {choice.path}"
    if not isinstance(choice.when, tuple) or len(choice.when) != 2:
        raise InputError(
            f"{place} must be a path and its value, such as ('train.optimizer', 'sgd'), got {choice.when!r}"
        )
    path, value = choice.when
    if path not in known:
        raise InputError(f"{place} must name a field of the configuration, got {path!r}")
    require_kind(study, f"when of {choice.path}", value, known[path])
    if path not in space:
        return
    if not space[path].admits(value):
        raise InputError(f"{place} must be a value that {path} can have, {space[path]}, got {value!r}")
    order = list(space)
    if order.index(path) > order.index(choice.path):
        raise InputError(f"{place}: {path} must stand before it in the space, it stands after it")


def require_drawable(study: str, choice: Choice, base: Any) -> None:
    """Raise InputError unless what a choice draws is of its field's kind and keeps its field's rule."""
    *parts, name = choice.path.split(".")
    holder = reduce(lambda config, part: inner_of(config)[part], parts, base)
    usual = inner_of(holder)[name]
    if choice.path == "train.epochs":
        raise InputError(f"study {study}: the epochs are its budget, so the space must not have train.epochs")
    if listed(choice) is None and type(usual) is int:
        raise InputError(f"study {study}: {choice.path} must be an Integer as {usual!r} is, got a Real")
    own = [field.metadata.get("rule") for field in fields(holder) if field.name == name] if has_fields(holder) else []
    for value in (choice.low, choice.high) if isinstance(choice, Real) else choice.values:
        require_kind(study, choice.path, value, usual)
        for rule in filter(None, own):
            rule(f"study {study}: {choice.path}", value)

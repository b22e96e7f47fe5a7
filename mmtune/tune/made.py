"""What the trials of a study are made from, a line each, and whether that is still what it was."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmtune.base.code import own_code
from mmtune.base.errors import InputError
from mmtune.base.fields import flatten, inner_of
from mmtune.base.provenance import OWN_CODE
from mmtune.networks.kinds import parts_of
from mmtune.study.schedule import Phased, Schedule, Tries
from mmtune.study.space import exact
from mmtune.tracking.runs import LONGEST_TAG
from mmtune.train.objective import Objective
from mmtune.train.recipe import TrialConfig
from mmtune.tune.plan import Plan

MADE, HASHED, ORDER = "mmtune.made", "sha256 ", "in this order: "


def made_from(base: TrialConfig, schedule: Schedule, repeats: str) -> list[str]:
    """The space, the trials that are listed, and what every trial has in common.

    The epochs and the encoders are in the study's key.
    """
    varied = {choice.path for choice in schedule.space} | {"train.epochs"}
    common = [f"{path}={value!r}" for path, value in flatten(base).items() if path not in varied]
    return [*trials_of(schedule), *common, f"repeats={repeats}"]


def trials_of(schedule: Schedule) -> list[str]:
    """The space, and the trials that are listed."""
    return [*exact(schedule.space), *schedule.lines()]


def order_of(schedule: Schedule) -> list[str]:
    """In what order choices and phases stand, by which trials are numbered."""
    phases = schedule.lines() if isinstance(schedule, Phased) else []
    told = [ORDER + ", ".join(choice.path for choice in schedule.space)] if len(schedule.space) > 1 else []
    return [*told, *([f"{ORDER}{'; '.join(phases)}"] if len(phases) > 1 else [])]


def own_tags(base: TrialConfig, objective: Objective) -> dict[str, str]:
    """A tag on the code of what a trial uses of the user's own, {} where it uses nothing of theirs."""
    functions = [own.function for own in objective.metrics if own.function is not None]
    code = own_code([*map(type, parts_of(base)), *functions])
    return {OWN_CODE: code} if code else {}


def as_tag(lines: Sequence[str]) -> str:
    """Lines as one text, or where that is too long for a tag its hash."""
    text = "\n".join(sorted(lines))
    return text if len(text) <= LONGEST_TAG else HASHED + hashlib.sha256(text.encode()).hexdigest()


def require_unchanged(plan: Plan, before: str) -> None:
    """Raise InputError where a study's trials would no longer be made from what they were.

    A field that a configuration has gained since then counts as its default in what was tracked before. A list of tries
    may have grown at its end. before: the tag of what was tracked.
    """
    made, order = made_from(plan.base, plan.schedule, plan.repeats), order_of(plan.schedule)
    if before in (as_tag([*made, *order]), as_tag(made), *map(as_tag, shorter(plan.schedule, made))):
        return
    was, now = set(before.split("\n")), set(as_tag([*made, *order]).split("\n"))
    if not any(line.startswith(ORDER) for line in was):
        # An earlier version did not write it down.
        now -= set(order)
    known = {line.partition("=")[0] for line in was}
    gained = {f"{path}={value!r}" for path, value in at_default(plan.base) if path not in known}
    gone, new = was - now, now - was
    if any(was <= one and one - was <= gained for one in (now, *map(set, shorter(plan.schedule, made)))):
        return
    told = ("; ".join(sorted(lines)) for lines in (gone, new - gained))
    raise InputError(
        f"the search space of {plan.key.slug} must stay as it was when its trials were made: it was [{next(told)}], "
        f"now it is [{next(told)}]; restore it, or start a study of its own with another --seed"
    )


def shorter(schedule: Schedule, made: Sequence[str]) -> Iterator[list[str]]:
    """What a study was made from while its list of tries, if it has one, ended earlier."""
    if isinstance(schedule, Tries):
        common = made[len(trials_of(schedule)) :]
        yield from ([*trials_of(schedule.first(count)), *common] for count in range(1, schedule.trials))


def at_default(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The fields of a configuration that have their default, by dotted path."""
    defaults = {f.name: f for f in dataclasses.fields(config)} if dataclasses.is_dataclass(config) else {}
    for name, value in inner_of(config).items():
        if dataclasses.is_dataclass(value) or isinstance(value, Mapping):
            yield from at_default(value, f"{prefix}{name}.")
        elif name in defaults and defaults[name].default == value:
            yield f"{prefix}{name}", value

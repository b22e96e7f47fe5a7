"""How robust a trial is, as it is kept with its run: what was measured, as JSON and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmtune.base.errors import InputError
from mmtune.base.files import read_json
from mmtune.data.dataset import TEST
from mmtune.train.robustness import Curve, Robustness, Score

FORMAT = 1
VALIDATES = "validation"
FILES = {VALIDATES: "robustness.json", TEST: "robustness-test.json"}
"""By the rows that were measured, where that is kept."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Accuracy by the members of a group. trained: how many of them training rows are of too.

    mean: over members; worst: the lowest, of `member`, which has so many rows.
    """

    name: str
    members: int
    trained: int
    mean: float
    worst: float
    member: str
    rows: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """on: "validation" or "test", so many rows of it. groups: none of which not every row is known."""

    on: str
    rows: int
    robustness: Robustness
    groups: tuple[Group, ...]


def told(measured: Measured) -> bytes:
    """What was measured as JSON."""
    return json.dumps({"format": FORMAT, **asdict(measured)}, indent=1).encode()


def read_measured(path: Path) -> Measured:
    """What `measure` has kept; InputError where the file is another, or damaged."""
    whole = read_json(path)
    try:
        if whole["format"] != FORMAT or whole["on"] not in FILES:
            raise ValueError(f"format {whole['format']!r:.80} of {whole['on']!r:.80}")
        found = whole["robustness"]
        return Measured(
            on=whole["on"],
            rows=int(whole["rows"]),
            robustness=Robustness(clean=read_score(found["clean"]), curves=tuple(map(read_curve, found["curves"]))),
            groups=tuple(map(read_group, whole["groups"])),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        said = f"{type(error).__name__}: {error!s:.200}"
        raise InputError(f"{path} must hold what `mmtune robustness` measured, format {FORMAT}: {said}") from error


def read_curve(own: Mapping[str, Any]) -> Curve:
    """A curve from JSON; ValueError where its levels are not those of its scores."""
    levels, scores = tuple(map(number, own["levels"])), tuple(map(read_score, own["scores"]))
    if not 0 < len(levels) == len(scores):
        raise ValueError(f"{len(levels)} levels of {len(scores)} scores")
    words = {name: str(own[name]) for name in ("bank", "corruption", "unit", "at")}
    return Curve(**words, levels=levels, scores=scores)


def read_score(own: Mapping[str, Any]) -> Score:
    """A score from JSON."""
    by_bank = own["alone"], own.get("beside", {})
    alone, beside = ({str(bank): number(value) for bank, value in found.items()} for found in by_bank)
    return Score(accuracy=number(own["accuracy"]), macro_f1=number(own["macro_f1"]), alone=alone, beside=beside)


def read_group(own: Mapping[str, Any]) -> Group:
    """A group from JSON."""
    return Group(
        name=str(own["name"]),
        members=int(own["members"]),
        trained=int(own["trained"]),
        mean=number(own["mean"]),
        worst=number(own["worst"]),
        member=str(own["member"]),
        rows=int(own["rows"]),
    )


def number(value: Any) -> float:
    """A finite number; ValueError where it is none."""
    found = float(value)
    if not math.isfinite(found):
        raise ValueError(f"a number must be finite, got {found}")
    return found

"""A calibration as JSON, and back: anybody may have written it, so that every number of it is checked."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mmtune.base.errors import InputError
from mmtune.base.sealed import SEAL, read_sealed, write_sealed
from mmtune.train.calibration import Calibration
from mmtune.train.metrics import BINS
from mmtune.train.scale import POINTS, Bins, Ranks, Risk, Scale
from mmtune.train.temperature import LIMIT

FORMAT = 1
MOST_ROWS = 2**53
"""Whole numbers beyond it are not exact in JSON."""


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration, sealed, whole or not at all."""
    write_sealed(path, FORMAT, calibration.told())


def read_calibration(path: Path) -> Calibration:
    """The inverse of `write_calibration`; InputError where the file is missing, changed, or none."""
    content = read_sealed(path, FORMAT)
    return calibration_from({name: own for name, own in content.items() if name not in ("format", SEAL)}, str(path))


def calibration_from(told: object, where: str) -> Calibration:
    """The inverse of `Calibration.told`; InputError, its line beginning with `where`, unless it is one."""
    found = fields(told, ("fused", "alone", "agreement"), where)
    alone = found["alone"]
    if not isinstance(alone, dict):
        raise InputError(f"{where}: alone must have a scale by bank, got {alone!r:.200}")
    agreement = found["agreement"]
    return Calibration(
        fused=scale_from(found["fused"], f"{where}: fused"),
        alone={bank: scale_from(own, f"{where}: {bank} alone") for bank, own in alone.items()},
        agreement=None if agreement is None else number(agreement, 0, 1, f"{where}: agreement"),
    )


def scale_from(told: object, where: str) -> Scale:
    """A Scale; InputError where its numbers are none, or do not agree."""
    found = fields(told, ("temperature", "units", "risk", "ranks", "before", "after"), where)
    ranks, risk = ranks_from(found["ranks"], where), risk_from(found["risk"], where)
    rows, units = ranks.rows[-1], number(found["units"], 1, MOST_ROWS, f"{where}: units", int)
    bins = [None if found[name] is None else bins_from(found[name], where) for name in ("before", "after")]
    if bins[0] is None or any(own is not None and sum(own.rows) != rows for own in bins):
        raise InputError(f"{where}: bins must hold {rows} rows as scores do")
    if risk.rows[0] != rows or risk.units[0] != units or units > rows:
        said = f"{risk.rows[0]} rows of {risk.units[0]} units"
        raise InputError(f"{where}: risk must be of {rows} rows of {units} units, is of {said}")
    low, high = (math.exp(end) for end in (-LIMIT, LIMIT))
    temperature = number(found["temperature"], low * (1 - 1e-9), high * (1 + 1e-9), f"{where}: temperature")
    return Scale(temperature=temperature, units=units, risk=risk, ranks=ranks, before=bins[0], after=bins[1])


def risk_from(told: object, where: str) -> Risk:
    """A Risk; InputError unless confidence rises and what has more of it is fewer rows."""
    found = fields(told, ("confidence", "rows", "wrong", "units"), f"{where}: risk")
    confidence = numbers(found["confidence"], 0, 1, f"{where}: confidence")
    rows, wrong, units = (
        numbers(found[name], least, MOST_ROWS, f"{where}: {name}", int)
        for name, least in (("rows", 1), ("wrong", 0), ("units", 1))
    )
    require_agreeing(f"{where}: risk", confidence, rows, wrong, units)
    steps = np.diff(np.array([rows, wrong, units], dtype=np.float64))
    fewer = bool((steps[0] < 0).all() and (steps <= 0).all())
    least = all(own <= count and one <= count for own, one, count in zip(wrong, units, rows, strict=True))
    if not fewer or not least or not rises(confidence):
        raise InputError(f"{where}: risk must be of fewer rows, wrong ones and units the more confidence they have")
    return Risk(confidence=confidence, rows=rows, wrong=wrong, units=units)


def ranks_from(told: object, where: str) -> Ranks:
    """Ranks; InputError unless scores and rows rise together."""
    found = fields(told, ("score", "rows"), f"{where}: ranks")
    score = numbers(found["score"], 0, 1, f"{where}: score")
    rows = numbers(found["rows"], 1, MOST_ROWS, f"{where}: rows", int)
    require_agreeing(f"{where}: ranks", score, rows)
    if not rises(score) or not rises(rows):
        raise InputError(f"{where}: ranks must be of more rows the higher the score")
    return Ranks(score=score, rows=rows)


def bins_from(told: object, where: str) -> Bins:
    """Bins; InputError unless there are as many as reliability has, and no more right rows than rows."""
    found = fields(told, ("rows", "right", "confidence"), f"{where}: bins")
    rows, right = (numbers(found[name], 0, MOST_ROWS, f"{where}: {name}", int) for name in ("rows", "right"))
    confidence = numbers(found["confidence"], 0, MOST_ROWS, f"{where}: confidence of bins")
    require_agreeing(f"{where}: bins", rows, right, confidence)
    fits = all(
        own <= count and sure <= count * (1 + 1e-9) for count, own, sure in zip(rows, right, confidence, strict=True)
    )
    if len(rows) != BINS or not fits or not sum(rows):
        raise InputError(f"{where}: bins must be {BINS}, with no more right rows or confidence than rows")
    return Bins(rows=rows, right=right, confidence=confidence)


def fields(told: object, names: tuple[str, ...], where: str) -> Mapping[str, Any]:
    """A JSON object that has these fields and no others, or InputError."""
    if not isinstance(told, dict) or told.keys() != set(names):
        got = ", ".join(map(str, told)) if isinstance(told, dict) else type(told).__name__
        raise InputError(f"{where} must have {', '.join(names)}, got {got}")
    return told


def numbers(told: object, low: float, high: float, where: str, kind: Callable[..., Any] = float) -> tuple[Any, ...]:
    """1 to POINTS numbers, or InputError."""
    if not isinstance(told, list) or not 1 <= len(told) <= POINTS:
        raise InputError(f"{where} must be 1 to {POINTS} numbers, got {told!r:.200}")
    return tuple(number(own, low, high, where, kind) for own in told)


def number(told: object, low: float, high: float, where: str, kind: Callable[..., Any] = float) -> Any:
    """A number in [low, high], a whole one where `kind` is int, or InputError."""
    kinds = (int,) if kind is int else (int, float)
    if type(told) not in kinds or not low <= told <= high:  # type: ignore[operator]
        what = "whole numbers" if kind is int else "numbers"
        raise InputError(f"{where} must be {what} from {low:g} to {high:g}, got {told!r:.200}")
    return kind(told)


def rises(values: tuple[float, ...]) -> bool:
    """Whether each is greater than the one before it."""
    return all(one < other for one, other in itertools.pairwise(values))


def require_agreeing(where: str, *columns: tuple[Any, ...]) -> None:
    """Raise InputError unless columns are equally long."""
    lengths = sorted({len(column) for column in columns})
    if len(lengths) > 1:
        raise InputError(f"{where} must have as many values of each kind, has {lengths}")

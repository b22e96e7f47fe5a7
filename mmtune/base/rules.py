"""What a field may hold; whatever breaks a rule is one line that states the rule and the value."""

from __future__ import annotations

from mmtune.base.errors import InputError


def require_choice(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise InputError unless `value` is one of `allowed`, of the same type."""
    if not any(value == a and type(value) is type(a) for a in allowed):
        raise InputError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")


def require_range(name: str, value: float, low: float, high: float) -> None:
    """Raise InputError unless `value` is a finite number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{name} must be a number from {low:g} to {high:g}, got {value!r}")


def require_count(name: str, value: int, low: int = 1, high: int = 2**31 - 1) -> None:
    """Raise InputError unless `value` is a whole number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name} must be a whole number from {low} to {high}, got {value!r}")

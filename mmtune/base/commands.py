"""How a command is said to the user: as `make` takes it in a checkout, as `mmtune` does elsewhere."""

from __future__ import annotations

import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = {"store": "mlruns"}


def in_checkout() -> bool:
    """Whether the user stands in the checkout that mmtune comes from, where `make` has its targets."""
    return (ROOT / "Makefile").is_file() and (ROOT / "pyproject.toml").is_file() and Path.cwd() == ROOT


def command_line(verb: str, name: str | None = None, /, **options: object) -> str:
    """A command on a study, with those of the options that are given and are not what they are without."""
    given = {own: str(value) for own, value in options.items() if value is not None}
    words = [option(own, value) for own, value in given.items() if value != DEFAULTS.get(own)]
    if in_checkout():
        return " ".join(["make", verb, *([] if name is None else [option("name", name)]), *words])
    return " ".join(["mmtune", verb, *([] if name is None else [shlex.quote(name)]), *words])


def option(name: str, value: object) -> str:
    """An option as it is given to a command."""
    quoted = shlex.quote(str(value))
    return f"{name.upper()}={quoted}" if in_checkout() else f"--{name.replace('_', '-')} {quoted}"

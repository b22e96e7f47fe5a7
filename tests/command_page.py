"""docs/cli.md out of the command line itself: every verb with its sentence, arguments and options.

To write it again: python tests/command_page.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from mmtune.cli import app

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
HEAD = """# The command line

Every verb with its options, as `--help` behind it has them too. In a checkout `make` takes most of them as
`make study NAME=audio_rnn TRIALS=8`, and `make help` says which. What the verbs are for is in [study.md](study.md),
what makes a data set in [data.md](data.md), the shortest way through it all in [quickstart.md](quickstart.md).

This page is written by `python tests/command_page.py`, out of the program itself.
"""


def page() -> str:
    """The whole page, in Markdown."""
    sections = [section(" ".join(words), command) for words, command in verbs(typer.main.get_command(app))]
    return "\n".join([HEAD, *sections])


def verbs(command: Any, words: tuple[str, ...] = ("mmtune",)) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The words of every verb, and its command."""
    for name, own in getattr(command, "commands", {}).items():
        yield from verbs(own, (*words, name))
    if not hasattr(command, "commands"):
        yield words, command


def section(words: str, command: Any) -> str:
    """A verb: a heading, its first sentence, and a row for each of its arguments and options."""
    sentence = " ".join(command.help.partition("\n\n")[0].split())
    rows = [f"| `{name(own)}` | {(own.help or '').replace('|', '/')} | {default(own)} |" for own in command.params]
    table = ["", "| | | if not given |", "|---|---|---|", *rows] if rows else []
    return "\n".join([f"## {words}", "", sentence, *table, ""])


def name(parameter: Any) -> str:
    """An argument in capitals, with dots where there may be several; an option with its dashes, and its opposite."""
    if parameter.param_type_name == "argument":
        return parameter.name.upper() + " ..." * (parameter.nargs < 0)
    return ", ".join([*parameter.opts, *parameter.secondary_opts])


def default(parameter: Any) -> str:
    """What counts where a parameter is not given, "" for nothing."""
    if parameter.required:
        return "refused"
    nothing = parameter.default is None or parameter.default is False or parameter.default == ""
    return "" if nothing else f"`{parameter.default}`"


if __name__ == "__main__":
    PAGE.write_text(page())

"""The program that all verbs belong to: its help, what becomes of mistakes, and its end as a process."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from mmtune.base.errors import AwayError, GoneError, InputError
from mmtune.base.files import storage_problem, unusable

WHAT = "Search, train, compare and promote small networks that read several kinds of data."

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich", help=WHAT)
data_app = typer.Typer(no_args_is_help=True, help="Fetch, build and look at data sets.")
app.add_typer(data_app, name="data", rich_help_panel="Data")
console = Console()


def main() -> None:
    """Run the command line."""
    answer(app)


def process() -> NoReturn:
    """Run the command line as a process of its own, and end that at once.

    Python would take apart all that was loaded first, for a second or two: torch, MLflow and a study's runs.
    """
    code = 0
    for stream in (sys.stdout, sys.stderr):
        # What another encoding has no sign for becomes a question mark, and no traceback.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        main()
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        code = end.code or 0
    atexit._run_exitfuncs()
    # Nobody may be left who reads it.
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def answer(command: Callable[[], object]) -> None:
    """Run a command line; a user's mistake is one line on standard error and exit code 2."""
    # A report reads half a million small values, which hold no cycles: looking for some took a seventh of its time.
    gc.set_threshold(100_000, 50, 50)
    try:
        command()
    except (InputError, AwayError, GoneError) as error:
        refuse(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        problem = storage_problem(error)
        if problem is None:
            raise
        refuse(unusable(problem))


def refuse(error: Exception) -> NoReturn:
    """End with a line on what the user can mend."""
    sys.stderr.write(f"mmtune: {error}\n")
    sys.exit(2)


def show_version(wanted: bool) -> None:
    """Print mmtune's version and end, if it is wanted."""
    if wanted:
        from mmtune.base.provenance import installed

        typer.echo(f"mmtune {installed('mmtune')}")
        raise typer.Exit


@app.callback()
def of_all(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take what comes before a command."""

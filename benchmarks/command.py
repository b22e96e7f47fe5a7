"""What the scripts' command lines have in common."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable

from mmtune.base.errors import InputError


class IncompleteError(RuntimeError):
    """A side did not do all of its work."""


def whole(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return int(text)


def say(line: str) -> None:
    """A line of progress, at once."""
    print(line, flush=True)


def command(work: Callable[[], bool | None]) -> None:
    """Do a script's work, with exit code 1 where that is False or not all was done, 2 for a user's mistake, in a line.

    SIGTERM and SIGHUP are taken as an exit, so that what runs below is ended and what is temporary goes.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        if work() is False:
            sys.exit(1)
    except (InputError, IncompleteError) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2 if isinstance(error, InputError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)

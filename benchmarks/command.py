"""What the scripts' command lines have in common."""

from __future__ import annotations

import argparse
import signal
import sys


def whole(text: str) -> int:
    """A whole number from 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text!r}")
    return int(text)


def end_cleanly() -> None:
    """Take SIGTERM as an exit, so that what runs below is ended and what is temporary goes."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))

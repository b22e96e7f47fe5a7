"""Ctrl-C, SIGTERM and a closed terminal as a flag, so that no write is cut in two."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether one of STOPS has come; a later one ends the process at once.

    One stop can arrive as several signals, from make and from the process group, so those of a second count once.
    """
    seen: list[float] = []

    def note(number: int, _: FrameType | None) -> None:
        seen.append(time.monotonic())
        if seen[-1] - seen[0] > 1:
            os._exit(128 + number)

    before = {number: signal.signal(number, note) for number in STOPS}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

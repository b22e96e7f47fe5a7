"""Ctrl-C, SIGTERM and a closed terminal as a flag, so that no write is cut in two."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What asks a command to stop: Ctrl-C, a kill, a terminal that is closed."""


def end_process(number: int) -> NoReturn:
    """What a command does with a second stop."""
    os._exit(128 + number)


def raise_interrupt(_: int) -> NoReturn:
    """What a function of a process that is somebody else's does with a second stop."""
    raise KeyboardInterrupt


@contextmanager
def interruptible(insist: Callable[[int], NoReturn] = end_process) -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether one of STOPS has come; a later one ends everything at once, as `insist` does.

    One stop can arrive as several signals, from make and from the process group, so those of a second count once.
    What `nohup` has ignored stays ignored. Off the main thread no signal ever arrives: the function says no.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    seen: list[float] = []
    terminals = [number for number in (1, 2) if os.isatty(number)]

    def note(number: int, _: FrameType | None) -> None:
        seen.append(time.monotonic())
        if seen[-1] - seen[0] > 1:
            insist(number)
        # To have nobody left to say it to is no failure.
        for terminal in terminals:
            if not os.isatty(terminal):
                with Path(os.devnull).open("w") as nowhere:
                    os.dup2(nowhere.fileno(), terminal)

    heard = [number for number in STOPS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            if handler is not None:  # of one that was not set from Python there is nothing to set again
                signal.signal(number, handler)

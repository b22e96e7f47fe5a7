"""Seconds spent on one kind of work."""

from __future__ import annotations

import time


class Stopwatch:
    """Adds up the wall time in which it is entered; entered within itself, that time counts once."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.depth = 0
        self.began = 0.0

    def __enter__(self) -> None:
        if self.depth == 0:
            self.began = time.perf_counter()
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        self.depth -= 1
        if self.depth == 0:
            self.seconds += time.perf_counter() - self.began

"""Waiting for a store that is away: a line when it goes and one when it is back, and an end after so many seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from mmtune.base.errors import AwayError, InputError
from mmtune.tracking.tracker import MlflowTracker

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0
Found = TypeVar("Found")


class Patience:
    """seconds: after so many without an answer it gives up, with an InputError. say: prints a line; waits: what it says
    of what is not in the store yet."""

    def __init__(self, tracker: MlflowTracker, seconds: float, say: Callable[[str], None], waits: str = "") -> None:
        self.tracker, self.seconds, self.say = tracker, seconds, say
        self.waits = waits or f"what is trained waits in {tracker.root / 'staging'}"
        self.away_since: float | None = None
        self.again = self.pause = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time to ask the store, if it was away when it was asked last."""
        return time.monotonic() >= self.again

    def attempt(self, act: Callable[[], None]) -> bool:
        """Act; False, and a pause, where the store does not answer. Raises InputError where patience has ended."""
        try:
            act()
        except AwayError as error:
            self._missed(error.reason)
            return False
        if self.away_since is not None:
            self.say(f"{self.tracker.name} is back")
            self.away_since, self.pause = None, 0.0
        return True

    def insist(self, act: Callable[[], Found], stopped: Callable[[], bool] = lambda: False) -> Found:
        """What comes of something that needs the store, once it answers; InputError where patience has ended.

        Raises AwayError where it is `stopped()` while the store is away.
        """
        found: list[Found] = []
        while not self.attempt(lambda: found.append(act())):
            self.wait(stopped)
        return found[0]

    def wait(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Wait until it is time to ask again."""
        while not self.due:
            if stopped():
                raise AwayError(self.tracker.name, "nobody waits for it any more")
            time.sleep(min(1.0, max(0.0, self.again - time.monotonic())))

    def _missed(self, reason: str) -> None:
        now, name = time.monotonic(), self.tracker.name
        if self.away_since is None:
            self.away_since = now
            self.say(f"{name} does not answer ({reason}): {self.waits}")
        if now - self.away_since >= self.seconds:
            told = f"{name} has not answered for {self.seconds:g} s: {reason}"
            raise InputError(f"{told}; {self.waits}, and the same command goes on with it")
        self.pause = min(max(2 * self.pause, FIRST_PAUSE), LONGEST_PAUSE, self.seconds or FIRST_PAUSE)
        self.again = now + self.pause

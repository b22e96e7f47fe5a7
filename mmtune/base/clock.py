"""The time of day as runs record it: it never goes back, so that what is later in truth is later on record.

A machine's own clock may jump: it is set by hand or by its network, or another machine's is a day behind. Runs,
attempts and values are put in order by time, by MLflow too. So where the clock has gone back, time nearly stands still
here until it has caught up.
"""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What MLflow tells apart.
SMALLEST = timedelta(milliseconds=1)
MOST_AHEAD = timedelta(days=366)
"""What is later was written by a hand, or a clock that is out of its mind."""


class Clock:
    """Tells times, each later than those before it and than those that it was shown."""

    def __init__(self) -> None:
        self.latest = EPOCH

    def now(self) -> datetime:
        """The time in UTC, a millisecond after the last one at least."""
        self.latest = max(of_machine(), self.latest + SMALLEST)
        return self.latest

    def show(self, moment: datetime) -> None:
        """A time on record, which no time told from now on is before; one of years to come counts for nothing."""
        if moment <= of_machine() + MOST_AHEAD:
            self.latest = max(self.latest, moment)

    def show_milliseconds(self, since_1970: int) -> None:
        """The same as MLflow counts; one that no calendar has counts for nothing."""
        with suppress(OverflowError):
            self.show(EPOCH + timedelta(milliseconds=since_1970))

    def show_text(self, moment: str) -> None:
        """The same of a time in ISO 8601; one that a hand has made unreadable counts for nothing."""
        with suppress(ValueError, TypeError):
            self.show(datetime.fromisoformat(moment))


def of_machine() -> datetime:
    """The time in UTC as this machine's clock has it."""
    return EPOCH + timedelta(microseconds=time.time_ns() // 1000)


CLOCK = Clock()


def now() -> str:
    """The time in UTC, ISO 8601 with microseconds, so that text order is time order."""
    return CLOCK.now().isoformat(timespec="microseconds")


def milliseconds() -> int:
    """The time in milliseconds since 1970, rounded down, as MLflow counts."""
    return (CLOCK.now() - EPOCH) // timedelta(milliseconds=1)

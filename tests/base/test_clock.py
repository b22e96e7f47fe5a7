"""Times on record go forward, whatever the machine's clock does."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from mmtune.base.clock import EPOCH, Clock

DAY = 86_400 * 10**9


@pytest.mark.parametrize("days", [[0, -1, -1, 3, 2, -400], [0, 0, 0], [5, 4, 3, 2, 1]])
def test_each_time_is_later_than_those_before_it(monkeypatch: pytest.MonkeyPatch, days: list[int]) -> None:
    clock, true, told = Clock(), time.time_ns, []
    for jump in days:
        monkeypatch.setattr(time, "time_ns", lambda jump=jump: true() + jump * DAY)
        told.append(clock.now())
    assert all(later - earlier >= timedelta(milliseconds=1) for earlier, later in pairwise(told))


def test_it_is_the_time_of_day_where_the_clock_is_right() -> None:
    before = datetime.now(UTC)
    clock = Clock()
    clock.show(EPOCH)
    clock.show(before - timedelta(days=1))
    assert before <= clock.now() <= datetime.now(UTC)


def test_it_is_later_than_what_it_was_shown() -> None:
    clock, ahead = Clock(), datetime.now(UTC) + timedelta(days=3)
    clock.show(ahead)
    assert ahead < clock.now() < clock.now() < ahead + timedelta(seconds=1)


def test_a_time_of_years_to_come_counts_for_nothing() -> None:
    clock = Clock()
    clock.show_milliseconds(253402300799999)
    clock.show_text("9999-12-31T00:00:00+00:00")
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(days=1)

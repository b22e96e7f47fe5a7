"""A study is never silent for long where no display shows it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mmtune.base import progress
from mmtune.base.progress import QUIET, Progress
from mmtune.train.objective import metric_of
from mmtune.tune.forecast import Forecast


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What time it is, in one place."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def text() -> io.StringIO:
    """What is said."""
    return io.StringIO()


@pytest.fixture
def shown(clock: list[float], text: io.StringIO) -> Progress:
    return Progress(console=Console(file=text), scale=metric_of("accuracy"), forecast=Forecast(30), trials=2, done=0)


def test_off_a_terminal_an_epoch_has_a_line_after_a_quiet_while(
    clock: list[float], text: io.StringIO, shown: Progress
) -> None:
    shown.begin(0, "00", 30)
    for epoch in range(1, 7):
        clock[0] = epoch * QUIET / 2
        shown.advance(0, epoch, epoch / 10)
    shown.finish(0, "COMPLETE", "accuracy 0.6")
    started, *epochs, ended = text.getvalue().splitlines()
    assert (started, ended.partition(",")[0]) == ("trial 00: started", "[1/2] trial 00: complete after 6 of 30 epochs")
    assert [line.partition(",")[0] for line in epochs] == [f"[0/2] trial 00: epoch {n} of 30" for n in (2, 4, 6)]
    assert ["val accuracy 0.4000, about " in line for line in epochs] == [False, True, False]


def test_epochs_of_an_earlier_call_have_no_line(clock: list[float], text: io.StringIO, shown: Progress) -> None:
    shown.begin(0, "00", 30)
    clock[0] = 10 * QUIET
    shown.advance(0, 20, 0.5, new=False)
    assert text.getvalue().splitlines() == ["trial 00: started"]

"""A stop is a flag; a second one is what the caller makes of it; off the main thread there is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from mmtune.base import signals
from mmtune.base.signals import interruptible, raise_interrupt


def test_a_stop_is_noted_and_the_handlers_are_as_they_were() -> None:
    before = [signal.getsignal(number) for number in signals.STOPS]
    with interruptible() as stopped:
        assert not stopped()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopped()
    assert [signal.getsignal(number) for number in signals.STOPS] == before


def test_a_second_stop_interrupts_a_call_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((0.0, 0.5, 2.0))
    monkeypatch.setattr("mmtune.base.signals.time.monotonic", lambda: next(times))
    with interruptible(raise_interrupt) as stopped:
        for _ in range(2):  # of one stop, as those of a process group and of make are
            os.kill(os.getpid(), signal.SIGINT)
        assert stopped()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_second_stop_ends_a_command_at_once() -> None:
    code = """
import os, signal
from mmtune.base import signals
times = iter((0.0, 2.0))
signals.time.monotonic = lambda: next(times)
with signals.interruptible():
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 130


def test_off_the_main_thread_nothing_is_heard_and_nothing_breaks() -> None:
    def ask() -> bool:
        assert threading.current_thread() is not threading.main_thread()
        with interruptible() as stopped:
            return stopped()

    before = signal.getsignal(signal.SIGINT)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(ask).result() is False
    assert signal.getsignal(signal.SIGINT) == before

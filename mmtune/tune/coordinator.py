"""The one process that asks and tells, drives the workers, and has what they leave brought to the store.

The store may be away for a while: whatever ends is in staging first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from time import monotonic
from typing import Protocol

from mmtune.base.errors import AwayError, InputError
from mmtune.base.files import storage_problem, unusable
from mmtune.base.progress import Progress
from mmtune.pool.worker import Died, Done, Epoch, Event, Failed, Job
from mmtune.tracking import Recorder, TakenOverError
from mmtune.tune.trials import Trials

# Many workers may end together; for so long no other one is heard.
TURN_SECONDS = 0.05
LAST_SECONDS = 5.0


class Pool(Protocol):
    """What trains: processes on this machine, or anything else that keeps to this."""

    @property
    def idle(self) -> int: ...
    def narrow(self) -> int: ...
    def submit(self, job: Job) -> None: ...
    def answer(self, number: int, go_on: bool) -> None: ...
    def events(self, timeout: float) -> Iterable[Event]: ...


class Coordinator:
    """Runs trials on a pool until none is left or `stop()` says so."""

    def __init__(self, trials: Trials, recorder: Recorder, pool: Pool, progress: Progress) -> None:
        self.trials, self.recorder, self.pool, self.progress = trials, recorder, pool, progress
        self.endings: deque[Event] = deque()

    def run(self, stop: Callable[[], bool], over: Callable[[], bool] = lambda: False) -> None:
        """Until every trial has ended, it is `over()`, or somebody wants to `stop()` and waits for no store.

        What is under way then goes on with the next call.

        Where no file can be written, what is left is for the next call too.
        """
        trials = self.trials
        try:
            while (trials.open or trials.live) and not stop() and not over():
                self._hear(0 if self._work() else 0.5)
            while self.endings:
                self._handle(self.endings.popleft())
            leave(self.recorder, stopping=bool(trials.open or trials.live) and stop())
        except (TakenOverError, AwayError):
            raise
        except (Exception, SystemExit) as error:  # a console whose reader has gone away exits
            if storage_problem(error) is None:
                # What was trained to its end has ended, whatever else went wrong.
                for event in self.endings:
                    if isinstance(event, Done):
                        with suppress(Exception):
                            trials.done(event.number)
                with suppress(Exception):
                    leave(self.recorder, stopping=True)
            raise

    def _work(self) -> bool:
        """End trials that are over, begin others, bring runs to the store, in turn and not for long; whether more is
        to be done."""
        until = monotonic() + TURN_SECONDS
        while monotonic() < until:
            ending = bool(self.endings)
            if ending:
                self._handle(self.endings.popleft())
            begun = bool(self.pool.idle) and self.trials.begin(self.pool.submit)
            brought = self.recorder.work()
            if not (begun or ending or brought):
                return False
        return True

    def _hear(self, timeout: float) -> None:
        """Take note of epochs, since a worker may wait for an answer; what takes longer has its turn later."""
        for event in self.pool.events(timeout):
            if isinstance(event, Epoch):
                go_on = self.trials.advance(event.number, event.point, event.new)
                if go_on is not None:
                    self.pool.answer(event.number, go_on)
                continue
            if isinstance(event, Failed | Died) and event.memory:
                # How many may train goes by how many do at this moment.
                self.progress.say(f"memory gave out: from now on at most {self.pool.narrow()} train side by side")
            self.endings.append(event)

    def _handle(self, event: Event) -> None:
        match event:
            case Done():
                self.trials.done(event.number)
            case Failed() if event.storage:
                # Not the trial's fault: it goes on once there is room.
                raise unusable(event.storage)
            case Failed():
                self.trials.fail(event.number, event.reason, retry=event.retry)
            case Died() if self.trials.has_ended(event.number):
                self.trials.done(event.number)
            case Died() if event.lost:
                self.trials.lose(event.number, event.reason)
            case Died():
                self.trials.fail(event.number, event.reason, retry=True)
            case _:
                pass


def leave(recorder: Recorder, stopping: bool) -> None:
    """Bring the store all there is; what is under way there waits for the next call.

    Whoever stops a study does not wait for a store that is away: what it lacks is in staging.
    """
    if stopping:
        recorder.patience.seconds = min(recorder.patience.seconds, LAST_SECONDS)
    try:
        recorder.finish()
        recorder.pause_all([own.run for own in recorder.waiting.values() if own.result is None])
    except InputError as error:
        if not stopping:
            raise
        recorder.patience.say(str(error))

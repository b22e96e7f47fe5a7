"""What a job runs: a worker, tied to the coordinator that has asked for it."""

from __future__ import annotations

import os
import platform
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any, NoReturn

from mmtune.base.errors import InputError
from mmtune.data.dataset import Partition
from mmtune.pool.same import made_with
from mmtune.pool.slurm.tie import Tie, call
from mmtune.pool.worker import Event, Job, WorkerSpec, live

# SLURM sends the first shortly before a job's time is over, as it is asked to, and the second to whatever it ends.
ENDINGS = {signal.SIGUSR2: "reached its time limit", signal.SIGTERM: "was preempted or cancelled"}


@dataclass(frozen=True, kw_only=True)
class Leaving:
    """The last that a worker says. lost: whether SLURM takes its place away, which is no fault of what it trains."""

    reason: str
    lost: bool = False


class Seat:
    """A worker's end of its tie (`mmtune.pool.worker.Line`). With the coordinator this process ends at once."""

    def __init__(self, tie: Tie, name: str) -> None:
        self.tie, self.name = tie, name
        self.inbox: SimpleQueue[Any] = SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, event: Event) -> None:
        """What the worker says."""
        self.tie.send(event)

    def recv(self) -> Job | bool:
        """What the worker hears."""
        said: Job | bool = self.inbox.get()
        return said

    def leave(self, reason: str, lost: bool = False) -> NoReturn:
        """End this process, and say why. What it was writing is cut short as by a kill, which staging stands."""
        with suppress(OSError):
            self.tie.send(Leaving(reason=reason, lost=lost))
        os._exit(0)

    def on_signal(self, number: int, _: FrameType | None) -> None:
        """Leave, by a thread of its own: this one may be in the middle of saying something."""
        reason = f"{self.name} {ENDINGS[signal.Signals(number)]}"
        threading.Thread(target=self.leave, args=(reason, True), daemon=True).start()

    def _listen(self) -> None:
        try:
            while True:
                self.inbox.put(self.tie.recv())
        except (EOFError, OSError):
            os._exit(0)
        except Exception as error:  # what was said holds something that is not here
            self.leave(f"{self.name}: {in_a_line(error)}")


def train(hosts: Sequence[str], port: int, secret: Path) -> None:
    """The life of a job's task: find the coordinator, say who this is, and train whatever it is told.

    Raises OSError or EOFError where there is none any more, as it has ended while this job waited for its turn.
    """
    from submitit import JobEnvironment

    job, node = JobEnvironment(), platform.node()
    name = f"job {job.job_id} on {node}"
    tie = call(hosts, port, secret.read_bytes())
    tie.send({"job": job.job_id, "task": job.global_rank, "name": name, "made_with": made_with()})
    seat = Seat(tie, name)
    for number in ENDINGS:
        signal.signal(number, seat.on_signal)
    # Who asks for jobs while it does not want to be stopped hands that on to those that it starts itself.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDINGS)
    spec: Any = seat.inbox.get()
    try:
        live(spec, lambda: read(spec, node), seat)
    except Exception as error:
        seat.leave(f"{name}: {in_a_line(error)}")
    seat.leave(f"{name}: its device gave out")


def read(spec: WorkerSpec, node: str) -> Partition:
    """The training rows; InputError where this node does not see them."""
    if not spec.data.is_dir():
        raise InputError(f"every node must see the data set under the path {spec.data}, {node} does not")
    return spec.training_rows()


def in_a_line(error: Exception) -> str:
    """What went wrong."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"

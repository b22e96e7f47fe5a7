"""Who brings studies to an MLflow server: a thread beside a study that runs, and `mmtune sync` for what is left.

Neither ever keeps a study from going on. The local store has everything, so that a server may be away for as long as
it likes, and a courier may be killed at any moment.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from mmtune.base.errors import InputError
from mmtune.base.files import locked
from mmtune.tracking.address import VARIABLE, Server, tracking_database, tracking_server
from mmtune.tracking.delivery import Delivery
from mmtune.tracking.reading import read_studies
from mmtune.tracking.runs import StudyRun
from mmtune.tracking.server import UnavailableError, server_client
from mmtune.tracking.store import store_at

Say = Callable[[str], None]
SWEEP_SECONDS = 3.0
LONGEST_PAUSE = 15.0
# A study that is over waits so long for its server, and says why when it has waited a little.
LAST_SECONDS, PATIENCE = 30.0, 2.0
ATTEMPTS = 3


@contextmanager
def delivering(root: Path, say: Say) -> Iterator[Callable[[str], None]]:
    """For a study: gives a function that is told the study's run when it is there, and goes on at once.

    From then on the runs are brought to the server that MLFLOW_TRACKING_URI names, if it names one. say: prints a line,
    from any thread. Raises InputError where the variable names something else.
    """
    server, couriers = tracking_server(), list[Courier]()

    def begin(parent: str) -> None:
        if server is not None:
            couriers.append(Courier(root, parent, server, say))
            couriers[-1].start()

    try:
        yield begin
    except BaseException:
        for courier in couriers:
            courier.end(0)
        raise
    for courier in couriers:
        courier.finish()


@contextmanager
def delivery_of(root: Path, engine: Any, study: StudyRun, server: Server, client: Any) -> Iterator[Delivery]:
    """A study's delivery; InputError where another process is at it."""
    folder, slug = root / "delivered" / server.slug, study.key.slug
    refusal = f"{slug} is being delivered to {server.name}"
    with (
        locked(folder / f"{slug}.lock", refusal, f"pid {os.getpid()} on {os.uname().nodename}"),
        closing(Delivery(engine, study, server, client, folder / f"{slug}.jsonl")) as delivery,
    ):
        yield delivery


@contextmanager
def disposing(engine: Any) -> Iterator[None]:
    """Close what an engine has open."""
    try:
        yield
    finally:
        engine.dispose()


class Courier(threading.Thread):
    """Brings one study's runs as they come, and goes on alone whatever happens."""

    def __init__(self, root: Path, parent: str, server: Server, say: Say) -> None:
        super().__init__(name="courier", daemon=True)
        self.root, self.parent, self.server, self.say = root, parent, server, say
        # Here, in the thread that has imported MLflow: two threads that import it at once lock each other out.
        self.client = server_client(server)
        self.ending = threading.Event()
        self.deadline = float("inf")
        self.lost = False
        # Runs that the server lacks, None where that is not known.
        self.waiting: int | None = 0

    # ---- in the study's own thread

    def end(self, seconds: float) -> None:
        """Ask it to bring the rest within so many seconds."""
        self.deadline = time.monotonic() + seconds
        self.ending.set()

    def finish(self) -> None:
        """Wait for the rest, not for long; say what is left."""
        self.end(LAST_SECONDS)
        self.join(PATIENCE)
        if self.is_alive():
            self.say(f"bringing the last runs to {self.server.name}")
            self.join(max(0.0, self.deadline - time.monotonic()))
        if self.is_alive() or self.waiting != 0:
            runs = f"{self.waiting} run{'s' * (self.waiting > 1)}" if self.waiting else "runs"
            self.say(f"{runs} wait in {self.root}; `mmtune sync` brings them to {self.server.name}")

    # ---- in its thread

    def run(self) -> None:
        """Until the study is over; whatever happens is one line."""
        try:
            self.work()
        except Exception as error:
            self.waiting = None
            what = self.server.without_secrets(f"{type(error).__name__}: {error}")
            self.say(f"runs are not brought to {self.server.name} any more, {what}")

    def work(self) -> None:
        """Take the study's lock, again and again while `mmtune sync` has it, and serve."""
        engine = store_at(self.root).open_engine()
        with disposing(engine):
            study = next(study for study in read_studies(engine, None) if study.run_id == self.parent)
            while True:
                try:
                    with delivery_of(self.root, engine, study, self.server, self.client) as delivery:
                        return self.serve(delivery)
                except InputError:
                    self.waiting = None
                if self.ending.wait(SWEEP_SECONDS):
                    return None

    def serve(self, delivery: Delivery) -> None:
        """Sweep until the study is over, and then until nothing is left or time is up."""
        failures = 0
        while True:
            over, sent = self.ending.is_set(), 0
            try:
                sent = delivery.sweep(over, self.in_time, self.heard)
                failures = 0
            except UnavailableError as error:
                failures += 1
                self.missed(f"{self.server.name} {error}", failures)
            except (OSError, SQLAlchemyError) as error:
                failures += 1
                reason = self.server.without_secrets(str(error))
                self.missed(f"runs cannot be brought to {self.server.name}, {reason}", failures)
            self.waiting = delivery.waiting
            # One more look after the last run: the study's own names others by what they are called there.
            if over and (self.lost or not self.in_time() or not (sent or self.waiting)):
                break
            pause = min(2.0**failures, LONGEST_PAUSE) if failures else SWEEP_SECONDS
            if not over:
                self.ending.wait(pause)
            elif not sent:
                time.sleep(1.0)
        for line in problems(delivery):
            self.say(line)

    def in_time(self) -> bool:
        """Whether there is time left for another run."""
        return time.monotonic() < self.deadline

    def heard(self) -> None:
        """The server has answered."""
        if self.lost:
            self.lost = False
            self.say(f"{self.server.name} is back, and runs are brought to it again")

    def missed(self, reason: str, failures: int) -> None:
        """The server has not answered; once is nothing, as a connection that was idle may break."""
        if failures > 1 and not self.lost:
            self.lost = True
            self.say(f"{reason}: the study goes on, and its runs wait in {self.root}")


# ---- later


@dataclass(kw_only=True)
class Tally:
    """What became of runs: brought, there already, in trouble (a line each); and the studies somebody else is at."""

    server: Server
    brought: int = 0
    there: int = 0
    problems: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """It in words."""
        total = (
            f"{self.brought} run{'s' * (self.brought != 1)} delivered to {self.server.name}, {self.there} already there"
        )
        return [*self.skipped, *self.problems, total]


def sync(root: Path, advance: Callable[[str, int, int], None] = lambda *_: None) -> Tally:
    """Bring to the server whatever it lacks of all studies in `root`, the first one opened first.

    advance: told of (study, runs done, runs due). Raises InputError where MLFLOW_TRACKING_URI names no server, or it
    does not answer.
    """
    server = tracking_server()
    if server is None:
        found = "names a database" if tracking_database() else "is not set"
        raise InputError(f"{VARIABLE} must be the http(s) URL of an MLflow server, it {found}")
    engine, client, tally = store_at(root).open_engine(), server_client(server), Tally(server=server)
    for study in reversed(read_studies(engine, None)):
        try:
            with delivery_of(root, engine, study, server, client) as delivery:
                bring(delivery, tally, advance)
        except InputError as error:
            tally.skipped.append(f"{error}; it is skipped")
        except UnavailableError as error:
            raise InputError(f"{server.name} {error}; what it lacks waits in {root}") from error
    return tally


def bring(delivery: Delivery, tally: Tally, advance: Callable[[str, int, int], None]) -> None:
    """Sweep one study until the server lacks nothing of it."""
    total, failures = len(delivery.lacking(whole=True)), 0

    def heard() -> None:
        nonlocal failures
        failures = 0
        advance(delivery.study.key.slug, min(len(delivery.delivered), total), total)

    sent = 1
    while sent or delivery.waiting:
        try:
            delivery.meet()
            sent = delivery.sweep(True, heard=heard)
        except UnavailableError:
            failures += 1
            if failures == ATTEMPTS:
                raise
        if failures or (delivery.waiting and not sent):
            time.sleep(1.0)
    tally.brought += len(delivery.delivered)
    tally.there += delivery.members - len(delivery.delivered)
    tally.problems += problems(delivery)


def problems(delivery: Delivery) -> list[str]:
    """What somebody has to see to, a line each."""
    name = delivery.server.name
    refused = [f"{name} refuses run {run}: {why}" for run, (_, why) in delivery.refused.items()]
    doubles = [f"{name} has run {run} twice: {one} must be deleted there" for run, one in delivery.doubles.items()]
    return [*refused, *doubles]

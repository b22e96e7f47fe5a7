"""The runs of one study, brought to an MLflow server: every run once, and whatever changes of it later.

A server may do what it was asked for after the one who asked has gone away. So a run is looked up by its tag before it
is made, and a run of which some request was not answered is looked up and sent whole once more when the server has
been answering for a while: a second run that was made meanwhile is deleted, and what arrived late is written over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmtune.tracking.address import Server
from mmtune.tracking.reading import PARENT
from mmtune.tracking.receipts import Receipt, Receipts
from mmtune.tracking.runs import RUNNING, StudyRun
from mmtune.tracking.server import RefusedError, UnavailableError, answers
from mmtune.tracking.snapshot import (
    STUDY,
    Row,
    Snapshot,
    digest,
    read_members,
    read_rows,
    read_snapshots,
    state_of_files,
)

OWN = "mmtune.run"
# Tags that name other runs, by their ids.
LINKS = (PARENT, STUDY, "mmtune.best_run")
# How long a request that was not answered may still be under way in a server that answers others.
CALM_SECONDS = 10.0


class Delivery:
    """One study and one server; whoever makes one holds the lock of both.

    members: how many runs it has; waiting: how many of them the server lacked, or lacked something of, at the last
    look; delivered: those of which something new was brought; refused: by run, what it was and why it was refused;
    doubles: by run, one more of it on the server that only somebody else may delete.
    """

    def __init__(self, engine: Any, study: StudyRun, server: Server, client: Any, receipts: Path) -> None:
        self.engine, self.study, self.server, self.client = engine, study, server, client
        self.receipts = Receipts(receipts)
        self.experiment = ""
        self.waiting, self.members = 0, 0
        self.delivered: set[str] = set()
        self.refused: dict[str, tuple[str, str]] = {}
        self.doubles: dict[str, str] = {}
        # By run, since when it is in doubt what the server has of it.
        self.doubts = {run: time.monotonic() for run, receipt in self.receipts.last.items() if not receipt.settled}

    def close(self) -> None:
        """Write down what is known of runs that go on."""
        for run_id, receipt in self.receipts.last.items():
            if run_id not in self.doubts and run_id not in self.doubles:
                self.receipts.write(replace(receipt, settled=True))
        self.receipts.close()

    def sweep(
        self, whole: bool, go_on: Callable[[], bool] = lambda: True, heard: Callable[[], None] = lambda: None
    ) -> int:
        """Bring what the server lacks, for as long as `go_on()`; `heard()` after each run. Returns how many it was.

        whole: look also at runs that had ended and were delivered. Raises UnavailableError, and goes on from there when
        it is called again.
        """
        lacking = self.lacking(whole)
        self.waiting = len(lacking)
        now = time.monotonic()
        due = [s for s in lacking if not self.is_known(s) or now - self.doubts[s.run_id] > CALM_SECONDS]
        for number, snapshot in enumerate(sorted(due, key=self.turn)):
            if not go_on():
                return number
            self.deliver(snapshot)
            self.waiting -= snapshot.run_id not in self.doubts
            heard()
        return len(due)

    def lacking(self, whole: bool) -> list[Snapshot]:
        """The runs of which the server has not everything, or may not have it."""
        members = read_members(self.engine, self.study.run_id)
        self.members = len(members)
        ids = [run for run, status in members if whole or not self.is_over(run, status)]
        found = [s for s in read_snapshots(self.engine, ids) if self.refused.get(s.run_id, ("",))[0] != self.content(s)]
        return [s for s in found if s.run_id in self.doubts or not self.is_known(s)]

    def is_over(self, run_id: str, status: str) -> bool:
        """Whether a run has ended and was delivered, so that it hardly changes any more."""
        receipt = self.receipts.of(run_id)
        return receipt.settled and receipt.status == status != RUNNING

    def is_known(self, snapshot: Snapshot) -> bool:
        """Whether the server was sent all there is."""
        return self.receipts.of(snapshot.run_id).sent == self.content(snapshot)

    def turn(self, snapshot: Snapshot) -> tuple[bool, bool]:
        """The study's run comes first, and last what failed before, so that it keeps nothing up."""
        return snapshot.run_id != self.study.run_id, snapshot.run_id in self.doubts

    def content(self, snapshot: Snapshot) -> str:
        """A fingerprint of all that is sent of a run."""
        files = state_of_files(snapshot.folder) if snapshot.ended else ""
        latest = [(row.name, row.value, row.time, row.step) for row in snapshot.latest]
        fields = [snapshot.name, snapshot.status, snapshot.end, snapshot.rows, files, latest]
        return digest([*fields, dict(snapshot.params), self.tags(snapshot)])

    def tags(self, snapshot: Snapshot) -> dict[str, str]:
        """A run's tags as the server is to have them; one that names a run which is not there yet comes later."""
        own = {name: value for name, value in snapshot.tags.items() if name not in LINKS}
        named = {name: self.receipts.of(snapshot.tags[name]).remote for name in LINKS if name in snapshot.tags}
        return own | {name: run for name, run in named.items() if run} | {OWN: snapshot.run_id}

    # ---- one run

    def deliver(self, snapshot: Snapshot, again: bool = False) -> None:
        """Bring a run; one that the server has lost is made there again, and one that it refuses twice is put aside."""
        run_id = snapshot.run_id
        try:
            with answers(self.server):
                self.find_experiment()
                self.attempt(snapshot)
        except RefusedError as error:
            self.experiment = ""
            self.receipts.write(Receipt(run_id=run_id))
            if again:
                self.refused[run_id] = self.content(snapshot), str(error)
            else:
                self.deliver(snapshot, again=True)
        except BaseException:
            self.doubts[run_id] = time.monotonic()
            raise

    def attempt(self, snapshot: Snapshot) -> None:
        """Send what is new, or, in doubt, look the run up and send everything."""
        run_id = snapshot.run_id
        self.receipts.open(run_id)
        before, doubted = self.receipts.of(run_id), self.doubts.get(run_id)
        sent = before.sent
        calm = doubted is not None and time.monotonic() - doubted > CALM_SECONDS
        if not before.remote or doubted is not None:
            before = Receipt(run_id=run_id, remote=self.find(snapshot, before.remote) or self.make(snapshot))
            self.receipts.write(before)
        after = self.send(snapshot, before)
        if after.sent != sent:
            self.delivered.add(run_id)
        if calm:
            del self.doubts[run_id]
        sure = snapshot.ended and run_id not in self.doubts and run_id not in self.doubles
        (self.receipts.write if sure else self.receipts.keep)(replace(after, settled=sure))

    def find(self, snapshot: Snapshot, known: str) -> str:
        """The run's id on the server, "" if it is not there; of two, which a lost answer can leave, one is deleted."""
        found = self.client.search_runs([self.experiment], f"tags.`{OWN}` = '{snapshot.run_id}'")
        ids = sorted(str(run.info.run_id) for run in found)
        kept = known if known in ids else "".join(ids[:1])
        self.doubles.pop(snapshot.run_id, None)
        for run_id in ids:
            if run_id != kept:
                self.remove(run_id, snapshot.run_id)
        return kept

    def remove(self, double: str, run_id: str) -> None:
        """Delete a run on the server that is one too many, or note it where that is not ours to do."""
        try:
            with answers(self.server):
                self.client.delete_run(double)
        except RefusedError:
            self.doubles[run_id] = double

    def make(self, snapshot: Snapshot) -> str:
        """A new run on the server."""
        made = self.client.create_run(
            self.experiment, start_time=snapshot.start, tags=self.tags(snapshot), run_name=snapshot.name
        )
        return str(made.info.run_id)

    def send(self, snapshot: Snapshot, before: Receipt) -> Receipt:
        """Bring a run that is there up to date, its files after its values and its status last."""
        remote = before.remote
        # Before anything is read: a change after that is seen the next time.
        sent = self.content(snapshot)
        rows, total = read_rows(self.engine, snapshot.run_id, before.until, before.rows)
        self.send_values(remote, snapshot.params, self.tags(snapshot), rows)
        files = state_of_files(snapshot.folder) if snapshot.ended else before.files
        if files != before.files:
            self.client.log_artifacts(remote, str(snapshot.folder))
        if snapshot.status != before.status:
            self.send_status(remote, snapshot)
        until = max([before.until, *(row.time for row in rows)])
        return replace(before, sent=sent, status=snapshot.status, files=files, rows=total, until=until)

    def send_values(self, remote: str, params: Mapping[str, str], tags: Mapping[str, str], rows: Sequence[Row]) -> None:
        """Params, tags and values of metrics; MLflow's client divides them as its server wants them."""
        from mlflow.entities import Metric, Param, RunTag

        self.client.log_batch(
            remote,
            metrics=[Metric(row.name, row.value, row.time, row.step) for row in rows],
            params=[Param(name, value) for name, value in params.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )

    def send_status(self, remote: str, snapshot: Snapshot) -> None:
        """How a run ended and when, or that it goes on."""
        if snapshot.ended:
            self.client.set_terminated(remote, status=snapshot.status, end_time=snapshot.end)
        else:
            self.client.update_run(remote, status=snapshot.status)

    # ---- the study on the server

    def meet(self) -> None:
        """Make sure that the server answers and has what it had; raises UnavailableError."""
        with answers(self.server):
            self.find_experiment()

    def find_experiment(self) -> None:
        """The experiment by the study's name, made if there is none; UnavailableError where it cannot be had."""
        if self.experiment:
            return
        name = self.study.key.study
        try:
            with answers(self.server):
                found = self.client.get_experiment_by_name(name) or self.make_experiment(name)
        except RefusedError as error:
            raise UnavailableError(f"refuses the experiment {name}: {error}") from error
        if found.lifecycle_stage != "active":
            raise UnavailableError(f"has deleted the experiment {name}, which must be restored there")
        self.experiment = str(found.experiment_id)
        self.forget_another_database()

    def make_experiment(self, name: str) -> Any:
        """A new experiment, or the one that somebody else has made just now."""
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_experiment(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return self.client.get_experiment_by_name(name)

    def forget_another_database(self) -> None:
        """Begin anew where the study's own run is no longer there: the server has lost what it had."""
        known = self.receipts.of(self.study.run_id).remote
        if known and not self.client.search_runs([self.experiment], f"attributes.run_id = '{known}'"):
            self.receipts.forget()
            self.doubts.clear()

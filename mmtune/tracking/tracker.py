"""The tracker: what a study says of itself and its trials, into MLflow and out of it again.

One process writes a study. Every call names its run, so nothing depends on MLflow's global state, and every write but
an epoch's has reached the store when the call returns; an epoch's is on disk then, and in the store soon after.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmtune.base.clock import CLOCK, milliseconds, now
from mmtune.base.errors import InputError
from mmtune.base.files import path_of
from mmtune.base.stopwatch import Stopwatch
from mmtune.study import StudyKey
from mmtune.tracking.reader import PAGE, Reader
from mmtune.tracking.reading import PARENT, read_latest
from mmtune.tracking.runs import OBJECTIVE, RUN_STATUS, RUNNING, UNIT, TrialRun, key_to_json
from mmtune.tracking.spool import Entry, Spool
from mmtune.tracking.writing import End, begin_run, is_active, write_batch, write_epochs

# How long an epoch may wait for others before they go to the store together.
DELIVERY_SECONDS = 5.0
# The store is analysed when so many trials have ended, and whenever that number has doubled.
FIRST_ANALYSIS = 128
LONGEST_REASON = 5_000


class MlflowTracker(Reader):
    """What is tracked in the store of `root`, read and written.

    watch: counts the seconds of the calls that a running study makes.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.watch = Stopwatch()
        self.spool: Spool | None = None
        self.delivered = time.monotonic()
        self.ended = 0
        self.experiment_ids: dict[str, str] = {}

    # ---- a study

    def open_study(self, key: StudyKey, tags: Mapping[str, str]) -> str:
        """The parent run of this key, which is now the last opened: the one there is, running again, or a new one."""
        experiment = self._experiment(key.study)
        CLOCK.show(read_latest(self.engine, experiment))
        tags = {**tags, "mmtune.opened": now()}
        found = list(self._search([experiment], f"tags.`mmtune.key` = '{key.slug}'"))
        if found:
            run_id = str(found[0].info.run_id)
            self.client.update_run(run_id, status=RUNNING)
            self._log(run_id, tags=tags)
        else:
            own = {"mmtune.kind": "study", "mmtune.key": key.slug, "mmtune.key_json": key_to_json(key)}
            fields = ("data", "digest", "protocol", "seed", "epochs", "sampler")
            params = {name: getattr(key, name) for name in fields}
            run_id = self._begin(experiment, key.title, params, {**own, **tags})
        return run_id

    def end_study(
        self, parent: str, finished: bool, best: TrialRun | None, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Close the parent run: FINISHED, or KILLED where it was interrupted and the same command goes on."""
        own = dict(metrics or {}) | ({} if best is None else {OBJECTIVE: best.metrics[OBJECTIVE]})
        tags = {} if best is None else {"mmtune.best_run": best.run_id}
        self._log(parent, own, tags=tags, end="FINISHED" if finished else "KILLED")
        self.store.secure()
        self.store.analyse()

    @contextmanager
    def spooled(self, path: Path) -> Iterator[None]:
        """Let epochs wait in a file and go to the store together, first of all those that a dead process left there."""
        self.spool = Spool(path)
        try:
            for run_id in list(self.spool.waiting):
                if is_active(self.engine, run_id):
                    self._deliver(run_id)
                self.spool.delivered(run_id)
            yield
            self.deliver()
        finally:
            self.spool.close()
            self.spool = None

    # ---- trials

    def start_trial(
        self, parent: str, number: int, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> str:
        """A new child run with the whole configuration as its params."""
        return self._start("trial", parent, number, name, params, tags)

    def start_part(
        self, study: str, trial: str, number: int, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> str:
        """A new child run of a trial's run: a fold or a repeat, named in `tags`."""
        return self._start("part", trial, number, name, params, {"mmtune.study_run": study, **tags})

    def _start(
        self, kind: str, parent: str, number: int, name: str, params: Mapping[str, Any], tags: Mapping[str, str]
    ) -> str:
        with self.watch:
            own = {
                "mmtune.kind": kind,
                "mmtune.number": str(number),
                "mmtune.params": json.dumps(dict(params)),
                "mmtune.state": RUNNING,
                PARENT: parent,
            }
            return self._begin(self._experiment_of(parent), name, params, {**own, **tags})

    def adopt(self, part: str, trial: str) -> None:
        """Make a part's run that has ended the child of another attempt at its trial."""
        self._log(part, tags={PARENT: trial})

    def log_units(self, run_id: str, units: Iterable[Mapping[str, float]]) -> None:
        """The scores of each fold or repeat of a trial, as the steps from 1 of its `unit_...` metrics."""
        for step, metrics in enumerate(units, start=1):
            self.log_epoch(run_id, step, {f"{UNIT}{name}": value for name, value in metrics.items()})

    def log_epoch(self, run_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """The metrics of one epoch (from 1), on disk when this returns, so that a kill loses none of them."""
        with self.watch:
            entry = report(run_id, epoch, metrics)
            if self.spool is None:
                write_batch(self.engine, run_id, [entry])
            else:
                self.spool.add(entry)

    def deliver_if_due(self) -> None:
        """Bring the epochs that wait into the store, if the last time was long ago."""
        if time.monotonic() - self.delivered >= DELIVERY_SECONDS:
            self.deliver()

    def deliver(self) -> None:
        """Bring every epoch that waits into the store."""
        with self.watch:
            if self.spool is not None and self.spool.waiting:
                runs = list(self.spool.waiting)
                write_epochs(self.engine, [entry for run_id in runs for entry in self.spool.of(run_id)])
                for run_id in runs:
                    self.spool.delivered(run_id)
            self.delivered = time.monotonic()

    def _deliver(
        self, run_id: str, *more: Entry, tags: Mapping[str, str] | None = None, end: End | None = None
    ) -> None:
        """What waits of a run, and more, in one batch."""
        waiting = self.spool.of(run_id) if self.spool else ()
        write_batch(self.engine, run_id, [*waiting, *more], tags=tags, end=end)
        if self.spool is not None:
            self.spool.delivered(run_id)

    def end_trial(
        self,
        run_id: str,
        state: str,
        metrics: Mapping[str, float],
        folder: Path | None = None,
        reason: str = "",
        retry: bool = False,
    ) -> None:
        """Store what the trial left, then its metrics, state and status at once: a run that ended has everything."""
        with self.watch:
            if folder is not None:
                self._log_files(run_id, folder)
            last = report(run_id, int(metrics.get("best_epoch", 0)), metrics)
            # PostgreSQL has no text with a NUL.
            said = reason[:LONGEST_REASON].replace("\0", "")
            why = {"mmtune.reason": said, "mmtune.retry": str(retry)} if reason else {}
            end = End(status=RUN_STATUS[state], time=milliseconds())
            self._deliver(run_id, last, tags={**why, "mmtune.state": state}, end=end)
            self.store.secure()
            self.ended += 1
            if self.ended >= FIRST_ANALYSIS and self.ended.bit_count() == 1:
                self.store.analyse()

    def record(
        self, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str], folder: Path | None = None
    ) -> None:
        """Add to a run that has ended: test scores, promotion notes, files."""
        with self.watch:
            if folder is not None:
                self._log_files(run_id, folder)
            self._log(run_id, metrics, tags=tags)

    def curves_of(self, runs: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, list[tuple[int, float]]]]:
        with self.watch:
            for run_id in set(runs) & set(self.spool.waiting if self.spool else ()):
                self._deliver(run_id)
            return super().curves_of(runs, names)

    # ---- MLflow's own terms

    def _begin(self, experiment: str, name: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        run_id, folder = begin_run(self.engine, int(experiment), name, milliseconds(), params, tags)
        self.experiment_ids[run_id], self.artifact_uris[run_id] = experiment, folder
        return run_id

    def _experiment(self, name: str) -> str:
        # Opening a client takes the lock too.
        client = self.client
        folder = self.root / "artifacts" / name
        with self.store.locked():
            found = client.get_experiment_by_name(name)
            if found is None:
                self.store.require_room(folder)
                return str(client.create_experiment(name, artifact_location=folder.as_uri()))
        if found.lifecycle_stage != "active":
            raise InputError(f"experiment {name} in {self.store} was deleted: restore it, or use another store")
        there = path_of(str(found.artifact_location))
        if there != folder:
            raise InputError(f"experiment {name} in {self.store} must keep its files in {folder}, it does in {there}")
        return str(found.experiment_id)

    def _experiment_of(self, run_id: str) -> str:
        if run_id not in self.experiment_ids:
            self.experiment_ids[run_id] = str(self._run(run_id).experiment_id)
        return self.experiment_ids[run_id]

    def _log_files(self, run_id: str, folder: Path) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        get_artifact_repository(self._artifact_uri(run_id)).log_artifacts(str(folder))

    def _search(self, experiments: list[str], condition: str) -> Iterator[Any]:
        token: str | None = None
        while True:
            page = self.client.search_runs(experiments, condition, max_results=PAGE, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _log(
        self,
        run_id: str,
        metrics: Mapping[str, float] | None = None,
        params: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        end: str = "",
    ) -> None:
        ended = End(status=end, time=milliseconds()) if end else None
        write_batch(self.engine, run_id, [report(run_id, 0, metrics or {})], params, tags, ended)


def report(run_id: str, step: int, metrics: Mapping[str, float]) -> Entry:
    """What a run says of itself now; SQLite would store an infinity as 1.797e308, so that such a metric is left out."""
    finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
    return Entry(run_id=run_id, step=step, time=milliseconds(), metrics=finite)

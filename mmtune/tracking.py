"""MLflow in, MLflow out: a parent run for a study, a child run for each trial.

One process writes a study. Every call names its run, so nothing depends on MLflow's global state, and every
write has reached the store when the call returns.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import url2pathname

from mmtune.config import StudyKey
from mmtune.errors import InputError
from mmtune.files import locked

COMPLETE, PRUNED, FAIL, RUNNING = "COMPLETE", "PRUNED", "FAIL", "RUNNING"
RUN_STATUS = {COMPLETE: "FINISHED", PRUNED: "KILLED", FAIL: "FAILED"}
OBJECTIVE = "best_val_macro_f1"
UNIT = "unit_"
PAGE = 1_000
DATABASE = "mlflow.db"
INTERRUPTED = "interrupted: the study stopped before this trial was done"


@dataclass(frozen=True, kw_only=True)
class TrialRun:
    """One attempt at a trial, as tracked.

    state: ours; status: MLflow's, written last. params: typed, by dotted path; metrics: the last value of each.
    """

    run_id: str
    number: int
    name: str
    state: str
    status: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class StudyRun:
    """A study as tracked; `started` is when it was first opened."""

    run_id: str
    key: StudyKey
    started: datetime
    status: str
    tags: Mapping[str, str]


def best_trial(trials: Iterable[TrialRun]) -> TrialRun | None:
    """The complete trial with the highest validation macro-F1; of equals, the one with the lowest number."""
    complete = [t for t in trials if t.state == COMPLETE and OBJECTIVE in t.metrics]
    return max(complete, key=lambda t: (t.metrics[OBJECTIVE], -t.number), default=None)


def store_uri(root: Path, name: str = DATABASE) -> str:
    """The tracking URI of the SQLite store in `root`; InputError where the path cannot stand in a URI as it is."""
    path = str(root.resolve() / name)
    if any(letter in path for letter in "%?#"):
        raise InputError(f"--store must be a path without %, ? and #, got {root}")
    return f"sqlite:///{path}"


def has_store(root: Path) -> bool:
    """Whether `root` holds tracked runs."""
    return (root / DATABASE).is_file()


def open_client(root: Path) -> Any:
    """An MlflowClient on the store in `root`, which is made if need be, by one process at a time."""
    # A run id in the environment would silently become the parent of every run.
    os.environ.pop("MLFLOW_RUN_ID", None)
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)
    uri = store_uri(root)
    with locked(root / ".store.lock"):
        if not has_store(root):
            make_store(root)
        try:
            client = MlflowClient(tracking_uri=uri, registry_uri=uri)
            client.search_experiments(max_results=1)
        except (MlflowException, SQLAlchemyError) as error:
            reason = str(error).partition("\n")[0]
            raise InputError(f"{root / DATABASE} must be an MLflow store: {reason}") from error
    return client


def make_store(root: Path) -> None:
    """A migrated, empty database, there whole or not at all: migrations that a kill cuts short cannot be resumed."""
    from mlflow import MlflowClient

    partial = root / f".new.{DATABASE}"
    for left in root.glob(f"{partial.name}*"):
        left.unlink()
    MlflowClient(tracking_uri=store_uri(root, partial.name)).search_experiments(max_results=1)
    partial.rename(root / DATABASE)


class MlflowTracker:
    """Runs in `root`: `mlflow.db` (SQLite) and `artifacts/`."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.client = open_client(self.root)

    # ---- writing

    def open_study(self, key: StudyKey, tags: Mapping[str, str]) -> str:
        """The parent run of this key: the one there is, running again, or a new one."""
        experiment = self._experiment(key.study)
        found = list(self._search([experiment], f"tags.`mmtune.key` = '{key.slug}'"))
        if found:
            run_id = str(found[0].info.run_id)
            self.client.update_run(run_id, status=RUNNING)
        else:
            own = {"mmtune.kind": "study", "mmtune.key": key.slug, "mmtune.key_json": key_to_json(key)}
            run = self.client.create_run(experiment, run_name=key.title, tags={**own, **tags})
            run_id = str(run.info.run_id)
            fields = ("data", "digest", "protocol", "seed", "epochs", "sampler")
            self._log(run_id, params={name: getattr(key, name) for name in fields})
        for name, value in tags.items():
            self.client.set_tag(run_id, name, value)
        return run_id

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
        experiment = self.client.get_run(parent).info.experiment_id
        own = {
            "mmtune.kind": kind,
            "mmtune.number": str(number),
            "mmtune.params": json.dumps(dict(params)),
            "mmtune.state": RUNNING,
            "mlflow.parentRunId": parent,
        }
        run_id = str(self.client.create_run(experiment, run_name=name, tags={**own, **tags}).info.run_id)
        self._log(run_id, params=params)
        return run_id

    def adopt(self, part: str, trial: str) -> None:
        """Make a part's run that has ended the child of another attempt at its trial."""
        self.client.set_tag(part, "mlflow.parentRunId", trial)

    def log_units(self, run_id: str, units: Iterable[Mapping[str, float]]) -> None:
        """The scores of each fold or repeat of a trial, as the steps from 1 of its `unit_...` metrics."""
        for step, metrics in enumerate(units, start=1):
            self._log(run_id, metrics={f"{UNIT}{name}": value for name, value in metrics.items()}, step=step)

    def log_epoch(self, run_id: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """One batch for one epoch (from 1), so that a kill loses the running epoch at most."""
        self._log(run_id, metrics=metrics, step=epoch)

    def end_trial(
        self,
        run_id: str,
        state: str,
        metrics: Mapping[str, float],
        folder: Path | None = None,
        reason: str = "",
        retry: bool = False,
    ) -> None:
        """Store what the trial left, then its state, and the run's status last: a run that ended has everything."""
        if folder is not None:
            self.client.log_artifacts(run_id, str(folder))
        step = int(metrics.get("best_epoch", 0))
        self._log(run_id, metrics=metrics, step=step)
        if reason:
            self.client.set_tag(run_id, "mmtune.reason", reason[:5000])
            self.client.set_tag(run_id, "mmtune.retry", str(retry))
        self.client.set_tag(run_id, "mmtune.state", state)
        self.client.set_terminated(run_id, status=RUN_STATUS[state])

    def close_run(self, trial: TrialRun) -> None:
        """Bring MLflow's status of a run that has ended into line with its state."""
        self.client.set_terminated(trial.run_id, status=RUN_STATUS[trial.state])

    def end_study(self, parent: str, finished: bool, best: TrialRun | None) -> None:
        """Close the parent run: FINISHED, or KILLED where it was interrupted and the same command goes on."""
        if best is not None:
            self._log(parent, metrics={OBJECTIVE: best.metrics[OBJECTIVE]})
            self.client.set_tag(parent, "mmtune.best_run", best.run_id)
        self.client.set_terminated(parent, status="FINISHED" if finished else "KILLED")

    def record(
        self, run_id: str, metrics: Mapping[str, float], tags: Mapping[str, str], folder: Path | None = None
    ) -> None:
        """Add to a run that has ended: test scores, promotion notes, files."""
        if folder is not None:
            self.client.log_artifacts(run_id, str(folder))
        self._log(run_id, metrics=metrics)
        for name, value in tags.items():
            self.client.set_tag(run_id, name, value)

    # ---- reading

    def experiments(self) -> dict[str, str]:
        """MLflow's experiment id of every study that was ever tracked, by the study's name."""
        return {e.name: str(e.experiment_id) for e in self._experiments() if e.name != "Default"}

    def studies(self, study: str | None = None) -> list[StudyRun]:
        """The tracked studies, all or those of one name, the last opened first."""
        experiments = [e for e in self._experiments() if study is None or e.name == study]
        if not experiments:
            return []
        runs = self._search([e.experiment_id for e in experiments], "tags.`mmtune.kind` = 'study'")
        return sorted((study_run(run) for run in runs), key=lambda s: s.tags["mmtune.opened"], reverse=True)

    def trials(self, parent: str) -> list[TrialRun]:
        """Every attempt at every trial of a study, by trial number, then time."""
        experiment = self.client.get_run(parent).info.experiment_id
        runs = self._search([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
        return sorted((trial_run(run) for run in runs), key=lambda t: (t.number, t.tags["mmtune.started"]))

    def parts(self, parent: str) -> list[TrialRun]:
        """Every part of every trial of a study, by trial number, then time."""
        experiment = self.client.get_run(parent).info.experiment_id
        runs = self._search([experiment], f"tags.`mmtune.study_run` = '{parent}'")
        return sorted((trial_run(run) for run in runs), key=lambda t: (t.number, t.tags["mmtune.started"]))

    def curves(self, run_id: str, names: tuple[str, ...]) -> dict[str, list[tuple[int, float]]]:
        """By metric, its (epoch, value) pairs in order of epochs."""
        history = {name: self.client.get_metric_history(run_id, name) for name in names}
        return {name: sorted((m.step, m.value) for m in metrics) for name, metrics in history.items()}

    def artifact(self, run_id: str, path: str) -> Path:
        """A local path of a run's artifact, a file or a folder; InputError where the run has none of that name."""
        folder = urlparse(self.client.get_run(run_id).info.artifact_uri)
        local = Path(url2pathname(folder.path)) / path
        if folder.scheme != "file" or not local.exists():
            raise InputError(f"run {run_id} has no artifact {path!r} in {folder.geturl()}, where it was made")
        return local

    # ---- MLflow's own terms

    def _experiments(self) -> list[Any]:
        return list(self.client.search_experiments(max_results=PAGE))

    def _experiment(self, name: str) -> str:
        with locked(self.root / ".store.lock"):
            found = self.client.get_experiment_by_name(name)
            if found is not None and found.lifecycle_stage != "active":
                raise InputError(f"experiment {name} in {self.root} was deleted: restore it, or use another --store")
            if found is not None:
                return str(found.experiment_id)
            folder = self.root / "artifacts" / name
            return str(self.client.create_experiment(name, artifact_location=folder.as_uri()))

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
        step: int = 0,
    ) -> None:
        from mlflow.entities import Metric, Param

        now = int(time.time() * 1000)
        # SQLite would store an infinity as 1.797e308; a metric that is not a number is left out instead.
        sound = {name: float(value) for name, value in (metrics or {}).items() if math.isfinite(value)}
        self.client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, step) for name, value in sound.items()],
            params=[Param(name, str(value)) for name, value in (params or {}).items()],
        )


def study_run(run: Any) -> StudyRun:
    """A StudyRun from MLflow's run."""
    tags = dict(run.data.tags)
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    return StudyRun(
        run_id=run.info.run_id,
        key=key_from_json(tags["mmtune.key_json"]),
        started=started,
        status=run.info.status,
        tags=tags,
    )


def trial_run(run: Any) -> TrialRun:
    """A TrialRun from MLflow's run."""
    tags = dict(run.data.tags)
    return TrialRun(
        run_id=run.info.run_id,
        number=int(tags["mmtune.number"]),
        name=run.info.run_name,
        state=tags["mmtune.state"],
        status=run.info.status,
        params=json.loads(tags["mmtune.params"]),
        metrics=dict(run.data.metrics),
        tags=tags,
    )


def key_to_json(key: StudyKey) -> str:
    """A StudyKey as JSON text."""
    return json.dumps(key.__dict__)


def key_from_json(text: str) -> StudyKey:
    """The inverse of `key_to_json`."""
    data = json.loads(text)
    pairs = {name: tuple((first, second) for first, second in data.get(name, ())) for name in ("fixed", "encoders")}
    return StudyKey(**{**data, **pairs})

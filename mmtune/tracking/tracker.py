"""MLflow in, MLflow out: a parent run for a study, a child run for each trial, through MLflow's own client.

Every call names its run, so nothing depends on MLflow's global state, and every write has reached the store when the
call returns. A write raises AwayError where the store does not answer, and GoneError where its run was deleted.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from mmtune.base import sqlite
from mmtune.base.clock import milliseconds, now
from mmtune.base.errors import InputError
from mmtune.base.files import locked, make_folder, path_of
from mmtune.base.stopwatch import Stopwatch
from mmtune.study.key import StudyKey
from mmtune.tracking import store
from mmtune.tracking.address import sqlite_path
from mmtune.tracking.entities import (
    LONGEST_NAME,
    LONGEST_PARAM,
    MOST_METRICS,
    MOST_OTHERS,
    DataInput,
    dataset_input,
    fitting,
    metrics_of,
    user,
)
from mmtune.tracking.runs import (
    COMPLETE,
    FORMAT,
    PRUNED,
    REMOVED,
    RUNNING,
    STATUS,
    TrialRun,
    key_to_json,
    plain,
)
from mmtune.tracking.studies import TrackedStudies
from mmtune.tracking.trouble import reached
from mmtune.train.objective import Objective
from mmtune.train.staging import Point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment


class MlflowTracker(TrackedStudies):
    """Writes beside that. watch: counts the seconds of the writes that a running study makes."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.watch = Stopwatch()
        self.experiment_ids: dict[str, str] = {}

    @contextmanager
    def _writing(self) -> Iterator[MlflowClient]:
        with self.watch, reached(self.uri):
            yield self.client

    # ---- a study

    def open_study(self, key: StudyKey, tags: Mapping[str, str]) -> str:
        """The parent run of this key, which is now the last opened: the one there is, running again, or a new one."""
        # What is refused here has changed nothing.
        experiment = self.experiment(key.study)
        found = self.study(key)
        tags = {**tags, "mmtune.opened": now()}
        if found is not None:
            self.log(found.run_id, tags=tags)
            self.set_state(found.run_id, RUNNING)
            return found.run_id
        own = {
            "mmtune.kind": "study",
            "mmtune.format": FORMAT,
            "mmtune.key": key.slug,
            "mmtune.key_json": key_to_json(key),
        }
        run_id = self.begin(experiment, key.title, milliseconds(), {**own, **tags})
        fields = ("data", "digest", "protocol", "seed", "epochs", "sampler")
        self.log(run_id, params={name: getattr(key, name) for name in fields})
        return run_id

    def end_study(
        self,
        parent: str,
        finished: bool,
        best: TrialRun | None,
        objective: Objective,
        metrics: Mapping[str, float] = {},
        tags: Mapping[str, str] = {},
    ) -> None:
        """Close the parent run: FINISHED, or KILLED where it was interrupted and the same command goes on."""
        if best is not None:
            metrics = {**metrics, objective.name: best.metrics[objective.name]}
            tags = {**tags, "mmtune.best_run": best.run_id}
        self.log(parent, [Point(epoch=0, time=milliseconds(), metrics=metrics)], tags=tags)
        self.end(parent, COMPLETE if finished else PRUNED, milliseconds())
        sqlite.secure(sqlite_path(self.uri))
        sqlite.analyse(sqlite_path(self.uri))

    def experiment(self, name: str) -> str:
        """MLflow's experiment of a study's name, made if there is none."""
        if name in self.experiment_ids:
            return self.experiment_ids[name]
        folder = self.root / "artifacts" / name
        # Found out now, and not when the first trial has ended.
        if not self.uri.startswith("http"):
            make_folder(folder)
        # Opening a store takes the lock too.
        client, path = self.client, sqlite_path(self.uri)
        with locked((path.parent if path else self.root) / store.LOCK), reached(self.uri):
            found = client.get_experiment_by_name(name) or self._new_experiment(name, folder)
        if found.lifecycle_stage != "active":
            raise InputError(f"experiment {name} in {self.name} was deleted: restore it, or use another store")
        there = str(found.artifact_location)
        if urlparse(there).scheme == "file" and path_of(there) != folder:
            raise InputError(
                f"experiment {name} in {self.name} must keep its files in {folder}, it does in {path_of(there)}"
            )
        self.experiment_ids[name] = str(found.experiment_id)
        return self.experiment_ids[name]

    def _new_experiment(self, name: str, folder: Path) -> Experiment:
        """A new experiment, or the one that another machine has made at the same moment."""
        from mlflow.exceptions import MlflowException

        # A server decides itself where it keeps files.
        where = None if self.uri.startswith("http") else folder.as_uri()
        try:
            self.client.create_experiment(name, artifact_location=where, tags=EXPERIMENT_TAGS)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return self.client.get_experiment_by_name(name)

    def set_experiment_tags(self, name: str, tags: Mapping[str, str]) -> None:
        """Say something of a study's experiment."""
        experiment = self.experiment(name)

        def say(tag: str, value: str) -> None:
            with self._writing() as client:
                client.set_experiment_tag(experiment, tag, value)

        for tag, value in tags.items():
            try:
                say(tag, value)
            except InputError:
                # MLflow looks whether a tag is there before it inserts it: of two at the same moment one is refused,
                # and finds it the second time.
                say(tag, value)

    def _forget(self, run_id: str, folder: Path) -> None:
        """Bring anew, when they are next asked for, the files that a run now has from a folder."""
        for path in folder.iterdir():
            shutil.rmtree(self._cached(f"{self._artifact_uri(run_id)}/{path.name}").parent, ignore_errors=True)

    # ---- runs

    def begin(self, experiment: str, name: str, started: int, tags: Mapping[str, str]) -> str:
        """A new run under way. started: milliseconds since 1970. Long names and tags are cut off, or divided.

        Raises InputError where a tag is too long that is read again.
        """
        own = {"mlflow.user": user()} | fitting(tags)
        with self._writing() as client:
            info = client.create_run(experiment, started, own, plain(name, LONGEST_NAME)).info
        self.artifact_uris[info.run_id] = str(info.artifact_uri)
        return str(info.run_id)

    def add_inputs(self, run_id: str, inputs: Sequence[DataInput]) -> None:
        """Name the data sets that a run is made on; what was named stays named once."""
        with self._writing() as client:
            client.log_inputs(run_id, datasets=[dataset_input(own) for own in inputs])

    def log(
        self,
        run_id: str,
        points: Sequence[Point] = (),
        params: Mapping[str, Any] = {},
        tags: Mapping[str, str] = {},
    ) -> None:
        """Add to a run, in as few requests as MLflow allows; what is there already stays there once."""
        from mlflow.entities import Param, RunTag

        metrics = [metric for point in points for metric in metrics_of(point)]
        given = [Param(name, plain(str(value), LONGEST_PARAM)) for name, value in params.items()]
        noted = [RunTag(name, value) for name, value in fitting(tags).items()]
        with self._writing() as client:
            while metrics or given or noted:
                client.log_batch(run_id, metrics[:MOST_METRICS], given[:MOST_OTHERS], noted[:MOST_OTHERS])
                del metrics[:MOST_METRICS], given[:MOST_OTHERS], noted[:MOST_OTHERS]

    def end(self, run_id: str, state: str, time: int) -> None:
        """A run has ended, with everything it has. time: milliseconds since 1970."""
        with self._writing() as client:
            client.set_terminated(run_id, STATUS[state], end_time=time)

    def set_state(self, run_id: str, state: str) -> None:
        """A run that has not ended is under way, or waits."""
        with self._writing() as client:
            client.update_run(run_id, status=STATUS[state])

    def discard(self, run_id: str) -> None:
        """Delete a run as a hand in the UI would."""
        with self._writing() as client:
            client.delete_run(run_id)

    def add_files(self, run_id: str, folder: Path) -> None:
        """Keep what is in a folder with a run."""
        with self._writing() as client:
            client.log_artifacts(run_id, str(folder))
        self._forget(run_id, folder)

    def replace_files(self, run_id: str, folder: Path) -> None:
        """Keep the files of a folder with a run, in the place of those that it has by the same names."""
        uri = self._artifact_uri(run_id)
        with self._writing() as client:
            for path in sorted(folder.iterdir()):
                if urlparse(uri).scheme == "file":
                    # MLflow copies times as well, which only the owner of a file may set: it may be a colleague's.
                    (path_of(uri) / path.name).unlink(missing_ok=True)
                client.log_artifact(run_id, str(path))
        self._forget(run_id, folder)

    def started_from(self) -> set[str]:
        """The runs of trained encoders that studies start from; it takes the longer, the more runs there are."""
        return {run_id for study in self.studies() for _, run_id in study.key.encoders}

    def remove_files(self, run_id: str, names: Sequence[str]) -> None:
        """Remove files or folders, by their path among a run's own, and say so in the run.

        Not where a registered model is the run's.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with self._writing() as client:
            registered = client.search_model_versions(f"run_id = '{run_id}'", max_results=1)
        if registered:
            return
        with self._writing():
            files = get_artifact_repository(self._artifact_uri(run_id), tracking_uri=self.uri)
            for name in names:
                files.delete_artifacts(name)
        self.log(run_id, tags={REMOVED: "True"})


EXPERIMENT_TAGS: dict[str, Any] = {"mlflow.experimentKind": "custom_model_development"}

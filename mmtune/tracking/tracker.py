"""MLflow in, MLflow out: a parent run for a study, a child run for each trial, through MLflow's own client.

Every call names its run, so nothing depends on MLflow's global state, and every write has reached the store when the
call returns. A write raises AwayError where the store does not answer, and GoneError where its run was deleted.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from mmtune.base import sqlite
from mmtune.base.clock import milliseconds, now
from mmtune.base.errors import AwayError, InputError
from mmtune.base.files import locked, make_folder, path_of
from mmtune.base.stopwatch import Stopwatch
from mmtune.study.key import StudyKey
from mmtune.tracking import store
from mmtune.tracking.address import DATABASE, registry_uri, shown, sqlite_path, tracking_uri
from mmtune.tracking.reading import MOST_DIGITS, REVISIONS, ClientReading, Curves, Names, Reading, SqlReading, is_number
from mmtune.tracking.runs import (
    COMPLETE,
    FORMAT,
    NUMBER,
    OWNER,
    PARAMS,
    PARENT,
    PRUNED,
    REMOVED,
    RUNNING,
    STATUS,
    Row,
    StudyRun,
    TrialRun,
    best_trial,
    divided,
    front_trials,
    key_to_json,
    of_key,
    pieces,
    plain,
    study_run,
    trial_run,
)
from mmtune.tracking.trouble import reached
from mmtune.train.objective import Objective
from mmtune.train.staging import Point

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Experiment, Metric

# MLflow's limits of one request, and of what it keeps.
MOST_METRICS, MOST_OTHERS = 1_000, 100
LONGEST_NAME, LONGEST_PARAM, LONGEST_DIGEST = 250, 6_000, 36


@dataclass(frozen=True, kw_only=True)
class DataInput:
    """Rows of a data set that a run is made on. digest: of its content; use: "train", "validation" and so on.

    columns: by name, what MLflow calls their types.
    """

    name: str
    digest: str
    source: str
    rows: int
    use: str
    columns: Mapping[str, str]


class MlflowTracker:
    """What is tracked where MLFLOW_TRACKING_URI says, in `root` if it says nothing; files from afar are kept there too.

    watch: counts the seconds of the writes that a running study makes.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.uri, self.registry = tracking_uri(self.root), registry_uri(self.root)
        self.name = shown(self.uri)
        self.watch = Stopwatch()
        self.own = sqlite_path(self.uri) == self.root / DATABASE
        self.artifact_uris: dict[str, str] = {}
        self.experiment_ids: dict[str, str] = {}
        self.reading = self._reading()

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's own client, which takes a second to import: whoever only reads does without."""
        return store.open_client(self.uri, self.registry)

    @contextmanager
    def _writing(self) -> Iterator[MlflowClient]:
        with self.watch, reached(self.uri):
            yield self.client

    def _reading(self) -> Reading:
        by_client = ClientReading(lambda: self.client)
        if not self.uri.startswith(("sqlite:", "postgresql")):
            return by_client
        path = sqlite_path(self.uri)
        if path is not None:
            make_folder(path.parent)
        if not store.exists(self.root):
            with reached(self.uri), store.making_tables(self.uri):
                self.client.search_experiments(max_results=1)
        known = store.revision(self.uri) in REVISIONS
        found: Reading = SqlReading(store.read_only(self.uri)) if known else by_client
        if self.own:
            self._require_own_files(found.locations())
        return found

    def _require_own_files(self, locations: Sequence[str]) -> None:
        """InputError where a store was copied or moved: its runs would be written to the files of the first one."""
        for location in locations:
            there = path_of(location)
            # MLflow's own experiment, in which nothing is ever kept, is where its tables were made.
            own = there.is_relative_to(self.root) or there.name == "0"
            if urlparse(location).scheme in ("file", "") and not own:
                raise InputError(f"{self.name} keeps its files in {there}: use that store, this one is a copy of it")

    # ---- reading

    def _rows(self, tag: str, value: str, tags: Names = None, metrics: Names = None, only: str = "") -> list[Row]:
        asked = None if tags is None else [piece for name in tags for piece in pieces(name)]
        with reached(self.uri):
            return self.reading.rows(tag, value, asked, metrics, only)

    def studies(self, name: str | None = None) -> list[StudyRun]:
        """The tracked studies, all or those of one name, the last opened first."""
        rows = self._rows("mmtune.kind", "study")
        found = [study_run(row) for row in rows if name in (None, row.experiment)]
        return sorted(found, key=lambda study: (study.opened, study.run_id), reverse=True)

    def study(self, key: StudyKey) -> StudyRun | None:
        """The study of a key, None where it is not tracked."""
        return of_key(self.studies(key.study), key)

    def trials(self, parent: str, tags: Names = None, metrics: Names = None) -> list[TrialRun]:
        """Every attempt at every trial of a study, by trial number, then time.

        tags, metrics: those that are asked for beside what makes it a trial, None for all.
        """
        return self._trials(PARENT, parent, tags, metrics)

    def parts(self, parent: str) -> list[TrialRun]:
        """Every part of every trial of a study, by trial number, then time."""
        return self._trials(OWNER, parent)

    def find(self, identity: str) -> list[TrialRun]:
        """The runs with an id of ours."""
        return self._trials("mmtune.id", identity)

    def _trials(self, tag: str, value: str, tags: Names = None, metrics: Names = None) -> list[TrialRun]:
        asked = None if tags is None else (NUMBER, PARAMS, *tags)
        found = map(trial_run, self._rows(tag, value, asked, metrics))
        return sorted(found, key=lambda own: (own.number, own.started, own.run_id))

    def best(self, parent: str, objective: Objective) -> TrialRun | None:
        """The `best_trial` of a study, without reading the others."""
        with reached(self.uri):
            rows = self.reading.first(
                PARENT, parent, STATUS[COMPLETE], objective.name, highest=objective.first.maximise
            )
        return best_trial(map(trial_run, rows), objective)

    def front(self, parent: str, objective: Objective) -> list[TrialRun]:
        """The `front_trials` of a study."""
        return front_trials(self.trials(parent), objective) if objective.several else []

    def trial(self, parent: str, run_id: str) -> TrialRun | None:
        """An attempt at a trial of a study as it is now, None where it was deleted."""
        found = self._rows(PARENT, parent, only=run_id)
        return trial_run(found[0]) if found else None

    def count(self, parent: str) -> int:
        """How many of a study's trials were ever attempted."""
        return len({row.tags.get(NUMBER) for row in self._rows(PARENT, parent, (NUMBER,), ())} - {None})

    def tally(self, parent: str) -> dict[str, int]:
        """How many attempts at trials of a study are in each state that occurs."""
        return dict(sorted(Counter(row.state for row in self._rows(PARENT, parent, (), ())).items()))

    def curves(self, run_id: str, names: Sequence[str]) -> Curves:
        """By metric, its (epoch, value) pairs in order of epochs."""
        return self.curves_of([run_id], names)[run_id]

    def curves_of(self, runs: Sequence[str], names: Sequence[str]) -> dict[str, Curves]:
        """By run and metric, its (epoch, value) pairs in order of epochs."""
        with reached(self.uri):
            return self.reading.curves(runs, names)

    def tag(self, run_id: str, name: str) -> str:
        """A tag of a run as it is now, "" where it has none."""
        with self._writing() as client:
            return str(client.get_run(run_id).data.tags.get(name, ""))

    def artifact(self, run_id: str, path: str) -> Path:
        """A local path of a run's artifact, a file or a folder, brought here first if it is elsewhere.

        Raises InputError where the run has none of that name.
        """
        folder = self._artifact_uri(run_id)
        local = self.bring(f"{folder}/{path}")
        if local is None:
            raise InputError(f"run {run_id} has no artifact {path!r} in {folder}, where it was made")
        return local

    def bring(self, uri: str) -> Path | None:
        """The local path of an artifact's address, brought once to this folder's cache if it is elsewhere.

        None where nothing is there.
        """
        if urlparse(uri).scheme == "file":
            return path_of(uri) if path_of(uri).exists() else None
        from mlflow.artifacts import download_artifacts, list_artifacts
        from mlflow.exceptions import MlflowException

        above, _, name = uri.rpartition("/")
        local = self._cached(uri)
        if local.exists():
            return local
        with reached(self.uri), TemporaryDirectory(dir=make_folder(local.parent)) as folder:
            # What is not there and what cannot be had now are the same to a download.
            beside = list_artifacts(artifact_uri=above, tracking_uri=self.uri)
            if name not in {PurePosixPath(own.path).name for own in beside}:
                return None
            try:
                brought = Path(download_artifacts(artifact_uri=uri, dst_path=folder, tracking_uri=self.uri))
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                raise AwayError(self.name, f"{uri} could not be brought here: {error}") from error
            try:
                brought.rename(local)
            except OSError:
                # Another process may have been faster.
                if not local.exists():
                    raise
        return local

    def _cached(self, uri: str) -> Path:
        """Where an artifact of this address is kept once it was brought here."""
        # Whose address it is counts too: the same one may be another model elsewhere.
        name = hashlib.sha256(f"{self.uri} {uri}".encode()).hexdigest()[:16]
        return self.root / "cache" / name / uri.rpartition("/")[2]

    def _forget(self, run_id: str, folder: Path) -> None:
        """Bring anew, when they are next asked for, the files that a run now has from a folder."""
        for path in folder.iterdir():
            shutil.rmtree(self._cached(f"{self._artifact_uri(run_id)}/{path.name}").parent, ignore_errors=True)

    def has_artifact(self, run_id: str, path: str) -> bool:
        """Whether a run has an artifact, as far as can be seen from here: what is elsewhere is not looked for."""
        folder = self._artifact_uri(run_id)
        return urlparse(folder).scheme != "file" or (path_of(folder) / path).exists()

    def _artifact_uri(self, run_id: str) -> str:
        if run_id not in self.artifact_uris:
            with reached(self.uri):
                uri = self.reading.artifact_uri(run_id)
            if uri is None:
                raise InputError(f"run {run_id} must be in {self.name}, it is not")
            self.artifact_uris[run_id] = uri
        return self.artifact_uris[run_id]

    def version_uri(self, model: str, version: str) -> str | None:
        """Where the files of a registered model's version are, by its number or an alias; None where there is none."""
        # An alias that nobody gave: to MLflow's client it is the last version, whatever that is.
        if version.lower() == "latest" or (is_number(version) and len(version) > MOST_DIGITS):
            return None
        reading = self.reading if self.registry == self.uri else ClientReading(lambda: self.client)
        with reached(self.registry):
            return reading.version_uri(model, version)

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

    def last_said(self, parent: str, metric: str) -> int:
        """When a study's run last said how it stands, in milliseconds since 1970; 0 where it never has."""
        with reached(self.uri):
            ended = self.client.get_run(parent).info.end_time
            told = self.client.get_metric_history(parent, metric)
        return max([ended or 0, *(point.timestamp for point in told)])

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


def user() -> str:
    """Who runs this, as MLflow shows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def dataset_input(own: DataInput) -> DatasetInput:
    """MLflow's name for rows of a data set."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    columns = [{"name": name, "type": kind} for name, kind in own.columns.items()]
    dataset = Dataset(
        name=own.name,
        digest=own.digest[:LONGEST_DIGEST],
        source_type="local",
        source=json.dumps({"uri": own.source}),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps({"num_rows": own.rows}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", own.use)])


def metrics_of(point: Point) -> list[Metric]:
    """MLflow's metrics of a point; SQLite would store an infinity as 1.797e308, so that such a one is left out."""
    from mlflow.entities import Metric

    finite = {name: float(value) for name, value in point.metrics.items() if math.isfinite(value)}
    return [Metric(name, value, point.time, point.epoch) for name, value in finite.items()]


def fitting(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as every store takes them."""
    return {name: text for own, value in tags.items() for name, text in divided(own, value).items()}

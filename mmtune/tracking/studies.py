"""What is tracked, as it is found again: studies, trials, curves, files.

Whatever is not there raises or gives None as it says; a store that does not answer raises AwayError.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlparse

from mmtune.base.errors import AwayError, InputError
from mmtune.base.files import make_folder, path_of
from mmtune.study.key import StudyKey
from mmtune.tracking import store
from mmtune.tracking.address import DATABASE, registry_uri, shown, sqlite_path, tracking_uri
from mmtune.tracking.reading import MOST_DIGITS, REVISIONS, ClientReading, Curves, Names, Reading, SqlReading, is_number
from mmtune.tracking.runs import (
    COMPLETE,
    NUMBER,
    OWNER,
    PARAMS,
    PARENT,
    STATUS,
    Row,
    StudyRun,
    TrialRun,
    best_trial,
    front_trials,
    of_key,
    pieces,
    study_run,
    trial_run,
)
from mmtune.tracking.trouble import reached
from mmtune.train.objective import Objective

if TYPE_CHECKING:
    from mlflow import MlflowClient


class TrackedStudies:
    """What is tracked where MLFLOW_TRACKING_URI says, in `root` if it says nothing.

    Files from afar are kept there too.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.uri, self.registry = tracking_uri(self.root), registry_uri(self.root)
        self.name = shown(self.uri)
        self.own = sqlite_path(self.uri) == self.root / DATABASE
        self.artifact_uris: dict[str, str] = {}
        self.reading = self._reading()

    @cached_property
    def client(self) -> MlflowClient:
        """MLflow's own client, which takes a second to import: whoever only reads does without."""
        return store.open_client(self.uri, self.registry)

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
        with reached(self.uri):
            return str(self.client.get_run(run_id).data.tags.get(name, ""))

    def last_said(self, parent: str, metric: str) -> int:
        """When a study's run last said how it stands, in milliseconds since 1970; 0 where it never has."""
        with reached(self.uri):
            ended = self.client.get_run(parent).info.end_time
            told = self.client.get_metric_history(parent, metric)
        return max([ended or 0, *(point.timestamp for point in told)])

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

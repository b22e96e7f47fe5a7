"""What is tracked, read: studies, trials, curves, files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from mmtune.base.errors import InputError
from mmtune.base.files import path_of
from mmtune.tracking.reading import (
    PARENT,
    read_best,
    read_count,
    read_curves,
    read_run,
    read_studies,
    read_tally,
    read_trials,
    tagged,
)
from mmtune.tracking.runs import StudyRun, TrialRun
from mmtune.tracking.store import store_at

PAGE = 1_000


class Reader:
    """The runs in the store of `root`, an SQLite file there or a PostgreSQL; their files in its `artifacts/`."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.store = store_at(self.root)
        self.engine = self.store.open_engine()
        self.artifact_uris: dict[str, str] = {}

    @cached_property
    def client(self) -> Any:
        """MLflow's own client, which takes a second to import: whoever only reads does without."""
        return self.store.open_client()

    def experiments(self) -> dict[str, str]:
        """MLflow's experiment id of every study that was ever tracked, by the study's name."""
        found = self.client.search_experiments(max_results=PAGE)
        return {e.name: str(e.experiment_id) for e in found if e.name != "Default"}

    def studies(self, study: str | None = None) -> list[StudyRun]:
        """The tracked studies, all or those of one name, the last opened first."""
        return read_studies(self.engine, study)

    def trials(self, parent: str) -> list[TrialRun]:
        """Every attempt at every trial of a study, by trial number, then time."""
        return read_trials(self.engine, tagged(PARENT, parent))

    def best(self, parent: str) -> TrialRun | None:
        """The `best_trial` of a study, without reading the others."""
        return read_best(self.engine, parent)

    def count(self, parent: str) -> int:
        """How many of a study's trials were ever attempted."""
        return read_count(self.engine, parent)

    def tally(self, parent: str) -> dict[str, int]:
        """How many attempts at trials of a study are in each state that occurs."""
        return read_tally(self.engine, parent)

    def parts(self, parent: str) -> list[TrialRun]:
        """Every part of every trial of a study, by trial number, then time."""
        return read_trials(self.engine, tagged("mmtune.study_run", parent))

    def curves(self, run_id: str, names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
        """By metric, its (epoch, value) pairs in order of epochs."""
        return self.curves_of([run_id], names)[run_id]

    def curves_of(self, runs: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, list[tuple[int, float]]]]:
        """By run and metric, its (epoch, value) pairs in order of epochs."""
        return read_curves(self.engine, runs, names)

    def artifact(self, run_id: str, path: str) -> Path:
        """A local path of a run's artifact, a file or a folder; InputError where the run has none of that name."""
        folder = self._artifact_uri(run_id)
        local = path_of(folder) / path
        if urlparse(folder).scheme != "file" or not local.exists():
            raise InputError(f"run {run_id} has no artifact {path!r} in {folder}, where it was made")
        return local

    def _artifact_uri(self, run_id: str) -> str:
        if run_id not in self.artifact_uris:
            self.artifact_uris[run_id] = str(self._run(run_id).artifact_uri)
        return self.artifact_uris[run_id]

    def _run(self, run_id: str) -> Any:
        run = read_run(self.engine, run_id)
        if run is None:
            raise InputError(f"run {run_id} must be in {self.store}, it is not")
        return run

"""The versions of a registered model, which of them is champion, and who was it before."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mmtune.base.bounds import inside
from mmtune.base.clock import now
from mmtune.base.errors import InputError
from mmtune.serve.champions import CHAMPION, Event, missing_event
from mmtune.serve.predictor import FEATURES
from mmtune.serve.pyfunc import PREDICTOR, REGISTERED
from mmtune.tracking import MlflowTracker
from mmtune.tracking.address import registry_uri
from mmtune.tracking.trouble import reached

TAG, EVENT = "mmtune.", "mmtune.champion."
MOST_MODELS = 1000


class Registry:
    """The versions of one registered model.

    What its store refuses, or an answer that does not come, is raised as the tracker does it.
    """

    def __init__(self, tracker: MlflowTracker, name: str) -> None:
        self.tracker, self.client = tracker, tracker.client
        self.name = name
        self.reached = partial(reached, registry_uri(tracker.root))

    def model(self) -> Any | None:
        """MLflow's registered model, or None where there is none of this name."""
        with self.reached():
            models = self.client.search_registered_models(max_results=MOST_MODELS)
        return next((model for model in models if model.name == self.name), None)

    def versions(self) -> list[Any]:
        """MLflow's model versions, the first one first."""
        with self.reached():
            found = [] if self.model() is None else self.client.search_model_versions(f"name = '{self.name}'")
        return sorted(found, key=lambda version: int(version.version))

    def version_of(self, run_id: str) -> str | None:
        """The version of a trial's run, or None."""
        return next((str(v.version) for v in self.versions() if v.run_id == run_id), None)

    def aliased(self, alias: str = CHAMPION) -> str | None:
        """The version that an alias names, or None."""
        model = self.model()
        version = None if model is None else model.aliases.get(alias)
        return None if version is None else str(version)

    def events(self) -> list[Event]:
        """Every change of champion, in order."""
        model = self.model()
        tags = {} if model is None else model.tags
        return [Event.from_json(tags[name]) for name in sorted(tags) if name.startswith(EVENT)]

    def create(self, run_id: str, tags: Mapping[str, str]) -> str:
        """A version of what a run keeps under `registered`, with its tags; returns its number."""
        with reached(self.tracker.uri):
            source = f"{self.client.get_run(run_id).info.artifact_uri}/{REGISTERED}"
        named = {TAG + name: value for name, value in tags.items()}
        with self.reached():
            if self.model() is None:
                self.client.create_registered_model(self.name)
            return str(self.client.create_model_version(self.name, source, run_id=run_id, tags=named).version)

    def tag(self, version: str, tags: Mapping[str, str]) -> None:
        with self.reached():
            for name, value in tags.items():
                self.client.set_model_version_tag(self.name, version, TAG + name, value)

    def crown(self, version: str, how: str) -> None:
        """Make a version champion. The alias comes first: `repair` can mend a log that lacks its last event."""
        with self.reached():
            self.client.set_registered_model_alias(self.name, CHAMPION, version)
        self._log(Event(version=version, at=now(), how=how))

    def repair(self) -> None:
        """Bring the log into line with the alias, after a kill or a change by hand."""
        event = missing_event(self.events(), self.aliased())
        if event is not None:
            self._log(event)

    def _log(self, event: Event) -> None:
        number = len(self.events()) + 1
        with self.reached():
            self.client.set_registered_model_tag(self.name, f"{EVENT}{number:06}", event.to_json())


def predictor_folder(tracker: MlflowTracker, version: Any) -> Path:
    """Where the predictor of MLflow's model version lies, brought here first if it is elsewhere.

    Raises InputError where it is not there or not of our making.
    """
    with reached(registry_uri(tracker.root)):
        where = tracker.client.get_model_version_download_uri(version.name, version.version)
    brought = tracker.bring(where, f"models/{version.name}-{version.version}")
    folder = inside(brought or tracker.root, f"data/{PREDICTOR}")
    if brought is None or not (folder / FEATURES).is_file():
        said = f"{version.name} version {version.version} must have data/{PREDICTOR}/{FEATURES}"
        raise InputError(f"{said}, {where} has none")
    return folder


def known_models(tracker: MlflowTracker) -> str:
    """What is registered, as the end of a sentence."""
    with reached(registry_uri(tracker.root)):
        names = [model.name for model in tracker.client.search_registered_models()]
    return f"registered: {', '.join(names)}" if names else "nothing is registered"

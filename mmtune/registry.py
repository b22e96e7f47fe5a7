"""The MLflow registry: versions of a model, which one is champion, and who was it before.

The alias `champion` is the truth. Tags of the registered model log every change of it, tags of a version say what
the version is and how it came through the gate.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import mmtune
from mmtune.champions import CHAMPION, ROLLED_BACK, Event, line_of, missing_event, now, reigns
from mmtune.config import ModelConfig
from mmtune.errors import InputError
from mmtune.files import locked
from mmtune.predict import FEATURES, INPUTS, save_predictor
from mmtune.tracking import OBJECTIVE, MlflowTracker, open_client

TAG, EVENT = "mmtune.", "mmtune.champion."
REGISTERED, PREDICTOR = "registered", "predictor"


@dataclass(frozen=True, kw_only=True)
class VersionRecord:
    """A registered version, its scores as they were when it was registered, and what the gate said last.

    registered_at: ISO 8601, UTC. reigns: (from, to) of each time as champion, `to` None while it lasts.
    """

    version: str
    trial: str
    run_id: str
    study_key: str
    val_macro_f1: float
    test_macro_f1: float
    test_accuracy: float
    registered_at: str
    forced: bool
    reason: str
    is_champion: bool
    reigns: list[tuple[str, str | None]]


class Registry:
    """The versions of one registered model."""

    def __init__(self, client: Any, name: str) -> None:
        self.client = client
        self.name = name

    def model(self) -> Any | None:
        """MLflow's registered model, or None where there is none of this name."""
        from mlflow.exceptions import MlflowException

        try:
            return self.client.get_registered_model(self.name)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return None

    def versions(self) -> list[Any]:
        """MLflow's model versions, the first one first."""
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
        if self.model() is None:
            self.client.create_registered_model(self.name)
        source = f"{self.client.get_run(run_id).info.artifact_uri}/{REGISTERED}"
        named = {TAG + name: value for name, value in tags.items()}
        return str(self.client.create_model_version(self.name, source, run_id=run_id, tags=named).version)

    def tag(self, version: str, tags: Mapping[str, str]) -> None:
        for name, value in tags.items():
            self.client.set_model_version_tag(self.name, version, TAG + name, value)

    def crown(self, version: str, how: str) -> None:
        """Make a version champion. The alias comes first: `repair` can mend a log that lacks its last event."""
        self.client.set_registered_model_alias(self.name, CHAMPION, version)
        self._log(Event(version=version, at=now(), how=how))

    def repair(self) -> None:
        """Bring the log into line with the alias, after a kill or a change by hand."""
        event = missing_event(self.events(), self.aliased())
        if event is not None:
            self._log(event)

    def _log(self, event: Event) -> None:
        number = len(self.events()) + 1
        self.client.set_registered_model_tag(self.name, f"{EVENT}{number:06}", event.to_json())


@contextmanager
def changing(root: Path) -> Iterator[None]:
    """Hold the registry in `root` for writing; InputError where another process holds it."""
    with locked(root / ".registry.lock", f"{root} must be promoted in by one process at a time", f"pid {os.getpid()}"):
        yield


def rollback(tracker: MlflowTracker, name: str) -> tuple[str, str]:
    """Make the champion before this one champion again; returns (from, to).

    Repeated, it walks further back. Raises InputError where there is no champion or none before it.
    """
    registry = Registry(tracker.client, name)
    with changing(tracker.root):
        registry.repair()
        champion = registry.aliased()
        if champion is None:
            raise InputError(f"{name} must have a champion to roll back, {known_models(tracker.client)}")
        there = {str(version.version) for version in registry.versions()} - {champion}
        before = [version for version in line_of(registry.events())[:-1] if version in there]
        if not before:
            raise InputError(f"{name} must have had a champion before version {champion} to go back to, it had none")
        registry.crown(before[-1], ROLLED_BACK)
    return champion, before[-1]


def history(tracker: MlflowTracker, name: str) -> list[VersionRecord]:
    """Every version of a model, the first one first; InputError where there is no such model."""
    registry = Registry(tracker.client, name)
    if registry.model() is None:
        raise InputError(f"{name} must be a registered model, {known_models(tracker.client)}")
    events, champion = registry.events(), registry.aliased()
    return [record(version, events, champion) for version in registry.versions()]


def record(version: Any, events: list[Event], champion: str | None) -> VersionRecord:
    """A VersionRecord from MLflow's model version."""
    tags = {name.removeprefix(TAG): value for name, value in version.tags.items()}
    number = str(version.version)
    return VersionRecord(
        version=number,
        trial=tags.get("trial", ""),
        run_id=version.run_id or "",
        study_key=tags.get("study_key", ""),
        val_macro_f1=float(tags.get(OBJECTIVE, "nan")),
        test_macro_f1=float(tags.get("test_macro_f1", "nan")),
        test_accuracy=float(tags.get("test_accuracy", "nan")),
        registered_at=tags.get("registered_at", ""),
        forced=tags.get("forced") == "true",
        reason=tags.get("reason", ""),
        is_champion=number == champion,
        reigns=reigns(events, number),
    )


def champion_folder(root: Path, name: str, alias: str = CHAMPION, version: str | None = None) -> Path:
    """The folder for `Predictor.load` of a registered model: the version given, or the one that `alias` names.

    Raises InputError, with what is registered, where there is none.
    """
    if not (root / "mlflow.db").is_file():
        raise InputError(f"{root} must hold a registry (mlflow.db), it has none: promote a study first")
    client = open_client(root)
    registry = Registry(client, name)
    number = registry.aliased(alias) if version is None else version
    found = next((v for v in registry.versions() if str(v.version) == number), None)
    if found is None:
        asked = f"{name}@{alias}" if version is None else f"{name} version {version}"
        raise InputError(f"{asked} is not registered in {root}, {known_models(client)}")
    return predictor_folder(client, found)


def predictor_folder(client: Any, version: Any) -> Path:
    """Where the predictor of MLflow's model version lies; InputError where it is not there or not of our making."""
    from mlflow.exceptions import MlflowException

    path = f"{REGISTERED}/data/{PREDICTOR}"
    said = f"{version.name} version {version.version} must have a predictor at {path} in run {version.run_id}"
    if not version.run_id:
        raise InputError(f"{said}, it belongs to no run")
    try:
        folder = Path(client.download_artifacts(version.run_id, path))
    except (MlflowException, OSError) as error:
        raise InputError(f"{said}, it has none") from error
    if not (folder / FEATURES).is_file():
        raise InputError(f"{said}, it has none")
    return folder


def known_models(client: Any) -> str:
    """What is registered, as the end of a sentence."""
    names = [model.name for model in client.search_registered_models()]
    return f"registered: {', '.join(names)}" if names else "nothing is registered"


def write_pyfunc(target: Path, model: Path, config: ModelConfig, card: Mapping[str, Any], run_id: str) -> None:
    """Write a predictor as a pyfunc model into the new folder `target`; MLflow reads it and nothing is pickled."""
    from mlflow.models import Model
    from mlflow.pyfunc import save_model

    packages = {"mmtune": mmtune.__version__, **{name: installed(name) for name in ("torch", "numpy", "safetensors")}}
    with tempfile.TemporaryDirectory() as folder:
        save_predictor(Path(folder) / PREDICTOR, model, card)
        save_model(
            str(target),
            loader_module="mmtune.serving",
            data_path=str(Path(folder) / PREDICTOR),
            mlflow_model=Model(artifact_path=REGISTERED, run_id=run_id),
            signature=signature(config),
            pip_requirements=[f"{name}=={version.split('+')[0]}" for name, version in packages.items()],
        )


def signature(config: ModelConfig) -> Any:
    """MLflow's signature: a named tensor for each input, the columns of `mmtune.serving.columns` for the output.

    MLflow itself drops inputs that a signature does not name and lets NaN, empty and unequal batches pass, so it is
    told that the model checks its own inputs: what it calls a signature from type hints is one it does not enforce.
    """
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    from mmtune.serving import columns

    tensors = [TensorSpec(np.dtype(INPUTS[name][1]), (-1, *INPUTS[name][0]), name) for name in config.modalities]
    made = ModelSignature(Schema(tensors), Schema([ColSpec(kind, name) for name, kind in columns(config).items()]))
    made._is_signature_from_type_hint = True
    return made

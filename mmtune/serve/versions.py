"""The versions of a registered model: what they are, which of them is champion, and who was it when.

The alias `champion` is the truth. Tags of the registered model log every change of it, tags of a version say what
the version is and how it came through the gate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mmtune.base.bounds import inside
from mmtune.base.clock import now
from mmtune.base.errors import InputError
from mmtune.serve.answer.predictor import INPUTS
from mmtune.serve.loader import PREDICTOR, REGISTERED
from mmtune.tracking import MlflowTracker, exists
from mmtune.tracking.reading import is_number, pages
from mmtune.tracking.trouble import reached

CHAMPION = "champion"
PROMOTED, FORCED, ROLLED_BACK, FOUND = "promoted", "forced", "rolled back", "found"
TAG, EVENT = "mmtune.", "mmtune.champion."


@dataclass(frozen=True, kw_only=True)
class Event:
    """A version became champion at a time (ISO 8601, UTC).

    how: "promoted"; "forced" against the gate; "rolled back" to; or "found" to be champion with no event that
    says so, as after a kill between alias and log or a change by hand.
    """

    version: str
    at: str
    how: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Event:
        """The inverse of `to_json`; InputError where the text, a tag that anybody may edit, is none of ours."""
        try:
            return Event(**{name: str(value) for name, value in json.loads(text).items()})
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"a tag of a champion must be an event in JSON, got {text[:200]!r}") from error


def line_of(events: Sequence[Event]) -> list[str]:
    """The line of champions that still counts, the reigning one last; a rollback takes off what came after."""
    line: list[str] = []
    for event in events:
        if event.how == ROLLED_BACK and event.version in line:
            while line[-1] != event.version:
                line.pop()
        elif line[-1:] != [event.version]:
            line.append(event.version)
    return line


def missing_event(events: Sequence[Event], champion: str | None) -> Event | None:
    """The event that the log lacks for `champion` to reign: the alias is the truth, the log follows it."""
    line = line_of(events)
    if champion is None or line[-1:] == [champion]:
        return None
    how = ROLLED_BACK if line[-2:-1] == [champion] else FOUND
    return Event(version=champion, at=now(), how=how)


def reigns(events: Sequence[Event], version: str) -> list[tuple[str, str | None]]:
    """When `version` was champion: (from, to) of each reign; `to` is None while it lasts."""
    ends = [*(event.at for event in events[1:]), None]
    return [(event.at, end) for event, end in zip(events, ends, strict=True) if event.version == version]


class Registry:
    """The versions of one registered model.

    What its store refuses, or an answer that does not come, is raised as the tracker does it.
    """

    def __init__(self, tracker: MlflowTracker, name: str) -> None:
        self.tracker, self.client = tracker, tracker.client
        self.name = name
        self.reached = partial(reached, tracker.registry)

    def model(self) -> Any | None:
        """MLflow's registered model, or None where there is none of this name."""
        with self.reached():
            return next((own for own in pages(self.client.search_registered_models) if own.name == self.name), None)

    def versions(self) -> list[Any]:
        """MLflow's model versions, the first one first."""
        with self.reached():
            found = [] if self.model() is None else self.client.search_model_versions(f"name = '{self.name}'")
        return sorted(found, key=lambda version: int(version.version))

    def numbers(self) -> list[str]:
        """The numbers of `versions`."""
        return [str(version.version) for version in self.versions()]

    def champion(self) -> str | None:
        """The version that is champion, or None."""
        model = self.model()
        version = None if model is None else model.aliases.get(CHAMPION)
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
            new = self.model() is None
            if new:
                self.client.create_registered_model(self.name)
            try:
                return str(self.client.create_model_version(self.name, source, run_id=run_id, tags=named).version)
            except Exception:
                # A model without a version is half-written.
                with suppress(Exception):
                    if new and not self.versions():
                        self.client.delete_registered_model(self.name)
                raise

    def make_champion(self, version: str, how: str) -> None:
        """Make a version champion. The alias comes first: `repair` can mend a log that lacks its last event."""
        with self.reached():
            self.client.set_registered_model_alias(self.name, CHAMPION, version)
        self._log(Event(version=version, at=now(), how=how))

    def repair(self) -> None:
        """Bring the log into line with the alias, after a kill or a change by hand."""
        event = missing_event(self.events(), self.champion())
        if event is not None:
            self._log(event)

    def _log(self, event: Event) -> None:
        model = self.model()
        places = [name.removeprefix(EVENT) for name in (model.tags if model else {}) if name.startswith(EVENT)]
        # One that was deleted by hand leaves a gap.
        number = 1 + max((int(place) for place in places if place.isdecimal()), default=0)
        with self.reached():
            self.client.set_registered_model_tag(self.name, f"{EVENT}{number:06}", event.to_json())


@dataclass(frozen=True, kw_only=True)
class VersionRecord:
    """A registered version, and its scores as they were when it was registered.

    objective: what its study searched for, with its values, in words. forced: whether it became champion against the
    gate. reigns: (from, to) of each time as champion, ISO 8601 in UTC, `to` None while it lasts.
    """

    version: str
    trial: str
    study_key: str
    objective: str
    test_macro_f1: float
    test_accuracy: float
    forced: bool
    reigns: list[tuple[str, str | None]]


def history(tracker: MlflowTracker, name: str) -> list[VersionRecord]:
    """Every version of a model, the first one first; InputError where there is no such model."""
    registry = Registry(tracker, name)
    if registry.model() is None:
        raise InputError(f"{name} must be a registered model, {known_models(tracker)}")
    events, champion = registry.events(), registry.champion()
    # The alias is what answers, whatever the log says of it.
    unwritten = missing_event(events, champion)
    told = [*events, unwritten] if unwritten else events
    return [record(version, told) for version in registry.versions()]


def record(version: Any, events: Sequence[Event]) -> VersionRecord:
    """A VersionRecord from MLflow's model version."""
    tags = {name.removeprefix(TAG): value for name, value in version.tags.items()}
    return VersionRecord(
        version=str(version.version),
        trial=tags.get("trial", ""),
        study_key=tags.get("study_key", ""),
        objective=tags.get("objective", ""),
        test_macro_f1=tagged_score(tags, "test_macro_f1"),
        test_accuracy=tagged_score(tags, "test_accuracy"),
        forced=tags.get("forced") == "true",
        reigns=reigns(events, str(version.version)),
    )


def tagged_score(tags: Mapping[str, str], name: str) -> float:
    """A score that a version's tag tells, NaN without such a tag; InputError where it was changed to no number."""
    try:
        return float(tags.get(name, "nan"))
    except ValueError as error:
        raise InputError(f"the tag {TAG}{name} of a model version must be a number, got {tags[name]!r}") from error


def champion_folder(root: Path, name: str, version: int | str | None = None) -> Path:
    """The folder for `Predictor.load` of a registered model: of the version given, or of the champion.

    Raises InputError, with what is registered, where there is none.
    """
    if not exists(root):
        raise InputError(f"{root} must hold a registry, it has none: promote a study first")
    return predictor_folder(MlflowTracker(root), name, CHAMPION if version is None else str(version))


def predictor_folder(tracker: MlflowTracker, name: str, version: str) -> Path:
    """Where the predictor of a version lies, by its number or an alias, brought here first if it is elsewhere.

    Raises InputError, with what is registered, where there is no such version, it is not there, or not of our making.
    """
    where = tracker.version_uri(name, version)
    asked = f"{name} version {version}" if is_number(version) else f"{name}@{version}"
    if where is None:
        numbers = Registry(tracker, name).numbers()
        its = [f"of {name} version {', '.join(numbers)}"] if numbers else []
        raise InputError(f"{asked} is not registered in {tracker.root}, {'; '.join([known_models(tracker), *its])}")
    brought = tracker.bring(where)
    folder = inside(brought or tracker.root, f"data/{PREDICTOR}")
    if brought is None or not (folder / INPUTS).is_file():
        raise InputError(f"{asked} must have data/{PREDICTOR}/{INPUTS}, {where} has none")
    return folder


def known_models(tracker: MlflowTracker) -> str:
    """What is registered, as the end of a sentence."""
    with reached(tracker.registry):
        names = [model.name for model in pages(tracker.client.search_registered_models)]
    return f"registered: {', '.join(names)}" if names else "nothing is registered"

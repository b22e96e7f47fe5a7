"""The registry: promote a study's best trial, roll back, look back, and find what is to predict.

The alias `champion` is the truth. Tags of the registered model log every change of it, tags of a version say what
the version is and how it came through the gate.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmtune.analysis.statistics import McNemar
from mmtune.base.clock import now
from mmtune.base.errors import InputError
from mmtune.base.files import locked
from mmtune.data.dataset import Dataset
from mmtune.serve.champions import CHAMPION, FORCED, PROMOTED, ROLLED_BACK, Event, line_of, reigns
from mmtune.serve.gate import Verdict, verdict
from mmtune.serve.logged import facts, scores_of, write_trial
from mmtune.serve.pyfunc import REGISTERED
from mmtune.serve.scoring import score_test
from mmtune.serve.versions import TAG, Registry, known_models, predictor_folder
from mmtune.tracking import OBJECTIVE, MlflowTracker, StudyRun, TrialRun, exists

SIGNIFICANT = 0.05


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """What became of a study's best trial: its version, its test scores, and who is champion.

    mcnemar: the trial (a) against the champion before (b) on the test rows; None where nothing was compared.
    reason: one sentence.
    """

    name: str
    version: str
    trial: TrialRun
    test: Mapping[str, float]
    champion_before: str | None
    champion_after: str | None
    mcnemar: McNemar | None
    forced: bool
    reason: str

    @property
    def is_champion(self) -> bool:
        """Whether the trial's version is champion now, be it since this promotion or an earlier one."""
        return self.champion_after == self.version

    @property
    def became_champion(self) -> bool:
        """Whether this promotion made it champion."""
        return self.is_champion and self.champion_before != self.version

    def describe(self) -> str:
        """The scores and the verdict, in a few lines to print."""
        numbers = {"validation macro-F1": self.trial.metrics[OBJECTIVE], "test macro-F1": self.test["test_macro_f1"]}
        scores = ", ".join(f"{name} {value:.4f}" for name, value in numbers.items())
        lines = [f"{self.name} version {self.version}: trial {self.trial.name}, {scores}", self.reason]
        if not self.is_champion:
            lines.append(f"champion stays version {self.champion_before}; --force overrides")
        return "\n".join(lines)


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


def promote(
    tracker: MlflowTracker, study: StudyRun, dataset: Dataset, force: bool = False, alpha: float = SIGNIFICANT
) -> Promotion:
    """Register the study's best trial; make it champion unless it is significantly worse than the one there is.

    Best is by validation macro-F1; a trial is scored on the test partition once. A champion that cannot be compared
    keeps its place. `force` makes the trial champion all the same. May be repeated, also after a kill: nothing is
    registered twice. Raises InputError where no trial is complete or the data set is not the study's.
    """
    if dataset.digest != study.key.digest:
        raise InputError(
            f"{study.key.slug} must be promoted with its own data: {study.key.data} has digest {study.key.digest}, "
            f"{dataset.name} has {dataset.digest}"
        )
    trial = tracker.best(study.run_id)
    if trial is None:
        count = tracker.count(study.run_id)
        raise InputError(f"{study.key.slug} must have a complete trial to promote, none of its {count} is")
    registry = Registry(tracker, study.key.study)
    with changing(tracker.root):
        registry.repair()
        predictions = score_test(tracker, trial, dataset)
        trial = tracker.best(study.run_id) or trial
        version = registry.version_of(trial.run_id) or register(tracker, study, trial, dataset)
        before = registry.aliased()
        found = verdict(registry, version, before, predictions, dataset, alpha)
        if force and not found.passes:
            found = replace(found, passes=True, forced=True, reason=f"forced, although {found.reason}")
        if version != before:
            write_down(registry, version, before, found)
        return Promotion(
            name=registry.name,
            version=version,
            trial=trial,
            test=scores_on_test(trial),
            champion_before=before,
            champion_after=version if found.passes else before,
            mcnemar=found.mcnemar,
            forced=found.forced,
            reason=found.reason,
        )


def scores_on_test(trial: TrialRun) -> dict[str, float]:
    """The metrics of a trial that begin with test_."""
    return {name: value for name, value in trial.metrics.items() if name.startswith("test_")}


def register(tracker: MlflowTracker, study: StudyRun, trial: TrialRun, dataset: Dataset) -> str:
    """Make a version of a trial's model, with what it is as tags; returns its number.

    The version comes after its files: a kill in between leaves files that the next attempt writes again.
    """
    with tempfile.TemporaryDirectory() as folder:
        write_trial(Path(folder) / REGISTERED, tracker, study, trial, dataset)
        tracker.add_files(trial.run_id, Path(folder))
    numbers = {name: repr(value) for name, value in scores_of(trial).items()}
    tags = {**facts(study, trial), "data": dataset.name, "digest": dataset.digest, "registered_at": now(), **numbers}
    return Registry(tracker, study.key.study).create(trial.run_id, tags)


def write_down(registry: Registry, version: str, before: str | None, found: Verdict) -> None:
    """The verdict as tags of the version, then, if it passes, the alias."""
    numbers = {} if found.mcnemar is None else asdict(found.mcnemar)
    registry.tag(
        version,
        {
            "previous_champion": before or "",
            "forced": str(found.forced).lower(),
            "reason": found.reason,
            "decided_at": now(),
            **{f"mcnemar_{name}": repr(value) for name, value in numbers.items()},
        },
    )
    if found.passes:
        registry.crown(version, FORCED if found.forced else PROMOTED)


@contextmanager
def changing(root: Path) -> Iterator[None]:
    """Hold the registry in `root` for writing; InputError where another process holds it."""
    with locked(root / ".registry.lock", f"{root} must be promoted in by one process at a time", f"pid {os.getpid()}"):
        yield


def rollback(tracker: MlflowTracker, name: str) -> tuple[str, str]:
    """Make the champion before this one champion again; returns (from, to).

    Repeated, it walks further back. Raises InputError where there is no champion or none before it.
    """
    registry = Registry(tracker, name)
    with changing(tracker.root):
        registry.repair()
        champion = registry.aliased()
        if champion is None:
            raise InputError(f"{name} must have a champion to roll back, {known_models(tracker)}")
        there = {str(version.version) for version in registry.versions()} - {champion}
        before = [version for version in line_of(registry.events())[:-1] if version in there]
        if not before:
            raise InputError(f"{name} must have had a champion before version {champion} to go back to, it had none")
        registry.crown(before[-1], ROLLED_BACK)
    return champion, before[-1]


def history(tracker: MlflowTracker, name: str) -> list[VersionRecord]:
    """Every version of a model, the first one first; InputError where there is no such model."""
    registry = Registry(tracker, name)
    if registry.model() is None:
        raise InputError(f"{name} must be a registered model, {known_models(tracker)}")
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
        val_macro_f1=tagged_score(tags, OBJECTIVE),
        test_macro_f1=tagged_score(tags, "test_macro_f1"),
        test_accuracy=tagged_score(tags, "test_accuracy"),
        registered_at=tags.get("registered_at", ""),
        forced=tags.get("forced") == "true",
        reason=tags.get("reason", ""),
        is_champion=number == champion,
        reigns=reigns(events, number),
    )


def tagged_score(tags: Mapping[str, str], name: str) -> float:
    """A score that a version's tag tells, NaN without such a tag; InputError where it was changed to no number."""
    try:
        return float(tags.get(name, "nan"))
    except ValueError as error:
        raise InputError(f"the tag {TAG}{name} of a model version must be a number, got {tags[name]!r}") from error


def champion_folder(root: Path, name: str, alias: str = CHAMPION, version: int | str | None = None) -> Path:
    """The folder for `Predictor.load` of a registered model: the version given, or the one that `alias` names.

    Raises InputError, with what is registered, where there is none.
    """
    if not exists(root):
        raise InputError(f"{root} must hold a registry, it has none: promote a study first")
    tracker = MlflowTracker(root)
    registry = Registry(tracker, name)
    number = registry.aliased(alias) if version is None else str(version)
    found = next((v for v in registry.versions() if str(v.version) == number), None)
    if found is None:
        asked = f"{name}@{alias}" if version is None else f"{name} version {version}"
        raise InputError(f"{asked} is not registered in {root}, {known_models(tracker)}")
    return predictor_folder(tracker, found)

"""Promotion of a study's best trial, or of one by choice, the gate to becoming champion, and the way back.

A version becomes champion only if it is not significantly worse than the one there is.
"""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmtune.analysis.statistics import McNemar, least_sign_flip_p, mcnemar_clustered, mcnemar_exact
from mmtune.base.clock import now
from mmtune.base.errors import InputError
from mmtune.base.files import locked
from mmtune.data.dataset import Dataset, Progress, quiet
from mmtune.data.protocols import evidence, independent
from mmtune.networks.card import MODEL
from mmtune.serve.answer.predictor import Predictor
from mmtune.serve.answer.usual import learnt
from mmtune.serve.loader import REGISTERED
from mmtune.serve.logged import facts, scores_of, write_trial
from mmtune.serve.scoring import predicted_labels, score_test
from mmtune.serve.versions import (
    FORCED,
    PROMOTED,
    ROLLED_BACK,
    TAG,
    Registry,
    known_models,
    line_of,
    predictor_folder,
)
from mmtune.tracking import COMPLETE, REMOVED, MlflowTracker, StudyRun, TrialRun
from mmtune.train.evaluate import SCALED
from mmtune.train.objective import MACRO_F1, Objective

SIGNIFICANT = 0.05


@dataclass(frozen=True, kw_only=True, repr=False)
class Promotion:
    """What became of a trial: its version, and who is champion.

    objective: what its study searched for.
    mcnemar: the trial (a) against the champion before (b) on the test rows; None where nothing was compared.
    forced: it became champion against the gate. reason: one sentence.
    """

    name: str
    version: str
    trial: TrialRun
    objective: Objective
    champion_before: str | None
    champion_after: str | None
    mcnemar: McNemar | None
    forced: bool
    reason: str

    @property
    def is_champion(self) -> bool:
        """Whether the trial's version is champion now, be it since this promotion or an earlier one."""
        return self.champion_after == self.version

    def __repr__(self) -> str:
        return self.describe()

    def describe(self) -> str:
        """The scores and the verdict, in a few lines to print."""
        found = self.trial.metrics
        asked = dict.fromkeys((*self.objective.metrics, *MACRO_F1.metrics))
        of_test = [(own, found[f"test_{own.name}"]) for own in asked if f"test_{own.name}" in found]
        tested = ", ".join(f"test {own.words} {own.show(value)}" for own, value in of_test)
        scores = f"{self.objective.show(self.objective.values(found))}, {tested}"
        lines = [f"{self.name} version {self.version}: trial {self.trial.name}, {scores}", *self.trust(), self.reason]
        if not self.is_champion:
            lines.append(f"champion stays version {self.champion_before}; --force overrides")
        return "\n".join(lines)

    def trust(self) -> list[str]:
        """What is left of the accuracy where one bank is all that is given, and how well calibrated the model is."""
        alone = [re.fullmatch("test_accuracy_(.+)_alone", name) for name in sorted(self.trial.metrics)]
        told = [f"{own[1]} {self.trial.metrics[own[0]]:.4f}" for own in alone if own]
        before, after = (self.trial.metrics.get(f"test_{name}") for name in ("calibration_error", SCALED))
        lines = [f"test accuracy with one bank alone: {', '.join(told)}"] if told else []
        if before is not None and after is not None:
            lines.append(f"test calibration error {before:.4f}, with the temperature {after:.4f}")
        return lines


def promote(
    tracker: MlflowTracker,
    study: StudyRun,
    dataset: Dataset,
    force: bool = False,
    number: int | None = None,
    told: Objective | None = None,
    advance: Progress = quiet,
) -> Promotion:
    """Register the study's best trial; make it champion unless it is significantly worse than the one there is.

    Best is by the first metric of the study's objective, unless a trial is chosen by its `number`; a trial is scored on
    the test partition once. A champion that cannot be compared keeps its place. `force` makes the trial champion all
    the same. told: the objective as the study's file has it, with functions of its own. May be repeated, also after a
    kill: nothing is registered twice. Raises InputError where there is no such trial with its files, or the data set is
    not the study's.
    """
    study.key.require_data(dataset, f"{study.key.slug} must be promoted with")
    trial = best_of(tracker, study) if number is None else chosen(tracker, study, number)
    registry = Registry(tracker, study.key.study)
    with changing(tracker.root):
        registry.repair()
        own = told if told == study.key.objective else None
        advance("test partition", 0, 1)
        predictions = score_test(tracker, study.key, trial, dataset, own)
        advance("test partition", 1, 1)
        scored = tracker.trial(study.run_id, trial.run_id)
        if scored is None:
            raise InputError(f"trial {trial.name} of {study.key.slug} must be there to be promoted, it was deleted")
        trial = scored
        version = register(registry, study, trial, dataset, advance)
        before = registry.champion()
        found = verdict(registry, version, before, predictions, dataset, study.key.protocol)
        forced = force and not found.passes
        made = Promotion(
            name=registry.name,
            version=version,
            trial=trial,
            objective=study.key.objective,
            champion_before=before,
            champion_after=version if found.passes or forced else before,
            mcnemar=found.mcnemar,
            forced=forced,
            reason=f"forced, although {found.reason}" if forced else found.reason,
        )
        if version != before:
            write_down(registry, made)
        return made


def best_of(tracker: MlflowTracker, study: StudyRun) -> TrialRun:
    """The study's best trial; InputError where none is complete."""
    trial = tracker.best(study.run_id, study.key.objective)
    if trial is None:
        count = tracker.count(study.run_id)
        raise InputError(f"{study.key.slug} must have a complete trial to promote, none of its {count} is")
    return trial


def chosen(tracker: MlflowTracker, study: StudyRun, number: int) -> TrialRun:
    """The complete trial of a number; InputError where there is none, or its files are not kept."""
    of_number = [trial for trial in tracker.trials(study.run_id) if trial.number == number]
    trial = next((trial for trial in of_number if trial.state == COMPLETE), None)
    if trial is None:
        how = f"it is {of_number[-1].state.lower()}" if of_number else "there is none of that number"
        raise InputError(f"--trial must be the number of a complete trial of {study.key.slug}, got {number}: {how}")
    if REMOVED in trial.tags or not tracker.has_artifact(trial.run_id, MODEL):
        rule = "--trial must be one whose files are kept: the best, and the front of several metrics"
        raise InputError(f"{rule}; those of trial {trial.name} are not (--keep all keeps them all)")
    return trial


def register(registry: Registry, study: StudyRun, trial: TrialRun, dataset: Dataset, advance: Progress = quiet) -> str:
    """The number of the version of a trial's model, which is made, with what it is as tags, if there is none.

    The version comes after its files: a kill in between leaves files that the next attempt writes again. So are those
    of a version that cannot be read, as another mmtune made it or somebody changed it.
    """
    there = next((str(version.version) for version in registry.versions() if version.run_id == trial.run_id), None)
    if there is not None and is_readable(registry, there):
        return there
    model = registry.tracker.artifact(trial.run_id, MODEL)
    usual = learnt(model, dataset, study.key, advance)
    with tempfile.TemporaryDirectory() as folder:
        write_trial(Path(folder) / REGISTERED, registry.tracker, study, trial, dataset, usual)
        registry.tracker.add_files(trial.run_id, Path(folder))
    if there is not None:
        return there
    objective = study.key.objective
    numbers = {name: repr(value) for name, value in scores_of(study, trial).items()}
    of_study = {**facts(study, trial), "objective": objective.show(objective.values(trial.metrics))}
    tags = {**of_study, "data": dataset.name, "digest": dataset.digest, "registered_at": now(), **numbers}
    return registry.create(trial.run_id, tags)


def is_readable(registry: Registry, version: str) -> bool:
    """Whether a version can predict."""
    try:
        Predictor.load(predictor_folder(registry.tracker, registry.name, version))
    except InputError:
        return False
    return True


class Verdict(NamedTuple):
    """Whether a version passes the gate, and why."""

    passes: bool
    reason: str
    mcnemar: McNemar | None = None


def verdict(
    registry: Registry,
    version: str,
    champion: str | None,
    predictions: NDArray[np.int64],
    dataset: Dataset,
    protocol: str,
) -> Verdict:
    """Hold a version's predictions of the test partition against the champion's.

    protocol: what the version's study keeps apart, of which each member is one piece of evidence.
    """
    if champion is None:
        return Verdict(True, f"version {version} is champion, as there was none before")
    if champion == version:
        return Verdict(True, f"version {version} is champion already")
    try:
        theirs = predicted_labels(Predictor.load(predictor_folder(registry.tracker, registry.name, champion)), dataset)
    except InputError as error:
        return Verdict(False, f"champion version {champion} cannot be compared: {error}")
    test = dataset.require_test()
    ours, theirs = predictions == test.labels, theirs == test.labels
    kind, unit = independent(test, protocol, dataset.train)
    result, count = mcnemar_exact(ours, theirs), len(np.unique(unit))
    shares = count < len(unit)
    if shares:
        # Rows that share a recording stand and fall together: thirty of them are no thirty pieces of evidence.
        result = replace(result, p_value=mcnemar_clustered(ours, theirs, unit))
    # Of so few no difference would be significant, and the gate would hold nothing back.
    few = shares and least_sign_flip_p(count) >= SIGNIFICANT
    worse = result.only_a < result.only_b if few else result.a_is_worse(SIGNIFICANT)
    p_value = f"p = {result.p_value:.3g}" if result.p_value >= 1e-9 else "p < 1e-9"
    over = f" over {evidence(kind, unit)}" if shares else ""
    numbers = f"alone right on {result.only_a} test rows against {result.only_b}, exact McNemar{over} {p_value}"
    sure = "" if few else "significantly "
    how = f"{sure}worse" if worse else f"not {sure}worse"
    told = f"{numbers}; too few to tell chance from a difference" if few else numbers
    return Verdict(not worse, f"version {version} is {how} than champion version {champion} ({told})", result)


def write_down(registry: Registry, made: Promotion) -> None:
    """The verdict as tags of the version, then, if it is to be champion, the alias."""
    numbers = {} if made.mcnemar is None else asdict(made.mcnemar)
    told = {
        "previous_champion": made.champion_before or "",
        "forced": str(made.forced).lower(),
        "reason": made.reason,
        "decided_at": now(),
        **{f"mcnemar_{name}": repr(value) for name, value in numbers.items()},
    }
    with registry.reached():
        for name, value in told.items():
            registry.client.set_model_version_tag(registry.name, made.version, TAG + name, value)
    if made.is_champion:
        registry.make_champion(made.version, FORCED if made.forced else PROMOTED)


def changing(root: Path) -> AbstractContextManager[None]:
    """Hold the registry in `root` for writing; InputError where another process holds it."""
    return locked(root / ".registry.lock", f"{root} must be promoted in by one process at a time", f"pid {os.getpid()}")


def rollback(tracker: MlflowTracker, name: str) -> tuple[str, str]:
    """Make the champion before this one champion again; returns (from, to).

    Repeated, it walks further back. Raises InputError where there is no champion or none before it.
    """
    registry = Registry(tracker, name)
    with changing(tracker.root):
        registry.repair()
        champion = registry.champion()
        if champion is None:
            raise InputError(f"{name} must have a champion to roll back, {known_models(tracker)}")
        there = set(registry.numbers()) - {champion}
        before = [version for version in line_of(registry.events())[:-1] if version in there]
        if not before:
            raise InputError(f"{name} must have had a champion before version {champion} to go back to, it had none")
        registry.make_champion(before[-1], ROLLED_BACK)
    return champion, before[-1]

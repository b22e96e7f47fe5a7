"""A study's best trial through the gate: registered, and champion only if it is no worse than the one there is."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmtune.analysis.statistics import McNemar, mcnemar_exact
from mmtune.champions import FORCED, PROMOTED, now
from mmtune.data.dataset import Dataset
from mmtune.errors import InputError
from mmtune.models.storage import load_model
from mmtune.predict import Predictor, predict_partition
from mmtune.registry import REGISTERED, Registry, changing, predictor_folder, write_pyfunc
from mmtune.scoring import score_test
from mmtune.tracking import OBJECTIVE, MlflowTracker, StudyRun, TrialRun, best_trial, trial_run
from mmtune.train.trial import MODEL

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


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Whether a version passes the gate, and why."""

    passes: bool
    reason: str
    mcnemar: McNemar | None = None
    forced: bool = False


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
    trials = tracker.trials(study.run_id)
    trial = best_trial(trials)
    if trial is None:
        raise InputError(f"{study.key.slug} must have a complete trial to promote, none of its {len(trials)} is")
    registry = Registry(tracker.client, study.key.study)
    with changing(tracker.root):
        registry.repair()
        predictions = score_test(tracker, trial, dataset)
        trial = trial_run(tracker.client.get_run(trial.run_id))
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
    scores = {OBJECTIVE: trial.metrics[OBJECTIVE], **scores_on_test(trial)}
    facts = {"study_key": study.key.slug, "trial": trial.name, "protocol": study.key.protocol}
    data = {"name": dataset.name, "digest": dataset.digest}
    model = tracker.artifact(trial.run_id, MODEL)
    _, config = load_model(model)
    card = {"features": dataset.features, "data": data, "scores": scores, **facts}
    with tempfile.TemporaryDirectory() as folder:
        write_pyfunc(Path(folder) / REGISTERED, model, config, card, trial.run_id)
        tracker.client.log_artifacts(trial.run_id, str(Path(folder) / REGISTERED), REGISTERED)
    numbers = {name: repr(value) for name, value in scores.items()}
    tags = {**facts, "data": dataset.name, "digest": dataset.digest, "registered_at": now(), **numbers}
    return Registry(tracker.client, study.key.study).create(trial.run_id, tags)


def verdict(
    registry: Registry,
    version: str,
    champion: str | None,
    predictions: NDArray[np.int64],
    dataset: Dataset,
    alpha: float,
) -> Verdict:
    """Hold a version's predictions of the test partition against the champion's."""
    if champion is None:
        return Verdict(passes=True, reason=f"version {version} is champion, as there was none before")
    if champion == version:
        return Verdict(passes=True, reason=f"version {version} is champion already")
    try:
        theirs = champion_predictions(registry, champion, dataset)
    except InputError as error:
        return Verdict(passes=False, reason=f"champion version {champion} cannot be compared: {error}")
    labels = dataset.test.labels
    result = mcnemar_exact(predictions == labels, theirs == labels)
    worse = result.a_is_worse(alpha)
    numbers = (
        f"alone right on {result.only_a} test rows against {result.only_b}, exact McNemar p = {result.p_value:.3g}"
    )
    how = "significantly worse" if worse else "not significantly worse"
    reason = f"version {version} is {how} than champion version {champion} ({numbers})"
    return Verdict(passes=not worse, reason=reason, mcnemar=result)


def champion_predictions(registry: Registry, champion: str, dataset: Dataset) -> NDArray[np.int64]:
    """What the champion says of this test partition, (N,) int64."""
    version = next(v for v in registry.versions() if str(v.version) == champion)
    predictor = Predictor.load(predictor_folder(registry.client, version))
    return predict_partition(predictor, dataset).digit


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

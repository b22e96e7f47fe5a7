"""Whether studies differ by more than chance, on the same folds or on the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.analysis.statistics import (
    ClusteredMcNemar,
    PairedT,
    Summary,
    holm,
    mcnemar_clustered,
    mcnemar_exact,
    paired_t,
    summary,
)
from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.networks.card import HELD
from mmtune.study import StudyKey
from mmtune.tracking import COMPLETE, UNIT, MlflowTracker, StudyRun, TrialRun
from mmtune.train.answers import NUMBERS, read_answers
from mmtune.tune.parts import best_part, part_of

HELD_ACCURACY = f"{UNIT}held_accuracy"


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a study's best trial says of rows that chose nothing: of the test partition, or of every fold's own.

    row, recording (N,) int64; right (N,) bool. folds: accuracy by fold, () where there are none.
    choice: how the trial was chosen, in words, "" where there was no other.
    """

    study: StudyRun
    trial: TrialRun
    row: NDArray[np.int64]
    recording: NDArray[np.int64]
    right: NDArray[np.bool_]
    folds: tuple[float, ...] = ()
    choice: str = ""

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A study against a reference.

    folds: the paired t-test of accuracies by fold, None without folds; rows_p: the exact McNemar test of rows;
    recordings: the same with the rows of one recording held together. adjusted: the deciding p-value after Holm's
    correction for all comparisons made together.
    """

    name: str
    reference: str
    key: StudyKey
    epochs: tuple[int, int]
    accuracy: float
    reference_accuracy: float
    spread: Summary | None
    folds: PairedT | None
    rows: int
    rows_p: float
    recordings: ClusteredMcNemar
    adjusted: float = float("nan")

    @property
    def p_value(self) -> float:
        """The deciding one: over folds, corrected for their overlap, or else by recording."""
        return self.recordings.p_value if self.folds is None else self.folds.corrected_p

    @property
    def difference(self) -> float:
        return self.accuracy - self.reference_accuracy

    def sentence(self) -> str:
        """The comparison in words."""
        verdict = "significant" if self.adjusted < 0.05 else "not significant"
        where = f"{self.rows:,} {'held-out' if self.folds else 'test'} rows, {self.recordings.clusters} recordings"
        alone = f"{self.recordings.only_a} rows right alone against {self.recordings.only_b}"
        tests = [f"exact McNemar {p_text(self.rows_p)}", f"by recording {p_text(self.recordings.p_value)}"]
        if self.folds is not None:
            own = f"paired t over {self.folds.n} folds {p_text(self.folds.p_value)}"
            tests = [f"{own}, corrected for their overlap {p_text(self.folds.corrected_p)}", *tests]
        mine, theirs = self.epochs
        epochs = f"{mine} epochs" if mine == theirs else f"{mine} epochs against {theirs}"
        return (
            f"{self.name} against {self.reference} ({self.key.protocol}, {epochs}, {where}): "
            f"{self.accuracy:.2%} against {self.reference_accuracy:.2%}, {100 * self.difference:+.2f} points, {alone}; "
            f"{'; '.join(tests)}. After Holm's correction {p_text(self.adjusted)}: {verdict}."
        )


def p_text(p_value: float) -> str:
    """A p-value with three digits."""
    return "p not defined" if np.isnan(p_value) else "p < 1e-9" if p_value < 1e-9 else f"p = {p_value:.3g}"


def compared(answers: Sequence[Answers], reference: Answers) -> list[Comparison]:
    """Each of `answers` against the reference, corrected together; InputError unless all answered the same rows."""
    found = [against(own, reference) for own in answers]
    return adjusted(found)


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """The comparisons with their deciding p-values corrected together."""
    corrected = holm([own.p_value for own in comparisons])
    return [replace(own, adjusted=p_value) for own, p_value in zip(comparisons, corrected, strict=True)]


def against(own: Answers, reference: Answers) -> Comparison:
    """One study against another on the same rows."""
    if not np.array_equal(own.row, reference.row) or len(own.folds) != len(reference.folds):
        names = f"{own.study.key.slug} and {reference.study.key.slug}"
        raise InputError(f"studies that are compared must have answered the same rows, {names} have not")
    folds = len(own.folds)
    # Of k folds one is held out and one validates, so k - 2 train.
    paired = paired_t(own.folds, reference.folds, ratio=1 / (folds - 2)) if folds else None
    return Comparison(
        name=own.study.key.study + own.choice,
        reference=reference.study.key.study + reference.choice,
        key=own.study.key,
        epochs=(own.study.key.epochs, reference.study.key.epochs),
        accuracy=float(np.mean(own.folds)) if folds else own.accuracy,
        reference_accuracy=float(np.mean(reference.folds)) if folds else reference.accuracy,
        spread=summary(own.folds) if folds else None,
        folds=paired,
        rows=len(own.row),
        rows_p=mcnemar_exact(own.right, reference.right).p_value,
        recordings=mcnemar_clustered(own.right, reference.right, own.recording),
    )


def answers_of(tracker: MlflowTracker, study: StudyRun, dataset: Dataset) -> Answers:
    """The answers of a study's best trial; a test partition that it was not scored on is scored now.

    Raises InputError where no trial is complete, or where the rows that were held out have chosen among several.
    """
    best, count = tracker.best(study.run_id), tracker.count(study.run_id)
    if best is None:
        raise InputError(f"a comparison needs a complete trial, study {study.key.slug} has none")
    if study.key.folds and count > 1:
        raise InputError(
            f"a cross-validated study that is compared must have one trial, {study.key.slug} has {count}, and every "
            "row that was held out helped to choose among them; use --sampler reported, or settle choices with --fix"
        )
    choice = f" (trial {best.name}, best of {count} by validation)" if count > 1 else ""
    found = held_answers(tracker, study, best) if study.key.folds else test_answers(tracker, study, best, dataset)
    return replace(found, choice=choice)


def test_answers(tracker: MlflowTracker, study: StudyRun, trial: TrialRun, dataset: Dataset) -> Answers:
    """What a trial says of the test partition."""
    from mmtune.serve.scoring import score_test

    test = dataset.require_test()
    right = score_test(tracker, trial, dataset) == test.labels
    return Answers(study=study, trial=trial, row=np.arange(len(test)), recording=test.clip_index, right=right)


def held_answers(tracker: MlflowTracker, study: StudyRun, trial: TrialRun) -> Answers:
    """What the folds of a trial say of the rows that each held out: of all repeats, or of the best by validation.

    Raises InputError where a fold is no longer tracked.
    """
    parts = [part for part in tracker.parts(study.run_id) if part.tags["mlflow.parentRunId"] == trial.run_id]
    chosen = counted(parts, study.tags.get("mmtune.repeats", "mean"))
    wanted = study.key.folds * (study.key.repeats if len(chosen) > study.key.folds else 1)
    if len(chosen) != wanted or len({part_of(run.tags).fold for run in chosen}) != study.key.folds:
        raise InputError(f"all folds of {study.key.slug} must be tracked, some were deleted: run the study again")
    files = [read_held(tracker.artifact(run.run_id, HELD)) for run in chosen]
    whole = {name: np.concatenate([file[name] for file in files]) for name in files[0]}
    order = np.argsort(whole["row"], kind="stable")
    folds = tracker.curves(trial.run_id, (HELD_ACCURACY,))[HELD_ACCURACY]
    return Answers(
        study=study,
        trial=trial,
        row=whole["row"][order],
        recording=whole["recording"][order],
        right=(whole["label"] == whole["prediction"])[order],
        folds=tuple(value for _, value in folds),
    )


def counted(parts: Sequence[TrialRun], repeats: str) -> list[TrialRun]:
    """The complete trainings that a trial's numbers are made of: all, or in each fold the best by validation."""
    placed = {part_of(run.tags): run for run in parts if run.state == COMPLETE}
    if repeats == "mean":
        return [placed[place] for place in sorted(placed)]
    folds = sorted({place.fold for place in placed})
    chosen = [best_part({place: run.metrics for place, run in placed.items() if place.fold == fold}) for fold in folds]
    return [placed[place] for place in chosen]


def read_held(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a `held.npz`; InputError where it is damaged."""
    return read_answers(path, NUMBERS)


def matching(runs: Sequence[StudyRun], reference: StudyRun) -> StudyRun:
    """The finished run opened last that shares data, protocol, seed, folds and repeats with the reference.

    A run of as many epochs comes first. Raises InputError without any.
    """

    def shared(key: StudyKey) -> tuple[Any, ...]:
        return key.digest, key.protocol, key.seed, key.folds, key.repeats

    same = [
        run
        for run in runs
        if shared(run.key) == shared(reference.key) and run.status == "FINISHED" and run.run_id != reference.run_id
    ]
    found = next((run for run in same if run.key.epochs == reference.key.epochs), next(iter(same), None))
    if found is None:
        key = reference.key
        wanted = f"{key.data}, {key.protocol}, seed {key.seed}, {key.folds} folds, {key.repeats} repeats"
        raise InputError(f"a study to compare must be finished on the same rows as {key.study} ({wanted}), no other is")
    return found

"""Whether studies differ by more than chance, on the same folds or on the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from mmtune.analysis.statistics import McNemar, PairedT, holm, mcnemar_clustered, mcnemar_exact, paired_t, summary
from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import evidence, independent, kept_apart
from mmtune.networks.card import HELD
from mmtune.report.summary import unbroken
from mmtune.study import StudyKey
from mmtune.study.key import DRAWN, ENSEMBLE
from mmtune.tracking import COMPLETE, UNIT, MlflowTracker, StudyRun, TrialRun
from mmtune.tracking.runs import drawn_values
from mmtune.train.answers import NUMBERS, read_answers
from mmtune.tune.parts import best_part, part_of

HELD_ACCURACY = f"{UNIT}held_accuracy"


@dataclass(frozen=True, kw_only=True, eq=False)
class Answers:
    """What a trial says of rows that chose nothing: of the test partition, or of every fold's own.

    row, unit (N,) int64; right (N,) bool. kind: what a unit is, such as a recording. folds: accuracy by fold, () where
    there are none.
    choice: which trial of its study it is, in words, "" where there was no other.
    """

    key: StudyKey
    row: NDArray[np.int64]
    unit: NDArray[np.int64]
    kind: str
    right: NDArray[np.bool_]
    folds: tuple[float, ...] = ()
    choice: str = ""

    @property
    def name(self) -> str:
        """The study, what was fixed in its run, and which of its trials."""
        fixed = ", ".join(f"{path}={value}" for path, value in self.key.fixed)
        return self.key.study + (f" ({fixed})" if fixed else "") + self.choice

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.folds or self.right))

    @property
    def evidence(self) -> str:
        """How many pieces of evidence there are, in words."""
        return evidence(self.kind, self.unit)

    @property
    def repeated(self) -> bool:
        """Whether a row was answered several times."""
        return len(np.unique(self.row)) < len(self.row)


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """A study's answers against a reference's.

    rows: McNemar's test over rows; by_unit: its p-value with what shares a recording, or what else is one piece of
    evidence, held together;
    folds: the paired t-test of accuracies by fold, None without folds. adjusted: the deciding p-value after Holm's
    correction for all comparisons made together.
    """

    own: Answers
    reference: Answers
    rows: McNemar
    by_unit: float
    folds: PairedT | None
    adjusted: float = float("nan")

    @property
    def p_value(self) -> float:
        """The deciding one: over folds, corrected for their overlap, or else by unit."""
        return self.by_unit if self.folds is None else self.folds.corrected_p

    @property
    def difference(self) -> float:
        return self.own.accuracy - self.reference.accuracy

    def sentence(self) -> str:
        """The comparison in words."""
        own, reference = self.own, self.reference
        verdict = "significant" if self.adjusted < 0.05 else "not significant"
        kind = "held-out" if self.folds else "test"
        by_row = "McNemar by row" if own.repeated else "exact McNemar"
        tests = [f"{by_row} {p_text(self.rows.p_value)}", f"by {own.kind} {p_text(self.by_unit)}"]
        if self.folds is not None:
            plain = f"paired t over {len(own.folds)} folds {p_text(self.folds.p_value)}"
            tests = [f"{plain}, corrected for their overlap {p_text(self.folds.corrected_p)}", *tests]
        mine, theirs = own.key.epochs, reference.key.epochs
        epochs = f"{mine} epochs" if mine == theirs else f"{mine} epochs against {theirs}"
        return (
            f"{own.name} against {reference.name} ({own.key.protocol}, {epochs}, {len(own.row):,} {kind} rows, "
            f"{own.evidence}): {own.accuracy:.2%} against {reference.accuracy:.2%}, "
            f"{100 * self.difference:+.2f} points, {self.rows.only_a} rows right alone against {self.rows.only_b}; "
            f"{'; '.join(tests)}. After Holm's correction {p_text(self.adjusted)}: {verdict}."
        )


def p_text(p_value: float) -> str:
    """A p-value with three digits."""
    return "p not defined" if np.isnan(p_value) else "p < 1e-9" if p_value < 1e-9 else f"p = {p_value:.3g}"


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """Studies against a reference: accuracies, their difference, and the tests of it."""
    headings = ("study", "accuracy", "reference", "points", "t", "corrected", "McNemar", "units", "Holm")
    table = unbroken(*headings)
    for found in comparisons:
        own, reference, folds = found.own, found.reference, found.folds
        spread = f" ± {summary(own.folds).deviation:.2%}" if folds else ""
        scores = [f"{own.accuracy:.2%}{spread}", f"{reference.accuracy:.2%} {reference.name}"]
        p_values = [*([folds.p_value, folds.corrected_p] if folds else []), found.rows.p_value, found.by_unit]
        tests = [p_text(value).removeprefix("p ").removeprefix("= ") for value in (*p_values, found.adjusted)]
        missing = [] if folds else ["-", "-"]
        table.add_row(own.name, *scores, f"{100 * found.difference:+.2f}", *missing, *tests)
    return table


def compared(pairs: Iterable[tuple[Answers, Answers]]) -> list[Comparison]:
    """The first of each pair against the second, corrected together; InputError unless both answered the same rows."""
    found = [against(own, reference) for own, reference in pairs]
    corrected = holm([own.p_value for own in found])
    return [replace(own, adjusted=p_value) for own, p_value in zip(found, corrected, strict=True)]


def against(own: Answers, reference: Answers) -> Comparison:
    """One study against another, not corrected."""
    folds = len(own.folds)
    if not np.array_equal(own.row, reference.row) or folds != len(reference.folds):
        names = f"{own.key.slug} and {reference.key.slug}"
        raise InputError(f"studies that are compared must have answered the same rows, {names} have not")
    return Comparison(
        own=own,
        reference=reference,
        rows=by_row(own, reference),
        by_unit=mcnemar_clustered(own.right, reference.right, own.unit),
        # Of k folds one is held out and one validates, so k - 2 train.
        folds=paired_t(own.folds, reference.folds, ratio=1 / (folds - 2)) if folds else None,
    )


def by_row(own: Answers, reference: Answers) -> McNemar:
    """McNemar's test over rows; exact, unless rows are there several times, which then are held together."""
    exact = mcnemar_exact(own.right, reference.right)
    if not own.repeated:
        return exact
    return replace(exact, p_value=mcnemar_clustered(own.right, reference.right, own.row))


def answers_of(tracker: MlflowTracker, study: StudyRun, dataset: Dataset) -> Answers:
    """The answers of a study's best trial; a test partition that it was not scored on is scored now.

    Raises InputError where no trial is complete, or where the rows that were held out have chosen among several.
    """
    best, count = tracker.best(study.run_id, study.key.objective), tracker.count(study.run_id)
    if best is None:
        raise InputError(f"a comparison needs a complete trial, study {study.key.slug} has none")
    if not study.key.folds:
        study.key.require_data(dataset, f"{study.key.slug} must be compared on")
    if study.key.folds and count > 1:
        raise InputError(
            f"a cross-validated study that is compared must have one trial, {study.key.slug} has {count}, and every "
            "row that was held out helped to choose among them; use --sampler reported, or fix choices with --fix"
        )
    choice = f" (trial {best.number:02d}, best of {count} by validation)" if count > 1 else ""
    held = held_answers(tracker, study, best) if study.key.folds else test_answers(tracker, study, best, dataset)
    return replace(held, choice=choice)


def answers_by_trial(tracker: MlflowTracker, study: StudyRun) -> list[Answers]:
    """The answers of each complete trial of a cross-validated study to the rows that its folds held out, by number.

    Nothing is chosen by them, so that all may be compared with the first. Raises InputError without folds, as each
    trial would have to be scored on the test partition, or where there are not two trials.
    """
    if study.key.sampler in DRAWN or study.key.prune:
        raise InputError(
            f"trials of one study are compared where the study's file lists them, those of {study.key.slug} were drawn "
            "by scores of all rows: give their values as tries or as a grid"
        )
    if not study.key.folds:
        raise InputError(
            f"trials of one study are compared on rows that their folds held out, {study.key.slug} has none: "
            "run it with --folds, or name another study"
        )
    trials = [own for own in tracker.trials(study.run_id) if own.state == COMPLETE]
    if len(trials) < 2 or trials[0].number:
        numbers = ", ".join(str(own.number) for own in trials) or "none"
        raise InputError(f"{study.key.slug} must have trial 0 and another one complete to compare, it has {numbers}")
    found = [held_answers(tracker, study, own) for own in trials]
    named = [", ".join(map(str, drawn_values(own).values())) or own.name for own in trials]
    return [replace(own, choice=f" {name}") for own, name in zip(found, named, strict=True)]


def test_answers(tracker: MlflowTracker, study: StudyRun, trial: TrialRun, dataset: Dataset) -> Answers:
    """What a trial says of the test partition."""
    from mmtune.serve.scoring import score_test

    test = dataset.require_test()
    right = score_test(tracker, study.key, trial, dataset) == test.labels
    kind, unit = independent(test, study.key.protocol, dataset.train)
    return Answers(key=study.key, row=np.arange(len(test)), unit=unit, kind=kind, right=right)


def held_answers(tracker: MlflowTracker, study: StudyRun, trial: TrialRun) -> Answers:
    """What the folds of a trial say of the rows that each held out: of all repeats, or of the best by validation.

    Raises InputError where a fold is no longer tracked.
    """
    parts = [part for part in tracker.parts(study.run_id) if part.tags["mlflow.parentRunId"] == trial.run_id]
    placed = {part_of(run.tags): run for run in parts if run.state == COMPLETE}
    if len(placed) != study.key.folds * study.key.repeats:
        raise InputError(f"all folds of {study.key.slug} must be tracked, some were deleted: run the study again")
    places = sorted(placed)
    if study.tags.get("mmtune.repeats") == "best":
        folds = [list(own) for _, own in groupby(places, key=lambda place: place.fold)]
        places = [best_part({place: placed[place].metrics for place in own}, study.key.objective) for own in folds]
    files = [read_answers(tracker.artifact(placed[place].run_id, HELD), NUMBERS) for place in places]
    whole = {name: np.concatenate([file[name] for file in files]) for name in NUMBERS}
    order = np.argsort(whole["row"], kind="stable")
    accuracies = tracker.curves(trial.run_id, (HELD_ACCURACY,))[HELD_ACCURACY]
    return Answers(
        key=study.key,
        row=whole["row"][order],
        unit=whole["unit"][order],
        kind=kept_apart(study.key.protocol),
        right=(whole["label"] == whole["prediction"])[order],
        folds=tuple(value for _, value in accuracies),
    )


def matching(runs: Sequence[StudyRun], reference: StudyRun) -> StudyRun:
    """The finished run opened last that shares data, protocol, seed, folds and repeats with the reference.

    A run of as many epochs comes first. Raises InputError without any.
    """

    def rows(key: StudyKey) -> tuple[Any, ...]:
        return key.digest, key.protocol, key.seed, key.folds, key.repeats

    others = [run for run in runs if run.status == "FINISHED" and run.run_id != reference.run_id]
    others = [run for run in others if run.key.sampler != ENSEMBLE]
    same = [run for run in others if rows(run.key) == rows(reference.key)]
    found = next((run for run in same if run.key.epochs == reference.key.epochs), next(iter(same), None))
    if found is None:
        key = reference.key
        wanted = f"{key.data}, {key.protocol}, seed {key.seed}, {key.folds} folds, {key.repeats} repeats"
        raise InputError(f"a study to compare must be finished on the same rows as {key.study} ({wanted}), no other is")
    return found

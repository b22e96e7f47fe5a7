"""Reported against measured: results of tasks to lines of a table, with no mark-up."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from mmtune.analysis.figures.look import DASH
from mmtune.analysis.statistics import Summary, summary
from mmtune.base.provenance import versions_of
from mmtune.data.dataset import SPEAKER, Dataset
from mmtune.networks.card import FINAL
from mmtune.report.tables import between, percent, plain_versions, signed
from mmtune.study import Study, load_study
from mmtune.train.objective import MACRO_F1
from reproduction.measured import Result
from reproduction.tasks import BEST_OF, Task, is_shorter

METRICS = {"accuracy": "accuracy", "macro_f1": "macro-F1"}
SCORES = [f"{split}_{metric}" for split in ("val", "test") for metric in METRICS]
HELD = [f"held_{metric}" for metric in METRICS]
# What each score is called on a trial's run, by whose weights it is of.
NAMES = {
    "best": {name: MACRO_F1.at_best(name) if name.startswith("val_") else name for name in SCORES},
    "last": {name: f"{FINAL}_{name}" for name in SCORES},
}
LAST = {"best": "", "last": "weights of the last epoch"}
# Headings and units of what `Line.cells` gives, in the order of columns; then what only one kind of table has.
COLUMNS = {
    "study": ("study", ""),
    "paper": ("paper", ""),
    "reported": ("reported", "%"),
    "protocol": ("protocol", ""),
    "budget": ("budget", ""),
    "seeds": ("seeds", ""),
    "val_accuracy": ("val accuracy", "%"),
    "val_macro_f1": ("val macro-F1", "%"),
    "test_accuracy": ("test accuracy", "%"),
    "interval": ("95 % interval", "%"),
    "test_macro_f1": ("test macro-F1", "%"),
    "difference": ("difference", "points"),
    "held_accuracy": ("held-out accuracy", "%"),
    "held_interval": ("95 % interval", "%"),
    "held_macro_f1": ("held-out macro-F1", "%"),
    "remarks": ("remarks", ""),
    "command": ("command", ""),
}
PLAIN_ONLY = {"reported", "val_macro_f1", "test_accuracy", "interval", "test_macro_f1", "difference"}
CROSSED_ONLY = {"held_accuracy", "held_interval", "held_macro_f1"}
PLAIN = {name: own for name, own in COLUMNS.items() if name not in CROSSED_ONLY}
CROSSED = {name: own for name, own in COLUMNS.items() if name not in PLAIN_ONLY}


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the table: the same task with one seed or several.

    weights: "best" or "last" epoch's. scores: by `SCORES` over seeds, by `HELD` over the folds of a cross-validation,
    as shares; those that were not measured are missing. intervals: by metric, those of test scores of one seed over
    what is independent; of the last epoch's weights answers are not kept, nor intervals. remarks: what a reader must
    know of this line, such as a budget below the report's, or why there is no number.
    """

    task: Task
    study: Study
    seeds: tuple[int, ...]
    weights: str
    scores: Mapping[str, Summary]
    remarks: tuple[str, ...]
    intervals: Mapping[str, tuple[float, float]]
    command: str

    @property
    def split(self) -> str:
        """Where the line is held against the report: on test rows, or on validation rows where there are no others."""
        return "test" if "test_accuracy" in self.scores else "val"

    def differences(self) -> dict[str, float]:
        """Measured minus reported, by metric, in points."""
        reported = self.study.reported
        measured = {name: self.scores.get(f"{self.split}_{name}") for name in reported}
        return {name: 100 * (own.mean - reported[name]) for name, own in measured.items() if own is not None}

    def measured(self) -> str:
        """What it is held against the report by, with the interval: accuracy unless the report has macro-F1 alone."""
        cells, metric = self.cells(), next(iter(self.study.reported), "accuracy")
        side = "held" if self.task.folds else self.split
        score, within = cells[f"{side}_{metric}"], self.within(f"{side}_{metric}")
        named = f"{METRICS[metric]} {score}" if metric != "accuracy" and score != DASH else score
        lacking = f" ({'; '.join(self.remarks)})" if score == DASH and self.remarks else ""
        on = " (val)" if side == "val" and score != DASH else ""
        return named + on + (f" ({within})" if within else lacking)

    def within(self, name: str) -> str:
        """From where to where a score may be, in percent: over folds, or over what is independent among test rows."""
        side, _, metric = name.partition("_")
        if side == "held":
            found = self.scores.get(name)
            return "" if found is None else between((found.low, found.high))
        return between(self.intervals[metric]) if side == "test" and metric in self.intervals else ""

    def cells(self) -> dict[str, str]:
        """What the table shows, by `COLUMNS`."""
        on = "" if self.split == "test" else " (val)"
        return {
            "study": ", ".join(filter(None, [self.task.study, LAST[self.weights]])),
            "paper": self.study.paper,
            "reported": by_metric({name: percent(value) for name, value in self.study.reported.items()}),
            "protocol": self.task.protocol,
            "budget": budget(self),
            "seeds": " ".join(map(str, self.seeds)),
            **{name: spread(self.scores.get(name)) for name in (*SCORES, *HELD)},
            "interval": self.within("test_accuracy"),
            "difference": by_metric({name: signed(value) + on for name, value in self.differences().items()}),
            "held_interval": self.within("held_accuracy"),
            "remarks": "; ".join(self.remarks),
            "command": self.command,
        }


def lines_of(results: Sequence[Result], dataset: Dataset, data: Path | None) -> list[Line]:
    """The lines of a table, in the order of the results; seeds of one task, which stand together, share a line.

    A cross-validation has a line for each seed: its deviation is over folds.
    """
    groups = groupby(results, key=lambda result: (result.line, result.task.folds and result.task.seed))
    return [line for _, group in groups for line in lines_of_group(list(group), dataset, data)]


def lines_of_group(group: Sequence[Result], dataset: Dataset, data: Path | None) -> list[Line]:
    """The line of one task over its seeds, and another one where the weights of the last epoch were kept."""
    task, found = group[0].task, [result.trial.metrics for result in group if result.trial is not None]
    kept = bool(found) and all(NAMES["last"]["val_accuracy"] in metrics for metrics in found)
    return [
        Line(
            task=task,
            study=group[0].study,
            seeds=tuple(result.task.seed for result in group),
            weights=weights,
            scores=scores(found, weights) | (held_scores(found[0], task.folds) if found else {}),
            remarks=remarks(group, dataset),
            intervals=group[0].intervals if weights == "best" and len(group) == 1 else {},
            command=shlex.join(task.command(data)),
        )
        for weights in (("best", "last") if kept else ("best",))
    ]


def scores(metrics: Sequence[Mapping[str, float]], weights: str) -> dict[str, Summary]:
    """By `SCORES`, what all seeds have."""
    names = NAMES[weights].items()
    shared = {own: name for own, name in names if metrics and all(name in found for found in metrics)}
    return {own: summary([found[name] for found in metrics], share=True) for own, name in shared.items()}


def held_scores(metrics: Mapping[str, float], folds: int) -> dict[str, Summary]:
    """By `HELD`, what was tracked of a cross-validation."""
    return {
        name: Summary(
            n=folds,
            mean=metrics[name],
            deviation=metrics[f"{name}_sd"],
            low=metrics[f"{name}_low"],
            high=metrics[f"{name}_high"],
        )
        for name in HELD
        if name in metrics
    }


def remarks(group: Sequence[Result], dataset: Dataset) -> tuple[str, ...]:
    """What a reader must know of these results."""
    task, study = group[0].task, group[0].study
    own = study.base.train.epochs
    fewer = [f"{task.epochs} of {own} epochs"] if is_shorter(task, study) else []
    fewer += [f"{task.repeats} of {BEST_OF} runs of a fold"] if task.folds and task.repeats < BEST_OF else []
    found = [f"budget below the report's: {', '.join(fewer)}"] if fewer else []
    if task.fixed:
        found.append(f"{', '.join(task.fixed)}, as {dataset.name} has no waveforms")
    found += [encoder for name, epochs in group[0].encoders.items() if (encoder := shorter(study, name, epochs))]
    problems: dict[str, list[int]] = {}
    for result in group:
        problems.setdefault(result.problem, []).append(result.task.seed)
    for problem, seeds in problems.items():
        several = f"seed {', '.join(map(str, seeds))} " if len(seeds) < len(group) else ""
        found += [f"{several}{problem}"] if problem else []
    return tuple(found)


def shorter(study: Study, bank: str, epochs: int) -> str:
    """That an encoder was trained for another number of epochs than its report's, "" where it was not."""
    own = load_study(study.encoders[bank]).base.train.epochs
    return "" if epochs == own else f"{bank} encoder trained for {epochs} of {own} epochs"


def budget(line: Line) -> str:
    """Epochs of the report's, folds, repeats."""
    task = line.task
    own = line.study.base.train.epochs
    epochs = f"{task.epochs or own} of {own} epochs"
    folds = f"{task.folds} folds" if task.folds else ""
    repeats = f"best of {task.repeats}" if task.repeats > 1 else ""
    return ", ".join(filter(None, [epochs, folds, repeats]))


def by_metric(values: Mapping[str, str]) -> str:
    """Values with the metric's name beside each; a dash for none."""
    return "; ".join(f"{METRICS.get(name, name)} {value}" for name, value in values.items()) or DASH


def spread(found: Summary | None) -> str:
    """A share in percent, with its deviation where there are several seeds or folds."""
    if found is None:
        return DASH
    return percent(found.mean) + (f" ± {percent(found.deviation)}" if found.n > 1 else "")


def caption(results: Sequence[Result], dataset: Dataset) -> dict[str, str]:
    """What the numbers were made with, by name; runs of several machines or commits are all named."""
    tags = [result.run.tags for result in results if result.run is not None]

    def all_of(name: str) -> str:
        return "; ".join(dict.fromkeys(own[name] for own in tags if own.get(name)))

    versions = dict.fromkeys(own.get("mmtune.versions", "{}") for own in tags)
    seeds = list(dict.fromkeys(result.task.seed for result in results))
    test = "no test partition" if dataset.test is None else f"{len(dataset.test):,} test pairs"
    found = {
        "Data": f"{dataset.name}, {len(dataset.train):,} training and validation pairs, {test}",
        "Digest": dataset.digest[:12],
        "Seeds": f"{len(seeds)} ({', '.join(map(str, seeds))})",
        "Device": all_of("mmtune.device"),
        "Versions": "; ".join(plain_versions(text) for text in versions if versions_of(text)),
        "Commit": "; ".join(dict.fromkeys(short(own.get("mmtune.git_commit", "")) for own in tags)),
        "Written": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    }
    return {name: value for name, value in found.items() if value}


def short(commit: str) -> str:
    """The first twelve digits of a commit, and whether files differed from it."""
    number, plus, changes = commit.partition("+")
    return number[:12] + plus + changes


def notes(lines: Sequence[Line], dataset: Dataset) -> list[str]:
    """How to read the table."""
    missing = [] if dataset.train.known(SPEAKER) else ["The speakers are not known, so there is no speaker_disjoint."]
    several = any(len(line.seeds) > 1 for line in lines)
    over_seeds = ["± is the sample's deviation over seeds; the command is the first seed's."] if several else []
    return [
        "All scores in percent, of the weights of the best epoch by validation unless the line says otherwise.",
        "Differences are measured minus reported, in points, on test rows (on validation rows where there are none).",
        "The interval is 95 %, of one seed over what is independent among test rows, such as recordings: Clopper and "
        "Pearson's of accuracy for as many rows as tell as much, a bootstrap of macro-F1.",
        "Tests over rows or recordings are of one training of each: they do not hold the spread between trainings.",
        *over_seeds,
        *missing,
    ]

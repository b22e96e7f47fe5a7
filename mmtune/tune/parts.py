"""A trial in parts: folds of a cross-validation, repeats with other seeds, and what they say together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from mmtune.analysis.statistics import summary
from mmtune.base.errors import InputError
from mmtune.base.rules import require_choice
from mmtune.study import StudyKey
from mmtune.tracking import UNIT
from mmtune.train.objective import Objective, metric_of_score
from mmtune.train.staging import Point, StagedRun, read_epochs

SUMMARISED = ("macro_f1", "accuracy", "loss")
Metrics = Mapping[str, float]


@dataclass(frozen=True, kw_only=True, order=True)
class Part:
    """One training of a trial, by the numbers of its fold and its repeat, both from 0."""

    fold: int = 0
    repeat: int = 0


def parts_of(folds: int, repeats: int) -> tuple[Part, ...]:
    """The parts of every trial; 0 folds stand for the one split of a protocol."""
    return tuple(Part(fold=fold, repeat=repeat) for fold in range(max(folds, 1)) for repeat in range(repeats))


def part_of(tags: Mapping[str, str]) -> Part:
    """Which part of its trial a run is, by its tags; InputError where they do not say."""
    try:
        return Part(fold=int(tags["mmtune.fold"]), repeat=int(tags["mmtune.repeat"]))
    except (KeyError, ValueError) as error:
        told = {name: tags.get(name) for name in ("mmtune.fold", "mmtune.repeat")}
        raise InputError(f"the run of a part must say its fold and its repeat, got {told}: delete it") from error


def summarised(objective: Objective) -> list[str]:
    """The metrics of a trial whose deviation over its units is told: on validation rows and on those held out."""
    names = [own.name for own in objective.metrics if own.validates]
    scores = list(dict.fromkeys([*names, *SUMMARISED]))
    validation = [objective.at_best(f"val_{name}") for name in scores]
    return list(dict.fromkeys([*objective.names, *validation, *(f"held_{name}" for name in scores)]))


def units(done: Mapping[Part, Metrics], repeats: str, objective: Objective) -> list[Metrics]:
    """The metrics of each fold, or, where there is one split only, of each repeat.

    repeats: what stands for several trainings of one fold: their "mean", or the "best" by validation, as XFlow has it.
    """
    require_choice("repeats", repeats, ("mean", "best"))
    folds = [[done[part] for part in sorted(done) if part.fold == fold] for fold in sorted({p.fold for p in done})]
    if repeats == "best":
        return [max(runs, key=objective.rank) for runs in folds]
    return folds[0] if len(folds) == 1 else [mean(runs) for runs in folds]


def mean(runs: list[Metrics]) -> Metrics:
    """The mean of every metric that all runs have."""
    shared = [name for name in runs[0] if all(name in run for run in runs)]
    return {name: sum(run[name] for run in runs) / len(runs) for name in shared}


def spread(found: list[Metrics], objective: Objective) -> dict[str, float]:
    """The metrics of a trial from those of its units: means, and for the scores deviation and 95 % interval."""
    metrics = dict(mean(found))
    for name in summarised(objective):
        if len(found) > 1 and name in metrics:
            told = summary([unit[name] for unit in found], share=metric_of_score(name).is_share)
            metrics |= {f"{name}_sd": told.deviation, f"{name}_low": told.low, f"{name}_high": told.high}
    return metrics


def mean_points(parts: Iterable[Iterable[Point]], objective: Objective) -> list[Point]:
    """The mean curves of the parts that trained so long, at the times when the last one had."""
    epochs: dict[int, list[Point]] = {}
    for point in chain.from_iterable(parts):
        epochs.setdefault(point.epoch, []).append(point)
    curves = [*(f"{side}_{name}" for side in ("train", "val") for name in SUMMARISED), objective.first.curve]
    found = []
    for epoch, points in sorted(epochs.items()):
        values = {name: [point.metrics[name] for point in points if name in point.metrics] for name in curves}
        means = {name: sum(own) / len(own) for name, own in values.items() if own}
        found.append(Point(epoch=epoch, time=max(point.time for point in points), metrics=means))
    return found


def best_part(done: Mapping[Part, Metrics], objective: Objective) -> Part:
    """The part with the best validation score, whose model stands for the trial; of equals the first."""
    return max(sorted(done), key=lambda part: (objective.rank(done[part]), -part.fold, -part.repeat))


def part_name(part: Part, key: StudyKey) -> str:
    """A part in words."""
    fold = [f"fold {part.fold + 1}"] if key.folds else []
    return ", ".join([*fold, *([f"repeat {part.repeat + 1}"] if key.repeats > 1 else [])])


def result_of(metrics: Metrics, count: int, repeats: int, best_of: bool, objective: Objective) -> str:
    """What a trial has over its units, in words; best_of: whether one repeat stands for all."""
    first, *others = objective.metrics
    value, *values = objective.values(metrics)
    deviation = first.show(metrics[f"{objective.name}_sd"]) if count > 1 else ""
    spread = f" (deviation {deviation} over {count})" if deviation else ""
    best = f"best of {repeats} by validation" if best_of and repeats > 1 else ""
    what = ", ".join(filter(None, ["mean" if count > 1 or not best else "", best]))
    beside = "".join(f", {own.label} {own.show(other)}" for own, other in zip(others, values, strict=True))
    return f"{what}: {first.label} {first.show(value)}{spread}{beside}"


def summed_points(parts: Sequence[StagedRun], found: Sequence[Metrics], objective: Objective) -> list[Point]:
    """The mean curves of a trial's parts, and the scores of its units, by their number.

    Told again after a kill it is the same, to the millisecond, so that the store has it once.
    """
    points = mean_points((read_epochs(part.folder) for part in parts), objective)
    over = max(point.time for point in points)
    for step, unit in enumerate(found, start=1):
        scores = {f"{UNIT}{name}": unit[name] for name in summarised(objective) if name in unit}
        points.append(Point(epoch=step, time=over, metrics=scores))
    return points

"""The section on the search, and what was learnt of it in a line."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from mmtune.analysis.embeddings import sample_rows
from mmtune.analysis.figures.look import plain, shown
from mmtune.analysis.figures.search import Tried, history, pair, parallel, timeline
from mmtune.analysis.figures.trials import front
from mmtune.analysis.statistics import holm, mean_p
from mmtune.base.fields import short_names
from mmtune.report.figures import MOST_STRIP, axis_of
from mmtune.report.tables import percent, title
from mmtune.study import StudyKey
from mmtune.tracking import COMPLETE, PRUNED, TrialRun
from mmtune.train.calibration import Calibration
from mmtune.train.objective import Metric, Objective

MOST_AXES = 10
"""Of parallel coordinates; more cannot be read."""
LEAST_PAIRS, MOSTLY, SURELY = 3, 0.8, 0.05
"""So many comparisons, such a share of them, and a chance below that in all that were looked at, make a finding."""
WEIGHTY = 0.4
"""The share of all differences from which a choice is named."""
TOOK = "fit_seconds"


def search_section(
    trials: Sequence[TrialRun], choices: Sequence[str], weights: Mapping[str, float], key: StudyKey
) -> dict[str, Any]:
    """What was tried when and with what. trials: ranked, in whatever state; weights: importances by path."""
    objective, metric = key.objective, key.objective.first
    unit, scale = axis_of(metric)
    if len(trials) < 2:
        return {}
    first = min(trial.started for trial in trials)
    some = drawn(trials, objective, key.seed)
    tried = [tried_of(trial, choices, objective, scale, first) for trial in some]
    scored = [trial for trial in some if trial.state == COMPLETE and objective.values(trial.metrics)]
    scores = [scale * trial.metrics[objective.name] for trial in scored]
    names = short_names(choices)
    # The weightiest last, beside the score; choices of no known weight in their own order before them.
    axes = sorted(names, key=lambda path: weights.get(path, 0.0))[-MOST_AXES:]
    columns = {path: [trial.params.get(path) for trial in scored] for path in axes}
    varied = [path for path in axes if len({plain(value) for value in columns[path]}) > 1]
    two = varied[::-1][:2]
    trained, parts = [own for own in tried if own.seconds], key.trainings
    return {
        "history": history(tried, unit, metric.maximise),
        # Of a divided trial the seconds are the mean of its parts, and nothing says which ran side by side; nor do
        # some of many.
        "timeline": timeline(trained) if trained and parts == 1 and len(some) == len(trials) else None,
        "cost": cost([replace(own, seconds=parts * own.seconds) for own in trained if own.whole], unit, metric),
        "parallel": parallel(
            [(names[path], columns[path]) for path in varied],
            scores,
            [title(trial, choices) for trial in scored],
            unit,
            metric.maximise,
        )
        if varied and len(scored) > 2
        else None,
        "pair": pair([(names[path], columns[path]) for path in two], scores, unit)
        if len(two) == 2 and len(scored) > 3
        else None,
        "pair_names": [names[path] for path in two],
        "weighed": bool(weights),
        "axes_left_out": len(names) - len(axes),
    }


def tried_of(trial: TrialRun, choices: Sequence[str], objective: Objective, scale: float, first: int) -> Tried:
    """A trial as it is drawn. first: when the first one started, in milliseconds since 1970."""
    score = trial.metrics.get(objective.name) if trial.state in (COMPLETE, PRUNED) else None
    return Tried(
        name=title(trial, choices),
        number=trial.number,
        score=None if score is None else scale * score,
        start=(trial.started - first) / 1000,
        seconds=trial.metrics.get(TOOK, 0.0),
        whole=trial.state == COMPLETE,
    )


def drawn(trials: Sequence[TrialRun], objective: Objective, seed: int) -> list[TrialRun]:
    """At most MOST_STRIP of many trials, and whatever leads: what a page says is the best is to be the best of all.

    Those lead that are complete and better than all with lower numbers, or than all that took no longer.
    """
    whole = [trial for trial in trials if trial.state == COMPLETE]
    in_order = sorted(whole, key=lambda trial: trial.number)
    timed = [trial for trial in whole if trial.metrics.get(TOOK)]
    by_cost = sorted(timed, key=lambda trial: (trial.metrics[TOOK], -objective.rank(trial.metrics)))
    leading = {trial.run_id for order in (in_order, by_cost) for trial in leaders(order, objective)}
    places = set(sample_rows(len(trials), MOST_STRIP, seed))
    return [trial for place, trial in enumerate(trials) if place in places or trial.run_id in leading]


def leaders(trials: Sequence[TrialRun], objective: Objective) -> list[TrialRun]:
    """The trials that are better than all before them."""
    found, best = list[TrialRun](), -math.inf
    for trial in trials:
        if objective.rank(trial.metrics) > best:
            found.append(trial)
            best = objective.rank(trial.metrics)
    return found


def cost(trained: Sequence[Tried], unit: str, metric: Metric) -> Any:
    """The score over the seconds that a training took, what nothing beats by both apart; None for fewer than three."""
    points = [(own.seconds, own.score) for own in trained if own.score is not None]
    titles = [own.name for own in trained if own.score is not None]
    if len(points) < 3:
        return None
    best = [not any(s <= seconds and metric.better(v, score) for s, v in points) for seconds, score in points]
    return front(points, best, titles, ("seconds of training", unit))


def findings(
    complete: Sequence[TrialRun],
    choices: Sequence[str],
    weights: Mapping[str, float],
    spread: Mapping[str, tuple[float, float]],
    objective: Objective,
    calibration: Calibration,
) -> list[str]:
    """What the search says beyond its best score, in sentences; none where it is too small to say anything.

    complete: trials that have a score. spread: of the weights, over halves of the trials.
    """
    names = short_names(list(dict.fromkeys([*choices, *weights])))
    fought = [own for path in choices for own in duels(complete, path, choices, names[path], objective)]
    sure = [own for own, p in zip(fought, holm([own.p for own in fought]), strict=True) if p < SURELY and own.agreed]
    largest: dict[str, Duel] = {}
    for own in sorted(sure, key=lambda own: -own.size):
        largest.setdefault(own.choice, own)
    found = [own.told for own in largest.values()][:2]
    heaviest = max(weights, key=lambda path: weights[path], default="")
    # Of noise too a forest learns something, but of each half something else.
    others = [high for path, (_, high) in spread.items() if path != heaviest]
    if not found and heaviest in spread and others and spread[heaviest][0] > max(*others, WEIGHTY):
        found.append(f"{names[heaviest]} makes {100 * weights[heaviest]:.0f} % of the difference between trials")
    return found + together(calibration)


@dataclass(frozen=True, kw_only=True)
class Duel:
    """One value of a choice against another: by how much it won, and with what p-value, in how many pairs of trials."""

    choice: str
    winner: str
    loser: str
    won: int
    pairs: int
    size: float
    p: float

    @property
    def agreed(self) -> bool:
        return self.won >= MOSTLY * self.pairs

    @property
    def told(self) -> str:
        return f"{self.choice} {self.winner} beat {self.loser} in {self.won} of {self.pairs} pairs of trials"


def duels(scored: Sequence[TrialRun], path: str, choices: Sequence[str], name: str, objective: Objective) -> list[Duel]:
    """How the values of a choice fare against each other in trials that differ in nothing else, in LEAST_PAIRS or more.

    Of trials that differ in nothing the mean counts.
    """
    ranks: dict[str, dict[Any, list[float]]] = defaultdict(lambda: defaultdict(list))
    for trial in scored:
        rest = repr([trial.params.get(other) for other in choices if other != path])
        ranks[rest][plain(trial.params.get(path))].append(objective.rank(trial.metrics))
    like = {rest: {value: fmean(all_of) for value, all_of in own.items()} for rest, own in ranks.items()}
    gaps: dict[tuple[str, str], list[float]] = defaultdict(list)
    for own in like.values():
        values = sorted(own, key=shown)
        for place, one in enumerate(values):
            for other in values[place + 1 :]:
                gaps[shown(one), shown(other)].append(own[one] - own[other])
    return [duel_of(name, pair, own) for pair, own in gaps.items() if len(own) >= LEAST_PAIRS]


def duel_of(choice: str, pair: tuple[str, str], gaps: Sequence[float]) -> Duel:
    """A duel by what the first of two values is ahead of the second in each pair of trials."""
    ahead = fmean(gaps) > 0
    won = sum(gap > 0 if ahead else gap < 0 for gap in gaps)
    winner, loser = pair if ahead else pair[::-1]
    size, p = abs(fmean(gaps)), mean_p(gaps)
    return Duel(choice=choice, winner=winner, loser=loser, won=won, pairs=len(gaps), size=size, p=p)


def together(calibration: Calibration) -> list[str]:
    """What the banks gain together, on validation rows, in a sentence; none where fewer than two speak alone of all."""
    if len(calibration.alone) < 2 or any(own.rows != calibration.fused.rows for own in calibration.alone.values()):
        return []
    right = {name: own.accuracy for name, own in calibration.alone.items()}
    best = max(right, key=lambda name: right[name])
    whole = calibration.fused.accuracy
    gain = 100 * (whole - right[best])
    words = "adds" if len(right) == 2 else "add"
    others = " and ".join(name for name in right if name != best)
    if gain < 0.05:
        return [f"{best} alone is right in {percent(right[best])} % of rows, all together in {percent(whole)} %"]
    return [f"{others} {words} {gain:.1f} points to {best} alone ({percent(right[best])} %)"]

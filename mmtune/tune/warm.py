"""A warm start: a study begins with the best trials of earlier ones, as far as their values fit its space.

What did well on other data, with another budget or in another space is likely to do well again (Feurer et al.,
"Initializing Bayesian hyperparameter optimization via meta-learning", 2015). Scores of other data are of another scale,
so only configurations are taken over, and each is trained again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from typing import Any

from mmtune.base.errors import InputError
from mmtune.study.key import AUTO, StudyKey
from mmtune.study.space import Space, Value, draw, point_at
from mmtune.tracking import COMPLETE, MlflowTracker, StudyRun
from mmtune.tracking.runs import LONGEST_TAG, json_object, read_tag

WARM = "mmtune.warm"
MOST, SHARE = 8, 3
"""At most so many trials are taken over, and of those that a study is to make a third."""
Point = Mapping[str, Value]


def warm_points(
    tracker: MlflowTracker, key: StudyKey, space: Space, base: Mapping[str, Any], trials: int
) -> tuple[Point, ...]:
    """The values that a study of `trials` trials begins with: those it began with before, or the best of earlier ones.

    base: values by path for whatever an earlier trial does not say. Raises InputError where there is no earlier trial
    that says anything.
    """
    before = tracker.study(key)
    if before is not None:
        return read_tag(before, WARM, from_lines, "JSON objects, a line each") if WARM in before.tags else ()
    ranked = [
        fitting(tracker, own, space, base) for own in tracker.studies(key.study if key.warm == AUTO else key.warm)
    ]
    # The best of each study first: which of them is most like this one, nobody knows.
    mixed = (point for points in zip_longest(*ranked) for point in points if point is not None)
    found = tuple(islice(distinct(mixed), max(1, min(MOST, trials // SHARE))))
    if not found:
        which = f"{key.study} on other data, seed or budget" if key.warm == AUTO else key.warm
        raise InputError(f"--warm-start needs a complete trial of {which} in {tracker.name} that fits, there is none")
    while len(as_lines(found)) > LONGEST_TAG:
        found = found[:-1]
    return found


def from_lines(text: str) -> tuple[Point, ...]:
    """The inverse of `as_lines`."""
    return tuple(json_object(line) for line in text.splitlines())


def as_lines(points: Sequence[Point]) -> str:
    """Points as a tag says them, a line each."""
    return "\n".join(json.dumps(dict(point)) for point in points)


def fitting(tracker: MlflowTracker, study: StudyRun, space: Space, base: Mapping[str, Any]) -> Iterator[Point]:
    """What the complete trials of a study say of a space, the best trial first."""
    objective = study.key.objective
    complete = [own for own in tracker.trials(study.run_id, (), objective.names) if own.state == COMPLETE]
    for trial in sorted(complete, key=lambda own: -objective.rank(own.metrics)):
        params = {own.path: trial.params[own.path] for own in space if own.path in trial.params}
        fit = {own.path: params[own.path] for own in space if own.admits(params.get(own.path))}
        point = completed(space, base, fit)
        if point is not None:
            yield point


def completed(space: Space, base: Mapping[str, Any], fit: Point) -> Point | None:
    """Values of `fit`, or else the base's, for the choices that may have them; None where `fit` says not even half."""
    at = {**base, **fit}
    found = point_at(space, at)
    told = len(fit.keys() & found.keys())
    return found if told and 2 * told >= len(draw(space, at, lambda choice: at[choice.path])) else None


def distinct(points: Iterator[Point]) -> Iterator[Point]:
    """Each point once."""
    seen: set[frozenset[tuple[str, Value]]] = set()
    for point in points:
        mark = frozenset(point.items())
        if mark not in seen:
            seen.add(mark)
            yield point

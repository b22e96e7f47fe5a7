"""Optuna in memory, behind the verbs that a coordinator needs: rebuild, ask, report, tell.

What happened is in the tracked runs, and a search is made anew from them whenever a study goes on. Trials are addressed
by their index, 0 to n - 1; an index may take several attempts, each of them a trial of Optuna's, and its seed follows
from the index alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from mmtune.base.errors import InputError
from mmtune.base.stopwatch import Stopwatch
from mmtune.study.space import Space, Value, distinct, distribution, sample
from mmtune.tracking import COMPLETE, FAIL, PRUNED, RUNNING
from mmtune.train.objective import MACRO_F1, Objective
from mmtune.tune.halving import Halving

ATTEMPTS = 2
WILCOXON = 0.1
DRAWS = 8
"""So often a sampler draws for a trial, if what it draws was tried."""
optuna.logging.set_verbosity(optuna.logging.WARNING)


class Given(BaseSampler):
    """Draws the values it was given: a point of the grid, or the ones of an earlier attempt.

    otherwise: draws whatever was not given.
    """

    def __init__(self, values: Mapping[str, Value], otherwise: BaseSampler | None = None) -> None:
        self.values, self.otherwise = values, otherwise

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        return {}

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        return {}

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        if param_name in self.values:
            return self.values[param_name]
        if self.otherwise is None:
            raise InputError(f"{param_name} must be among the values of a trial that goes on, got {dict(self.values)}")
        return self.otherwise.sample_independent(study, trial, param_name, param_distribution)


def make_samplers(name: str, *seed: int) -> Iterator[BaseSampler]:
    """Samplers by their name on the command line, each of another seed; the last one random."""
    for draw in range(DRAWS):
        yield make_sampler(name, derive_seed(*seed, 1, *([draw] if draw else [])))
    yield make_sampler("random", derive_seed(*seed, 1, DRAWS))


def make_sampler(name: str, seed: int) -> BaseSampler:
    """A sampler by its name on the command line."""
    makers = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed, deterministic_objective=False),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
    }
    return makers[name]()


def directions(objective: Objective) -> list[StudyDirection]:
    """The objective in Optuna's terms."""
    return [StudyDirection.MAXIMIZE if own.maximise else StudyDirection.MINIMIZE for own in objective.metrics]


def derive_seed(*parts: int) -> int:
    """A 32-bit seed that follows from the parts alone."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


@dataclass(kw_only=True, slots=True)
class Attempt:
    """One attempt at the trial of an index: its values, how it stands, and what it reported by rung, or by part.

    scores: of a complete one, the value of each metric of the objective.

    started: milliseconds since 1970. retry: it failed, and another attempt makes sense. lost: it ended through no fault
    of its own, and does not count.
    """

    index: int
    started: int = 0
    values: Mapping[str, Value] = field(default_factory=dict)
    state: str = RUNNING
    scores: tuple[float, ...] = ()
    reports: dict[int, float] = field(default_factory=dict)
    retry: bool = False
    lost: bool = False

    @property
    def score(self) -> float | None:
        """The value of the first metric, None without any."""
        return self.scores[0] if self.scores else None

    @property
    def ended_well(self) -> bool:
        return self.state in (COMPLETE, PRUNED)


class Search:
    """The search of one study.

    rungs: the epochs after which a trial is compared with others; compares_parts: whether it is after each of its parts
    instead, by Wilcoxon's signed-rank test against the best trial. Neither is with an objective of several metrics.
    watch: counts the seconds of the calls that a running study makes.
    """

    def __init__(
        self,
        space: Space,
        base: Mapping[str, Any],
        rungs: Iterable[int] = (),
        compares_parts: bool = False,
        objective: Objective = MACRO_F1,
    ) -> None:
        self.space, self.base, self.objective = space, base, objective
        self.rungs, self.compares_parts = frozenset(rungs), compares_parts
        with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            pruner = optuna.pruners.WilcoxonPruner(p_threshold=WILCOXON, n_startup_steps=2)
        self.study = optuna.create_study(directions=directions(objective), sampler=Given({}), pruner=pruner)
        self.halving = Halving(self.rungs)
        self.watch = Stopwatch()
        self.live: dict[int, optuna.Trial] = {}
        self.made: list[Attempt] = []
        self.tried: set[int] = set()
        self.distinct = distinct(space, base)
        self.by_index: dict[int, list[Attempt]] = {}

    def rebuild(self, attempts: Iterable[Attempt]) -> None:
        """Take in what happened so far, in order of time; one that is under way is live again.

        Samplers then draw what they would have drawn from the same trials. Raises InputError where the space does not
        admit a value.
        """
        for attempt in sorted(attempts, key=lambda own: (own.started, own.index)):
            self._require_admitted(attempt)
            if attempt.state == RUNNING:
                self.ask(attempt.index, [Given(attempt.values)], attempt.started)
                for step, score in sorted(attempt.reports.items()):
                    self.report(attempt.index, step, score)
                continue
            self.study.add_trial(self._frozen(attempt))
            self._note(attempt)
            for rung in self.rungs & attempt.reports.keys():
                self._compare(attempt.index, rung, attempt.reports[rung])

    def _require_admitted(self, attempt: Attempt) -> None:
        by_path = {choice.path: choice for choice in self.space}
        for path, value in attempt.values.items():
            if path not in by_path or not by_path[path].admits(value):
                where = str(by_path.get(path, "the space"))
                raise InputError(f"{path} must be in {where}, trial {attempt.index:02d} was made with {value!r}")

    def _frozen(self, attempt: Attempt) -> optuna.trial.FrozenTrial:
        by_path = {choice.path: choice for choice in self.space}
        return optuna.trial.create_trial(
            state=TrialState[attempt.state],
            values=list(attempt.scores) if attempt.state == COMPLETE else None,
            params=dict(attempt.values),
            distributions={path: distribution(by_path[path]) for path in attempt.values},
            intermediate_values=dict(attempt.reports),
        )

    def attempts(self) -> Sequence[Attempt]:
        """Every attempt so far, in order of time."""
        return self.made

    def attempts_at(self, index: int) -> list[Attempt]:
        """The attempts at one index, in order of time."""
        return self.by_index.get(index, [])

    def open_indices(self, trials: int) -> dict[int, Mapping[str, Value]]:
        """The indices below `trials` that need another attempt, with the values of the last one if there was one."""
        found = {index: self.attempts_at(index) for index in range(trials)}
        return {index: last_values(own) for index, own in found.items() if not closed(own)}

    def left(self, trials: int) -> tuple[int, int]:
        """How many of the first `trials` indices are still to be done, and how many have failed for good."""
        found = [self.attempts_at(index) for index in range(trials)]
        done = sum(any(a.ended_well for a in own) for own in found)
        failed = sum(spent(own) and not any(a.ended_well for a in own) for own in found)
        return trials - done - failed, failed

    def begun(self) -> int:
        """How many indices have had an attempt."""
        return len(self.by_index)

    def ask(self, index: int, samplers: Iterable[BaseSampler], started: int = 0) -> dict[str, Value]:
        """Begin an attempt at an index, with values that the first of `samplers` draws which draws what was not tried.

        Where all has been tried, or none draws anything else, the last draw counts.
        """
        with self.watch:
            trial, values = self._draw(samplers)
            self.live[index] = trial
            self._note(Attempt(index=index, started=started, values=values))
            return values

    def _draw(self, samplers: Iterable[BaseSampler]) -> tuple[optuna.Trial, dict[str, Value]]:
        drawn: tuple[optuna.Trial, dict[str, Value]] | None = None
        for sampler in samplers:
            if drawn is not None:
                # Samplers learn nothing of a trial that failed.
                self.study.tell(drawn[0], state=TrialState.FAIL)
            self.study.sampler = sampler
            trial = self.study.ask()
            drawn = trial, sample(self.space, self.base, trial)
            if fingerprint(drawn[1]) not in self.tried or len(self.tried) >= self.distinct:
                break
        assert drawn is not None
        return drawn

    def report(self, index: int, step: int, score: float) -> bool:
        """Report a rung, or a part; whether the trial is worth going on with. What was reported stays as it was."""
        with self.watch:
            trial, attempt = self.live[index], self.attempts_at(index)[-1]
            if step not in attempt.reports:
                trial.report(score, step)
                attempt.reports[step] = score
                if step in self.rungs:
                    self._compare(index, step, score)
            if self.compares_parts:
                return not trial.should_prune()
            return step not in self.rungs or self.halving.goes_on(step, self.objective.first.rank(score))

    def tell(self, index: int, state: str, *scores: float, retry: bool = False) -> None:
        """End the attempt under way, a complete one with the value of each metric."""
        with self.watch:
            attempt = self.attempts_at(index)[-1]
            attempt.state, attempt.scores, attempt.retry = state, scores if state == COMPLETE else (), retry
            self.study.tell(self.live.pop(index), list(attempt.scores) or None, state=TrialState[state])

    def _compare(self, index: int, rung: int, score: float) -> None:
        # A trial counts once at a rung, however many attempts it takes.
        if not any(rung in earlier.reports for earlier in self.attempts_at(index)[:-1]):
            self.halving.add(rung, self.objective.first.rank(score))

    def _note(self, attempt: Attempt) -> None:
        self.tried.add(fingerprint(attempt.values))
        self.by_index.setdefault(attempt.index, []).append(attempt)
        self.made.append(attempt)


def fingerprint(values: Mapping[str, Value]) -> int:
    """What tells values from others: all of 10,000 trials themselves would be as much as everything else here."""
    return hash(repr(sorted(values.items())))


def spent(attempts: Sequence[Attempt]) -> bool:
    """Whether enough attempts at one index have failed."""
    failed = [a for a in attempts if a.state == FAIL and not a.lost]
    return len(failed) >= ATTEMPTS or any(not a.retry for a in failed)


def closed(attempts: Sequence[Attempt]) -> bool:
    """Whether the attempts at one index leave nothing to try: one is under way, ended well, or enough have failed."""
    return spent(attempts) or any(a.ended_well or a.state == RUNNING for a in attempts)


def last_values(attempts: Sequence[Attempt]) -> Mapping[str, Value]:
    """The values of the last attempt, {} where there was none."""
    return attempts[-1].values if attempts else {}

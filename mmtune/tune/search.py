"""Optuna behind the four verbs that a coordinator needs: ask, report, tell, resume.

A study is one journal file, or one of Optuna's in PostgreSQL, written by one process. Trials are addressed by their
index, 0 to n - 1; an index may take several attempts, each of them a trial of Optuna's, and its seed follows from the
index alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.trial import TrialState

from mmtune.base.errors import InputError
from mmtune.base.files import make_folder
from mmtune.base.postgres import reached, shown
from mmtune.base.stopwatch import Stopwatch
from mmtune.study.space import Space, Value, describe, fingerprint, sample
from mmtune.tune.halving import Halving, rungs
from mmtune.tune.journal import Journal, is_operation, repair_journal

ATTEMPTS = 2
WILCOXON = 0.1
REPORTED = "val_macro_f1"
"""The metric of an epoch that a search hears at a rung."""
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
        if param_name in self.values or self.otherwise is None:
            return self.values[param_name]
        return self.otherwise.sample_independent(study, trial, param_name, param_distribution)


def make_sampler(name: str, seed: int) -> BaseSampler:
    """A sampler by its name on the command line."""
    makers = {
        "tpe": lambda: optuna.samplers.TPESampler(seed=seed),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed, deterministic_objective=False),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False),
    }
    return makers[name]()


def derive_seed(*parts: int) -> int:
    """A 32-bit seed that follows from the parts alone."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One of Optuna's trials: the index that it is for, its values, its tracked run and how it stands.

    interrupted: it was cut short through no fault of its own; retry: it failed, and another attempt makes sense.
    """

    id: int
    index: int
    values: Mapping[str, Value] = field(default_factory=dict)
    run_id: str = ""
    state: str = "RUNNING"
    score: float | None = None
    interrupted: bool = False
    retry: bool = False

    @property
    def ended_well(self) -> bool:
        return self.state in ("COMPLETE", "PRUNED")


def open_study(path: Path, name: str) -> optuna.Study:
    """Optuna's study in a journal, made if there is none; InputError where the journal is damaged."""
    try:
        return study_in(JournalStorage(Journal(path)), name)
    except OSError:
        raise
    except Exception as error:
        lines = path.read_bytes().splitlines()
        bad = next((number for number, line in enumerate(lines, start=1) if not is_operation(line)), None)
        where = f"line {bad} is none" if bad else f"it ends in {type(error).__name__}"
        raise InputError(
            f"{path} must be a journal of Optuna's, {where}; move it away, and the same command makes it anew "
            "from the tracked runs"
        ) from error


def study_in(storage: BaseStorage, name: str) -> optuna.Study:
    """Optuna's study of that name, made if there is none."""
    with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            direction="maximize",
            sampler=Given({}),
            pruner=optuna.pruners.WilcoxonPruner(p_threshold=WILCOXON, n_startup_steps=2),
            load_if_exists=True,
        )
    # Nothing waits in Optuna's own queue, and to look there reads every trial under way from a database.
    study._pop_waiting_trial_id = lambda: None  # type: ignore[method-assign]
    return study


def study_at(url: str, name: str) -> optuna.Study:
    """Optuna's study in a PostgreSQL database, made if there is none.

    Raises InputError where that does not answer, or has tables that are not this Optuna's.
    """
    try:
        with reached(url):
            return study_in(RDBStorage(url, engine_kwargs={"pool_pre_ping": True}), name)
    except RuntimeError as error:
        reason = str(error).partition(". ")[0]
        raise InputError(f"{shown(url)} must be empty or a database of Optuna's: {reason}") from error


class Search:
    """The search of one study, in the journal at `path` or in the database at `url`; the caller holds its lock.

    watch: counts the seconds of the calls that a running study makes. cut: how many bytes at the journal's end had to
    go.

    prune: whether hopeless trials end early, at rungs of their epochs, or, where a trial has several parts, after any
    part that leaves it significantly behind the best trial (Wilcoxon's signed-rank test over the parts of both).
    Raises InputError where the journal was written for another space.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        space: Space,
        base: Mapping[str, Any],
        epochs: int,
        prune: bool,
        parts: int = 1,
        url: str | None = None,
    ) -> None:
        make_folder(path.parent)
        self.cut = 0 if url else repair_journal(path)
        self.space, self.base = space, base
        self.rungs = frozenset(rungs(epochs)) if prune and parts == 1 else frozenset()
        self.compares_parts = prune and parts > 1
        self.study = study_at(url, name) if url else open_study(path, name)
        self.storage = self.study._storage
        self._check_space()
        self.live: dict[int, optuna.Trial] = {}
        self.watch = Stopwatch()
        self.made: list[Attempt] = []
        self.by_index: dict[int, list[int]] = {}
        trials = self.study.get_trials(deepcopy=False)
        self.halving = Halving(self.rungs, (report for trial in trials for report in trial.intermediate_values.items()))
        for trial in trials:
            self._note(attempt_of(trial))

    def _check_space(self) -> None:
        found, wanted = self.study.user_attrs.get("space"), fingerprint(self.space)
        if found != wanted:
            self.check_unchanged("space_lines", describe(self.space))
            self.study.set_user_attr("space", wanted)

    def check_runs_in(self, place: str) -> None:
        """Remember where the runs of its attempts are, or raise InputError where that is another place now."""
        before = self.study.user_attrs.get("runs_in")
        if before is None:
            self.study.set_user_attr("runs_in", place)
        elif before != place:
            raise InputError(f"the runs of {self.study.study_name} must be in {before}, where it began; not in {place}")

    def check_unchanged(self, name: str, lines: Sequence[str]) -> None:
        """Remember what the trials are made from, or raise InputError where it is no longer what it was."""
        before = self.study.user_attrs.get(name)
        if before is None:
            self.study.set_user_attr(name, list(lines))
        elif set(before) != set(lines):
            was, now = ("; ".join(sorted(own)) for own in (set(before) - set(lines), set(lines) - set(before)))
            raise InputError(
                f"the search space of {self.study.study_name} must stay as it was when its trials were made: it was "
                f"[{was}], now it is [{now}]; restore it, or start a study of its own with another --seed"
            )

    def attempts(self) -> Sequence[Attempt]:
        """Every attempt so far, in order of time."""
        return self.made

    def attempts_at(self, index: int) -> list[Attempt]:
        """The attempts at one index, in order of time."""
        return [self.made[number] for number in self.by_index.get(index, ())]

    def open_indices(self, trials: int, tracked: Container[str]) -> dict[int, Mapping[str, Value]]:
        """The indices below `trials` that need an attempt; one that ended well counts only while its run is tracked."""
        return open_indices([a for a in self.made if a.run_id in tracked or not a.ended_well], trials)

    def ask(self, index: int, sampler: BaseSampler) -> dict[str, Value]:
        """Begin an attempt at an index, with values that `sampler` draws."""
        self.study.sampler = sampler
        with self.watch, warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            trial = self.study.ask()
            trial.set_user_attr("index", index)
            self.live[index] = trial
            self._note(Attempt(id=trial.number, index=index))
            values = sample(self.space, self.base, trial)
            self._change(trial, values=trial.params)
            return values

    def attach(self, index: int, run_id: str) -> None:
        """Name the tracked run of the attempt under way."""
        with self.watch:
            self.live[index].set_user_attr("run_id", run_id)
            self._change(self.live[index], run_id=run_id)

    def report(self, index: int, step: int, score: float) -> bool:
        """Report a rung, or a part; whether the trial is worth going on with."""
        with self.watch:
            self.live[index].report(score, step)
            return self.halving.goes_on(step, score) if self.rungs else not self.live[index].should_prune()

    def tell(self, index: int, state: str, score: float | None, interrupted: bool = False, retry: bool = False) -> None:
        """End the attempt under way."""
        with self.watch:
            self._end(self.live.pop(index), state, score, interrupted, retry)

    def take_in(
        self,
        index: int,
        values: Mapping[str, Value],
        run_id: str,
        state: str,
        score: float | None,
        reports: Mapping[int, float],
        retry: bool = False,
    ) -> None:
        """Note an attempt that has ended and that the journal has lost; `reports` are its scores at rungs."""
        self.ask(index, Given(values))
        self.attach(index, run_id)
        for step, reported in sorted(reports.items()):
            self.report(index, step, reported)
        self.tell(index, state, score, retry=retry)

    def settle(
        self, number: int, state: str, score: float | None, interrupted: bool = False, retry: bool = False
    ) -> None:
        """End an attempt of a coordinator that is gone, by its id."""
        trial_id = self.storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
        self._end(optuna.Trial(self.study, trial_id), state, score, interrupted, retry)

    def _end(self, trial: optuna.Trial, state: str, score: float | None, interrupted: bool, retry: bool) -> None:
        if state == "FAIL":
            trial.set_user_attr("interrupted", interrupted)
            trial.set_user_attr("retry", retry)
            self._change(trial, interrupted=interrupted, retry=retry)
        value = score if state == "COMPLETE" else None
        self.study.tell(trial, value, state=TrialState[state])
        self._change(trial, state=state, score=value)

    def _change(self, trial: optuna.Trial, **news: Any) -> None:
        """Note what was just written of a trial of Optuna's; to read it again would cost a database more than that."""
        self._note(replace(self.made[trial.number], **news))

    def _note(self, attempt: Attempt) -> None:
        if attempt.id == len(self.made):
            self.made.append(attempt)
            self.by_index.setdefault(attempt.index, []).append(attempt.id)
        else:
            self.made[attempt.id] = attempt


def attempt_of(trial: optuna.trial.FrozenTrial) -> Attempt:
    """An Attempt from Optuna's trial."""
    attrs = trial.user_attrs
    complete = trial.state == TrialState.COMPLETE
    return Attempt(
        id=trial.number,
        index=attrs.get("index", -1),
        values=trial.params,
        run_id=attrs.get("run_id", ""),
        state=trial.state.name,
        score=trial.value if complete else None,
        interrupted=attrs.get("interrupted", False),
        retry=attrs.get("retry", False),
    )


def open_indices(attempts: list[Attempt], trials: int) -> dict[int, Mapping[str, Value]]:
    """The indices that still need an attempt, with the values of the last attempt where there was one.

    An interrupted attempt does not count; a failed one is made ATTEMPTS times where a retry makes sense.
    """
    by_index: dict[int, list[Attempt]] = {index: [] for index in range(trials)}
    for attempt in attempts:
        by_index.setdefault(attempt.index, []).append(attempt)
    return {index: drawn_values(by_index[index]) for index in range(trials) if not closed(by_index[index])}


def closed(attempts: list[Attempt]) -> bool:
    """Whether the attempts at one index leave nothing to try."""
    failed = [a for a in attempts if a.state == "FAIL" and not a.interrupted]
    spent = len(failed) >= ATTEMPTS or any(not a.retry for a in failed)
    return spent or any(a.ended_well for a in attempts)


def drawn_values(attempts: list[Attempt]) -> Mapping[str, Value]:
    """The values of the last attempt that had all of them; a tracked run is begun only then."""
    return next((a.values for a in reversed(attempts) if a.run_id), {})

"""Optuna behind the four verbs that a coordinator needs: ask, report, tell, resume.

A study is one journal file, written by one process. Trials are addressed by their index, 0 to n - 1; an
index may take several attempts, each of them a trial of Optuna's, and its seed follows from the index alone.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._storage import JournalOperation
from optuna.trial import TrialState

from mmtune.errors import InputError
from mmtune.files import make_folder
from mmtune.halving import Halving, rungs
from mmtune.space import Space, Value, describe, fingerprint, sample
from mmtune.stopwatch import Stopwatch

ATTEMPTS = 2
WILCOXON = 0.1
optuna.logging.set_verbosity(optuna.logging.WARNING)
# What Optuna notes of a trial before it has ended.
UNDER_WAY = {
    JournalOperation.CREATE_TRIAL,
    JournalOperation.SET_TRIAL_PARAM,
    JournalOperation.SET_TRIAL_INTERMEDIATE_VALUE,
    JournalOperation.SET_TRIAL_USER_ATTR,
    JournalOperation.SET_TRIAL_SYSTEM_ATTR,
}


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
    values: Mapping[str, Value]
    run_id: str
    state: str
    score: float | None
    interrupted: bool
    retry: bool

    @property
    def ended_well(self) -> bool:
        return self.state in ("COMPLETE", "PRUNED")


def repair_journal(path: Path) -> int:
    """Cut the torn last line that a kill may have left; returns the number of bytes cut.

    Optuna loads past a torn line once, and appends to it; the study is lost from then on.
    """
    # A lock that is left behind can only be a dead process's: ours is held on the whole study.
    with suppress(FileNotFoundError):
        Path(f"{path}.lock").unlink()
    if not path.exists():
        return 0
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
    return len(content) - whole


class Journal(JournalFileBackend):
    """The journal file of a study whose lock its one writer holds, so that no write needs a lock of its own.

    Writing waits for the disk where a trial ends: a power cut may cost the begin of the trials under way, whose runs
    are ended as interrupted on resume, and no more.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.path = path

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        with self.path.open("ab") as file:
            file.write(lines.encode())
            if any(log["op_code"] not in UNDER_WAY for log in logs):
                file.flush()
                os.fsync(file.fileno())


class Search:
    """The journal of one study; the caller holds the study's lock.

    watch: counts the seconds of the calls that a running study makes.

    prune: whether hopeless trials end early, at rungs of their epochs, or, where a trial has several parts, after any
    part that leaves it significantly behind the best trial (Wilcoxon's signed-rank test over the parts of both).
    Raises InputError where the journal was written for another space.
    """

    def __init__(
        self, path: Path, name: str, space: Space, base: Mapping[str, Any], epochs: int, prune: bool, parts: int = 1
    ) -> None:
        make_folder(path.parent)
        repair_journal(path)
        self.space, self.base = space, base
        self.rungs = frozenset(rungs(epochs)) if prune and parts == 1 else frozenset()
        self.compares_parts = prune and parts > 1
        self.storage = JournalStorage(Journal(path))
        with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            self.study = optuna.create_study(
                study_name=name,
                storage=self.storage,
                direction="maximize",
                sampler=Given({}),
                pruner=optuna.pruners.WilcoxonPruner(p_threshold=WILCOXON, n_startup_steps=2),
                load_if_exists=True,
            )
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
            self._look(trial)
            values = sample(self.space, self.base, trial)
            self._look(trial)
            return values

    def attach(self, index: int, run_id: str) -> None:
        """Name the tracked run of the attempt under way."""
        with self.watch:
            self.live[index].set_user_attr("run_id", run_id)
            self._look(self.live[index])

    def report(self, index: int, step: int, score: float) -> bool:
        """Report a rung, or a part; whether the trial is worth going on with."""
        with self.watch:
            self.live[index].report(score, step)
            return self.halving.goes_on(step, score) if self.rungs else not self.live[index].should_prune()

    def tell(self, index: int, state: str, score: float | None, interrupted: bool = False, retry: bool = False) -> None:
        """End the attempt under way."""
        with self.watch:
            self._end(self.live.pop(index), state, score, interrupted, retry)

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
        value = score if state == "COMPLETE" else None
        self.study.tell(trial, value, state=TrialState[state])
        self._look(trial)

    def _look(self, trial: optuna.Trial) -> None:
        """Note how a trial of Optuna's stands; reading all of them again would cost more with every trial."""
        self._note(attempt_of(self.storage.get_trial(trial._trial_id)))

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

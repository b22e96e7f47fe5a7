"""From data and time to a registered model with a certificate, step by step; each is there when a call is cut short.

1. The study's space is searched, hopeless trials stopped early.
2. The best configurations are trained again with other seeds.
3. All that was kept answers the validation rows; those that answer best together are an ensemble, those that share a
   configuration a soup. The best of these and of the single networks, by validation, is the model.
4. It is scored on the test partition, once, and registered, unless it is worse than the champion.
5. The certificate says all of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from mmtune.analysis.embeddings import sample_rows
from mmtune.base.errors import InputError
from mmtune.base.files import locked
from mmtune.base.progress import say, steps
from mmtune.best.certificate import Certificate, lines, write_certificate
from mmtune.best.members import Candidate, answered, candidate, ensemble_of, greedy, log_loss, soup_of, soups
from mmtune.best.pace import Pace, epoch_seconds, paced
from mmtune.best.state import State, read_state, write_state
from mmtune.best.tracked import SINGLE, Final, final_key, track_finals
from mmtune.data.dataset import Dataset, Progress
from mmtune.data.protocols import Split, split
from mmtune.networks.card import MODEL
from mmtune.networks.randomness import CPU
from mmtune.networks.storage import Loaded
from mmtune.serve.logged import DROPOUT
from mmtune.serve.measured import VALIDATES
from mmtune.serve.promotion import promote
from mmtune.serve.robustness import measure
from mmtune.serve.scoring import score_test
from mmtune.study import Study
from mmtune.study.options import MOST_TRIALS, Options
from mmtune.study.space import describe
from mmtune.tracking import COMPLETE, REMOVED, MlflowTracker, TrialRun
from mmtune.tracking.runs import drawn_values
from mmtune.train.batches import Resident, Rows
from mmtune.train.objective import objective_of
from mmtune.train.trial import take
from mmtune.tune.machine import PoolMaker, most_workers, training_device
from mmtune.tune.plan import protocol_of
from mmtune.tune.run import Outcome, run_study

SEARCH, CLOSING = 0.55, 0.12
"""Shares of the time: what the search ends after, and what is kept for all that follows the last training."""
DEAREST = 2.5
"""So many times as long as the base's may a training of the search take."""
AGAIN, SEEDS = 3, 2
"""So many configurations are trained again, each with so many other seeds, as far as time goes."""
CANDIDATES, ASKED = 10, 4_000
"""At most so many networks are asked about at most so many validation rows."""
MEASURED, LEAST_SECONDS, LEAST_MOST = 40, 5.0, (100, 2_000)
"""Levels of robustness, or so, and for how long at least: what one row costs decides on how many rows, from and to."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is asked for. seconds: of all calls together; options: where and how trainings run.

    data: the folder that was named, None for the bundled sample.
    """

    study: Study
    dataset: Dataset
    seconds: float
    options: Options
    root: Path
    console: Console
    stopped: Callable[[], bool]
    make_pool: PoolMaker
    data: Path | None = None

    @property
    def protocol(self) -> str:
        return protocol_of(self.options, self.dataset)

    @property
    def path(self) -> Path:
        """Where its state is kept."""
        own = f"{self.study.name}-{self.dataset.digest[:8]}.{self.protocol}.seed{self.options.seed}"
        return self.root / "best" / f"{own.replace(':', '-')}.json"

    def say(self, text: str) -> None:
        say(self.console, text)


def find_best(task: Task) -> Path | None:
    """Do what is left of a task; the certificate's path, None where it was stopped.

    Raises InputError where the data set has no test partition, or there is not time enough for a single trial.
    """
    began = time.monotonic()
    task.dataset.require_test()
    sides = split(task.dataset.train, task.protocol, task.options.seed)
    state = read_state(task.path)
    if state is not None and state.certificate and task.seconds <= state.seconds:
        hours = f"{task.study.name} has had its {task.seconds / 3600:g} hours"
        task.say(f"{hours}; more --hours go on from {state.certificate}")
        return Path(state.certificate)
    if state is None:
        state = State(pace=pace_of(task, sides))
        write_state(task.path, state)
    # As if this call had begun when the first one would have, had nothing come between them.
    started = began - state.spent
    task = replace(task, study=state.pace.narrowed(task.study))
    note = f"pid {os.getpid()} on {os.uname().nodename}"
    with locked(task.path.with_suffix(".lock"), f"one command at a time may make {task.study.name}", note):
        return gone_on(task, state, sides, started)


def gone_on(task: Task, state: State, sides: Split, started: float) -> Path | None:
    """The steps that are left, as `find_best`; started: when the first call would have begun."""
    try:
        search = searched(task, state, started)
        if search is None:
            return None
        if not state.again:
            state = replace(state, again=again_of(task, search))
            write_state(task.path, state)
        trained = trained_again(task, state, started)
        if task.stopped():
            return None
        path = finished(task, state, [own for own in (search, trained) if own], sides, started)
        if path is not None:
            state = replace(state, certificate=str(path), seconds=task.seconds)
        return path
    finally:
        write_state(task.path, replace(state, spent=time.monotonic() - started))


def pace_of(task: Task, sides: Split) -> Pace:
    """What a first call decides: how long a training is, and what there is no time for."""
    device = training_device(task.options)
    workers = task.options.workers or most_workers(task.options, device)
    task.say(f"space of {task.study.name}:")
    for line in describe(task.study.space):
        task.say(f"  {line}")
    task.say("timing an epoch")
    own = paced(
        task.study,
        SEARCH * task.seconds,
        workers,
        lambda config: epoch_seconds(config, task.dataset, sides, device),
    )
    for path, option in own.chosen.items():
        task.say(f"{path}: {option} is where the search begins, as the study's own would have too few epochs")
    for path, options in own.left_out.items():
        task.say(f"{path}: there is no time for {', '.join(options)}")
    task.say(f"an epoch of the base takes about {own.seconds:.1f} s here: trainings have {own.epochs} epochs")
    return own


def hours_until(end: float) -> float:
    """The hours until a moment of `time.monotonic`; where it is over, so few that nothing begins."""
    return float(f"{max(end - time.monotonic(), 0.001) / 3600:.3g}")


def searched(task: Task, state: State, started: float) -> Outcome | None:
    """The search, gone on with as long as there is time for it; None where it was stopped.

    No training of it goes on for much longer than the base's: a space has networks that take ten times as long.
    """
    minutes = float(f"{DEAREST * state.pace.epochs * state.pace.seconds / 60:.3g}")
    hours = hours_until(started + SEARCH * task.seconds)
    options = replace(task.options, epochs=state.pace.epochs, hours=hours, trial_minutes=minutes)
    found = run_study(task.study, task.dataset, options, task.root, task.console, task.stopped, task.make_pool)
    if found is None or task.stopped():
        return None
    if found.best is None:
        raise InputError(f"no trial of {task.study.name} is complete in {task.seconds / 3600:g} hours: give it more")
    return found


def again_of(task: Task, search: Outcome) -> dict[str, dict[str, Any]]:
    """What is trained again: the best configurations of the search, the best first, with one seed each in turn."""
    tracker = MlflowTracker(task.root)
    ranked = complete_trials(tracker, search)[:AGAIN]
    return {
        f"trial_{trial.number:02d}_seed_{seed}": drawn_values(trial) for seed in range(1, SEEDS + 1) for trial in ranked
    }


def trained_again(task: Task, state: State, started: float) -> Outcome | None:
    """The best configurations trained again as tries, whole, as far as there is time."""
    tries = replace(task.study, grid=None, phases=(), tries=state.again, seeds_from=MOST_TRIALS)
    end = started + (1 - CLOSING) * task.seconds
    options = replace(task.options, epochs=state.pace.epochs, sampler="tries", hours=hours_until(end), prune=False)
    return run_study(tries, task.dataset, options, task.root, task.console, task.stopped, task.make_pool)


def complete_trials(tracker: MlflowTracker, outcome: Outcome) -> list[TrialRun]:
    """The complete trials of a study whose files are kept, the best first."""
    parent = tracker.study(outcome.key)
    found = [] if parent is None else tracker.trials(parent.run_id)
    objective = outcome.key.objective
    kept = [own for own in found if own.state == COMPLETE and REMOVED not in own.tags and objective.values(own.metrics)]
    return sorted(kept, key=lambda own: (-objective.rank(own.metrics), own.number))


def finished(task: Task, state: State, outcomes: Sequence[Outcome], sides: Split, started: float) -> Path | None:
    """Choose, track, score once, register and certify; the certificate's path, None where it was stopped."""
    tracker, end = MlflowTracker(task.root), started + task.seconds
    objective = objective_of(task.study.objective)
    resident = Resident(task.dataset.train, len(task.dataset.classes), CPU, task.study.missing)
    asked = sides.validation[sample_rows(len(sides.validation), ASKED, task.options.seed)]
    some = take(resident.rows(task.study.base.model.reads), asked)
    with steps(task.console) as advance:
        began = time.monotonic()
        candidates = candidates_of(task, tracker, outcomes, some, end, advance)
        row_seconds = (time.monotonic() - began) / max(1, len(candidates)) / len(asked)
        if task.stopped():
            return None
        finals = choices_of(candidates, some)
        key = final_key(task.study, task.dataset, task.options, state.pace.epochs)
        study = track_finals(tracker, task.study, task.dataset, key, finals, resident, sides)
        promoted = promote(tracker, study, task.dataset, told=objective, advance=advance)
        single = next(own for own in reversed(tracker.trials(study.run_id)) if own.name.startswith(SINGLE))
        if single.run_id != promoted.trial.run_id:
            score_test(tracker, single, task.dataset, objective)
        left = max(LEAST_SECONDS, (end - time.monotonic()) / 2)
        most = int(np.clip(left / (MEASURED * row_seconds * len(finals[0].members)), *LEAST_MOST))
        measured = measure(tracker, study, promoted.trial, task.dataset, VALIDATES, advance, most)
    told = Certificate(
        study=study,
        promoted=promoted,
        finals=[own for own in tracker.trials(study.run_id) if own.state == COMPLETE],
        searches=[(own, tracker.tally(parent.run_id)) for own in outcomes if (parent := tracker.study(own.key))],
        members={one.name: one.run for one in candidates},
        measured=measured,
        space=task.study.space,
        seconds=time.monotonic() - started,
        asked=task.seconds,
        data=task.data,
    )
    path = write_certificate(tracker, told, task.dataset)
    for line in lines(tracker, told, task.dataset, path):
        task.say(line)
    return path


def candidates_of(
    task: Task, tracker: MlflowTracker, outcomes: Sequence[Outcome], rows: Rows, end: float, advance: Progress
) -> list[Candidate]:
    """The best trained networks, asked about validation rows, as many as there is time for; two at least."""
    trials = {
        f"{'again' if own.key.sampler == 'tries' else 'search'}_{trial.number:02d}": trial
        for own in outcomes
        for trial in complete_trials(tracker, own)
    }
    objective = objective_of(task.study.objective)
    ranked = sorted(trials, key=lambda name: -objective.rank(trials[name].metrics))[:CANDIDATES]
    found: list[Candidate] = []
    for name in ranked:
        advance("validation answers", len(found), len(ranked))
        if task.stopped() or (len(found) > 1 and time.monotonic() > end - 0.7 * CLOSING * task.seconds):
            break
        found.append(candidate(name, trials[name], tracker.artifact(trials[name].run_id, MODEL), rows))
    advance("validation answers", len(ranked), len(ranked))
    return found


def choices_of(candidates: Sequence[Candidate], rows: Rows) -> list[Final]:
    """The ensemble, where it has more than one member; the best soup, where it beats the best single one; and that."""
    labels = rows.labels.numpy()
    losses = [log_loss(one.shares, labels) for one in candidates]
    best = int(np.argmin(losses))
    finals = [final(SINGLE, candidates, {best: 1}, candidates[best].loaded)]
    for places in soups(candidates):
        loaded = soup_of(candidates, places)
        if log_loss(answered(loaded, rows)[1], labels) < losses[best]:
            finals.append(final("soup", candidates, dict.fromkeys(places, 1), loaded))
    drawn = greedy([one.shares for one in candidates], labels)
    if len(drawn) > 1:
        finals.append(final("ensemble", candidates, drawn, ensemble_of(candidates, drawn)))
    return finals[::-1]


def final(what: str, candidates: Sequence[Candidate], drawn: Mapping[int, int], loaded: Loaded) -> Final:
    """A network made of candidates, by their places, each as often as it was drawn."""
    count = sum(drawn.values())
    members = {candidates[place].name: times / count for place, times in drawn.items()}
    dropouts = [candidates[place].run.params.get(DROPOUT, 0.0) for place in drawn]
    return Final(name=f"{what} of {' and '.join(members)}", loaded=loaded, members=members, dropout=min(dropouts))

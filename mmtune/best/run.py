"""From data and time to a registered model with a certificate, step by step; each is there when a call is cut short.

1. The study's space is searched, hopeless trials stopped early.
2. The best configurations are trained again with other seeds.
3. All that was kept answers the validation rows; those that answer best together are an ensemble, those that share a
   configuration a soup. The best of these and of the single networks, by validation, is the model.
4. It is scored on the test partition, once, and registered, unless it is worse than the champion.
5. The certificate says all of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mmtune.base.errors import InputError, first_line
from mmtune.base.files import locked
from mmtune.best.closing import AGAIN_NAME, finished
from mmtune.best.pace import Pace, at_once, enough_epochs, epoch_seconds, longer, paced
from mmtune.best.state import State, read_state, write_state
from mmtune.best.task import CLOSING, Clock, Found, Task
from mmtune.best.together import complete_trials
from mmtune.data.protocols import Split, split
from mmtune.networks.kinds import remember
from mmtune.serve.versions import Registry
from mmtune.study import StudyKey
from mmtune.study.options import MOST_TRIALS
from mmtune.study.space import describe
from mmtune.tracking import COMPLETE, MlflowTracker, StudyRun
from mmtune.tracking.runs import drawn_values
from mmtune.train.objective import objective_of
from mmtune.train.step import DivergenceError
from mmtune.tune.machine import most_workers, training_device
from mmtune.tune.plan import require_searchable
from mmtune.tune.run import Outcome, run_study
from mmtune.tune.trying import require_network, require_objective

SEARCH = 0.55
"""The share of the time that the search ends after."""
DEAREST = 2.5
"""So many times as long as the base's may a training of the search take."""
AGAIN, SEEDS = 3, 2
"""So many configurations are trained again, each with so many other seeds, as far as time goes."""


def find_best(task: Task) -> Found | None:
    """Do what is left of a task; None where it was stopped.

    Raises InputError where the data set has no test partition, the study is none that can be searched or is no longer
    what was searched, or there is not time enough for a single trial.
    """
    began = time.monotonic()
    task.dataset.require_test()
    sides = split(task.dataset.train, task.protocol, task.options.seed)
    require_searchable_here(task, sides)
    note = f"pid {os.getpid()} on {os.uname().nodename}"
    with locked(task.path.with_suffix(".lock"), f"one command at a time may make {task.study.name}", note):
        state = state_of(task, sides)
        there = standing(task, state)
        if there is not None:
            return there
        clock = Clock(task, state, began)
        narrowed = replace(task, study=state.pace.narrowed(task.study), stopped=clock.stopped)
        try:
            found = gone_on(narrowed, clock, sides)
            return found and replace(found, study=task.study)
        finally:
            clock.note()


def require_searchable_here(task: Task, sides: Split) -> None:
    """Raise InputError unless the study's space can be searched on this data."""
    study, objective = task.study, objective_of(task.study.objective)
    if study.tries or study.phases or study.encoders:
        raise InputError(f"{study.name} must be a space to search, it has tries, phases or encoders of its own")
    remember(study.base.model, study.name)
    require_network(study.base.model, task.dataset, study.missing)
    require_searchable(study.name, objective, "tpe", None)
    require_objective(objective, task.dataset, [sides])


def state_of(task: Task, sides: Split) -> State:
    """What was decided before, or is now; InputError where the study has changed since it was searched.

    As long as nothing is complete another number of hours is another pace.
    """
    state, made = read_state(task.path), task.made
    tracker = MlflowTracker(task.root)
    searched = [own for own in tracker.studies(task.study.name) if is_of(task, own.key)]
    if state is not None and state.made == made:
        is_decided = state.paced == task.seconds or bool(state.again) or any_complete(tracker, searched)
        if is_decided:
            return state
    if state is not None and state.made != made and searched:
        raise InputError(
            f"{task.study.name} must stay what its search began with, it has changed since: give another --seed, or "
            f"delete its runs and {task.path}"
        )
    spent = 0.0 if state is None else state.spent
    made_now = State(made=made, pace=pace_of(task, sides, spent), paced=task.seconds, spent=spent, origin=spent)
    write_state(task.path, made_now)
    return made_now


def is_of(task: Task, key: StudyKey) -> bool:
    """Whether a tracked study is a search of this task's."""
    own = (key.digest, key.protocol, key.seed, key.sampler)
    return own == (task.dataset.digest, task.protocol, task.options.seed, "tpe")


def any_complete(tracker: MlflowTracker, searched: Sequence[StudyRun]) -> bool:
    """Whether any of these studies has a complete trial."""
    return any(tracker.tally(own.run_id).get(COMPLETE) for own in searched)


def standing(task: Task, state: State) -> Found | None:
    """The certificate that stands, where no more time is given than it took; None where there is more to do."""
    path = task.root / state.certificate
    if not state.certificate or task.seconds > state.asked or not path.is_file():
        return None
    registry = Registry(MlflowTracker(task.root), task.study.name)
    if state.version not in registry.numbers():
        return None
    task.say(f"{task.study.name} has had its {task.seconds / 3600:g} hours; more --hours go on from {path}")
    is_champion = state.version == registry.champion()
    return Found(study=task.study, path=path, version=state.version, is_champion=is_champion)


def gone_on(task: Task, clock: Clock, sides: Split) -> Found | None:
    """The steps that are left, as `find_best`."""
    if clock.state.certificate:
        # There is more time than there was: the best of a longer search are others.
        clock.note(again={}, longer=0, certificate="", origin=clock.state.spent)
    search = searched(task, clock)
    if search is None:
        return None
    if not clock.state.again:
        clock.note(**again_of(task, search, clock))
    trained_again(task, clock)
    if task.stopped():
        return None
    found = finished(task, clock, search.key)
    if found is not None:
        where = str(found.path.relative_to(task.root))
        clock.note(certificate=where, version=found.version, asked=task.seconds)
    return found


def pace_of(task: Task, sides: Split, spent: float) -> Pace:
    """What a first call decides: how long a training is, and what there is no time for. spent: seconds of the time."""
    device = training_device(task.options)
    task.say(f"space of {task.study.name}:")
    for line in describe(task.study.space):
        task.say(f"  {line}")
    task.say("timing an epoch")
    try:
        own = paced(
            task.study,
            SEARCH * (task.seconds - spent),
            at_once(workers_of(task), device),
            enough_epochs(task.study, len(sides.train)),
            lambda config: epoch_seconds(config, task.dataset, sides, device),
        )
    except (DivergenceError, RuntimeError, TypeError, ValueError) as error:
        told = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"{task.study.name}: its base must train, it does not: {told}") from error
    for path, option in own.chosen.items():
        task.say(f"{path}: {option} is where the search begins, as the study's own would have too few epochs")
    for path, options in own.left_out.items():
        for option, why in options.items():
            task.say(f"{path}: {option} is left out, {why}")
    task.say(f"an epoch of the base takes about {own.seconds:.1f} s here: trainings have {own.epochs} epochs")
    return own


def workers_of(task: Task) -> int:
    """How many trainings are made at once."""
    return task.options.workers or most_workers(task.options, training_device(task.options))


def hours_until(end: float) -> float:
    """The hours until a moment of `time.monotonic`; where it is over, so few that nothing begins."""
    return float(f"{max(end - time.monotonic(), 0.001) / 3600:.3g}")


def searched(task: Task, clock: Clock) -> Outcome | None:
    """The search, gone on with as long as there is time for it; None where it was stopped.

    No training of it goes on for much longer than the base's: a space has networks that take ten times as long.
    """
    pace = clock.state.pace
    minutes, hours = float(f"{DEAREST * pace.epochs * pace.seconds / 60:.3g}"), hours_until(clock.share(SEARCH))
    options = replace(task.options, epochs=pace.epochs, hours=hours, sampler="tpe", trial_minutes=minutes)
    found = run_study(task.study, task.dataset, options, task.root, task.console, task.stopped, task.make_pool)
    if found is None or task.stopped():
        return None
    if found.best is None:
        raise InputError(f"no trial of {task.study.name} is complete in {task.seconds / 3600:g} hours: give it more")
    return found


def again_of(task: Task, search: Outcome, clock: Clock) -> dict[str, Any]:
    """What is trained again: the best configurations of the search, one seed each in turn; and for how many epochs."""
    tracker = MlflowTracker(task.root)
    ranked = complete_trials(tracker, tracker.study(search.key), search.key.objective)[:AGAIN]
    again = {
        f"trial_{trial.number:02d}_seed_{seed}": drawn_values(trial) for seed in range(1, SEEDS + 1) for trial in ranked
    }
    dearest = max(trial.metrics.get("epoch_seconds", clock.state.pace.seconds) for trial in ranked)
    left = clock.share(1 - CLOSING) - time.monotonic()
    # Measured beside all that trained at once, of which none takes the others' time again.
    return {"again": again, "longer": longer(clock.state.pace.epochs, dearest, left, workers_of(task), len(again))}


def trained_again(task: Task, clock: Clock) -> None:
    """Train the best configurations again as tries, whole, as far as there is time.

    Another list of them is another study.
    """
    again = clock.state.again
    name = f"{task.study.name}{AGAIN_NAME}{hashlib.sha256(json.dumps(again).encode()).hexdigest()[:6]}"
    tries = replace(task.study, name=name, grid=None, tries=again, seeds_from=MOST_TRIALS)
    hours, epochs = hours_until(clock.share(1 - CLOSING)), clock.state.longer or clock.state.pace.epochs
    options = replace(task.options, epochs=epochs, sampler="tries", hours=hours, prune=False)
    run_study(tries, task.dataset, options, task.root, task.console, task.stopped, task.make_pool)

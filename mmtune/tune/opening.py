"""A study, opened for one process alone: what an earlier call left, and what is said of it before it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from rich.console import Console

from mmtune.base.clock import CLOCK
from mmtune.base.errors import AwayError, GoneError
from mmtune.base.fields import flatten
from mmtune.base.progress import say
from mmtune.base.provenance import OWN_CODE, counted, mixture
from mmtune.data.dataset import Dataset
from mmtune.networks.card import MODEL
from mmtune.study import Study
from mmtune.study.schedule import Sampled
from mmtune.study.space import describe
from mmtune.tracking import (
    CLASSES,
    COMPLETE,
    MISSING,
    NOTE,
    PRUNED,
    REMOVED,
    STATUS,
    Heartbeat,
    MlflowTracker,
    Recorder,
    StudyRun,
    TrialRun,
    of_key,
    view_tag,
)
from mmtune.tracking.patience import Patience
from mmtune.tracking.runs import LONGEST_TAG
from mmtune.train.staging import now_ms
from mmtune.tune.budget import Budget
from mmtune.tune.halving import rungs
from mmtune.tune.made import MADE, as_tag, made_from, order_of, require_unchanged
from mmtune.tune.plan import Plan
from mmtune.tune.resume import Standing, look, rebuild
from mmtune.tune.search import Search
from mmtune.tune.warm import WARM, as_lines

MOST_LOOKED_AT = 100


@dataclass(frozen=True, kw_only=True)
class OpenStudy:
    """A study that this process alone may write: its plan, its search, and where its runs are.

    parent: the study's own run. staging: the folder of what is under way. standing: how it stood when it was opened.
    """

    plan: Plan
    search: Search
    tracker: MlflowTracker
    recorder: Recorder
    parent: str
    staging: Path
    standing: Standing
    console: Console


@contextmanager
def opened(
    plan: Plan, tags: Mapping[str, str], root: Path, note: str, store_patience: float, console: Console
) -> Iterator[tuple[OpenStudy, Callable[[], None]]]:
    """The study of a plan, opened for this process alone, and what gives a sign of its life; the caller has its lock.

    Raises InputError where another coordinator writes it, or its trials were made from something else.
    """
    tracker = MlflowTracker(root)
    heartbeat = Heartbeat(tracker, plan.key.slug, note)
    tracked = tracker.studies(plan.key.study)
    before = of_key(tracked, plan.key)
    heartbeat.require_free(before)
    if before is not None:
        require_unchanged(plan, before.tags.get(MADE, ""))
        CLOCK.show_milliseconds(tracker.last_said(before.run_id, plan.key.objective.name))
    # Of several runs of a study the last one counts, whatever the clock of this machine says.
    for own in tracked:
        CLOCK.show_text(own.opened)
    parent = tracker.open_study(plan.key, tags)
    tracker.add_inputs(parent, plan.inputs)
    name, view = view_tag(plan.key, parent, plan.choices)
    tracker.set_experiment_tags(plan.key.study, {name: view, NOTE: plan.doc})
    heartbeat.begin(parent)
    try:
        with left_as_it_was(tracker, parent, before):
            found = standing_of(plan, tracker, parent, root, store_patience, console)
        yield found, heartbeat.beat
    finally:
        with suppress(AwayError):
            heartbeat.end()


def standing_of(
    plan: Plan, tracker: MlflowTracker, parent: str, root: Path, store_patience: float, console: Console
) -> OpenStudy:
    """A study as an earlier call has left it."""
    staging = root / "staging" / plan.key.slug
    standing = look(tracker, parent, staging, plan.parts, plan.key.objective)
    divided = len(plan.parts) > 1
    own_rungs = rungs(plan.key.epochs) if plan.key.prune and not divided else ()
    by_parts = plan.key.prune and divided
    search = Search(plan.schedule.space, flatten(plan.base), own_rungs, by_parts, plan.key.objective)
    rebuild(search, standing, tracker, plan.parts)
    waiting = Patience(tracker, store_patience, partial(say, console))
    recorder = Recorder(tracker, tracker.experiment(plan.key.study), parent, waiting, plan.inputs, plan.key.objective)
    for run in standing.unfinished:
        recorder.add(run)
    return OpenStudy(
        plan=plan,
        search=search,
        tracker=tracker,
        recorder=recorder,
        parent=parent,
        staging=staging,
        standing=standing,
        console=console,
    )


@contextmanager
def left_as_it_was(tracker: MlflowTracker, parent: str, before: StudyRun | None) -> Iterator[None]:
    """Where a study cannot be gone on from, its run says again what it said before, and not that it is under way."""
    try:
        yield
    except BaseException:
        finished = before is not None and before.status == STATUS[COMPLETE]
        with suppress(AwayError, GoneError):
            tracker.log(parent, tags={} if before is None else {NOTE: before.tags.get(NOTE, "")})
            tracker.end(parent, COMPLETE if finished else PRUNED, now_ms())
        raise


def say_where(found: OpenStudy, budget: Budget) -> None:
    """A line on what runs, and one on what an earlier call left."""
    plan, key, standing = found.plan, found.plan.key, found.standing
    say(
        found.console,
        f"{key.study}: {plan.count} of {key.epochs} epoch{'s' * (key.epochs != 1)} on {key.data} ({key.digest[:8]}), "
        + ", ".join([key.protocol, f"seed {key.seed}", key.sampler, *key.beside, *budget.told]),
    )
    if "milliseconds" in key.objective.names:
        say(found.console, "milliseconds: the median of at most 100 answers to one row on the worker, right after "
            "training and beside whatever else runs there: small differences are noise")  # fmt: skip
    cut = len(standing.under_way(plan.trials))
    if cut:
        say(found.console, f"{cut} trial{'s' * (cut > 1)} cut short by an earlier interruption: going on")
    if key.sampler == "cmaes" and standing.ended:
        say(found.console, "cmaes begins its evolution anew: of an earlier call it knows the trials, not its own state")
    gone = without_files(found)
    if gone:
        names = ", ".join(f"{run.number:02d}" for run in gone)
        trials = f"trial{'s' * (len(gone) > 1)} {names}"
        say(found.console, f"the files of {trials} are gone: delete their runs, and the same command makes them again")
    waiting = sum(trial.run.result is not None for trial in standing.staged)
    if waiting:
        say(found.console, f"{waiting} finished trial{'s' * (waiting > 1)} in staging: brought to {found.tracker.name}")


def without_files(found: OpenStudy) -> list[TrialRun]:
    """Of the best complete trials, those that should have their models and have them no more."""
    kept = [run for run in found.standing.ended if run.state == COMPLETE and REMOVED not in run.tags]
    best = sorted(kept, key=lambda run: -found.plan.key.objective.rank(run.metrics))[:MOST_LOOKED_AT]
    return [run for run in best if not found.tracker.has_artifact(run.run_id, MODEL)]


def note_mixture(found: OpenStudy) -> None:
    """Say, and record with the study, where its trials are not all made with the same code."""
    made = [(run.number, run.tags) for run in (*found.standing.ended, *found.standing.parts)
            if run.state in (COMPLETE, PRUNED)]  # fmt: skip
    made += [(trial.run.number, trial.run.tags) for trial in found.standing.staged]
    told = mixture(made, found.plan.tags)
    found.recorder.patience.insist(lambda: found.tracker.log(found.parent, tags={"mmtune.mixture": told}))
    if told:
        say(found.console, told)


def say_there(found: OpenStudy) -> None:
    """Say that a study has ended, and where it was trained by other code of the user's own than there is now."""
    say(found.console, "nothing to train: every trial is there already, with the files that were kept of it then")
    now = found.plan.tags.get(OWN_CODE, "")
    others = [run.number for run in found.standing.ended if run.state == COMPLETE and run.tags.get(OWN_CODE, "") != now]
    if others:
        say(found.console, f"{counted(others)} were trained by other code than is there now, and are not trained again")


def study_tags(study: Study, plan: Plan, dataset: Dataset) -> dict[str, str]:
    """What the study's run says of the study, its space and its data, and of what its trials are made from."""
    return {
        **data_tags(study, dataset),
        "mmtune.paper": study.paper,
        "mmtune.repeats": study.repeats,
        "mmtune.space": "\n".join(describe(plan.schedule.space)),
        MADE: as_tag([*made_from(plan.base, plan.schedule, plan.repeats), *order_of(plan.schedule)]),
        **({WARM: as_lines(plan.schedule.first)} if isinstance(plan.schedule, Sampled) and plan.schedule.first else {}),
        NOTE: f"Under way.\n\n{study.doc}",
    }


def data_tags(study: Study, dataset: Dataset) -> dict[str, str]:
    """What a study's run says of its data: the classes, as far as they fit, banks that may lack, and where it is."""
    classes = json.dumps(dataset.classes)
    return {
        **({CLASSES: classes} if len(classes) <= LONGEST_TAG else {}),
        MISSING: ",".join(study.missing),
        "mmtune.data_dir": str(dataset.folder.resolve()),
    }

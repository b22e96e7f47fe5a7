"""From a study and a data set to finished trials: split, encoders, search, workers, tracker."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Self

from rich.console import Console

from mmtune.base.clock import now
from mmtune.base.errors import InputError
from mmtune.base.fields import flatten
from mmtune.base.files import locked, make_folder, storage_problem
from mmtune.base.postgres import locked_there, postgres_url
from mmtune.base.progress import Progress, say
from mmtune.base.provenance import mixture, provenance_tags
from mmtune.data.checks import require_modalities
from mmtune.data.dataset import Dataset
from mmtune.networks.card import MODEL
from mmtune.pool.local import LocalPool
from mmtune.pool.worker import WorkerSpec
from mmtune.study import Study, StudyKey, load_study, settled
from mmtune.study.definition import schedule
from mmtune.study.space import Space, describe, fingerprint
from mmtune.tracking import (
    COMPLETE,
    FAIL,
    OBJECTIVE,
    PRUNED,
    RUNNING,
    MlflowTracker,
    TrialRun,
    best_trial,
    delivering,
    kept_in,
    tracking_database,
)
from mmtune.train.recipe import TrialConfig
from mmtune.tune.coordinator import Coordinator, Pool
from mmtune.tune.encoders import best_encoder, needed_encoders, with_encoders
from mmtune.tune.plan import Options, Plan, make_plan, make_splits, shapes
from mmtune.tune.search import Search
from mmtune.tune.settling import Found, reconcile, retire_torn

SEARCHES = "MMTUNE_STORAGE"
"""Names a PostgreSQL database for searches; journal files beside the runs where it is not set."""
Stopped = Callable[[], bool]
PoolMaker = Callable[[WorkerSpec, int], AbstractContextManager[Pool]]
ENDLESS = 100_000
CONFIRM_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a study stands after a call: `finished` says that no trial is left to do, `failed` how many never will be.

    tracking_seconds, tuning_seconds: what the coordinator spent on MLflow and on Optuna in this call, from the first
    trial's start.
    """

    key: StudyKey
    trials: int
    finished: bool
    failed: int
    best: TrialRun | None
    tracking_seconds: float = 0.0
    tuning_seconds: float = 0.0


def run_study(
    study: Study,
    dataset: Dataset,
    options: Options,
    root: Path,
    console: Console,
    stopped: Stopped = lambda: False,
    make_pool: PoolMaker = LocalPool,
) -> Outcome | None:
    """Run whatever trials of a study are missing; everything that is kept lies under `root`.

    make_pool: from what workers need and how many there are at most, what trains. None where it was stopped before it
    began. Raises InputError where the options, the data or an earlier run of the study rule this one out.
    """
    sampler = options.sampler or study.sampler
    values = {**shapes(study.base, dataset, options.fixed), **options.fixed}
    base = settled(study, values, options.epochs)
    needed = needed_encoders(study, base, options)
    spec = WorkerSpec(
        data=dataset.folder,
        splits=make_splits(dataset, options),
        device=training_device(options),
        hung_after=options.hung_after,
    )
    require_modalities(dataset.train, base.model.modalities)
    encoders: Mapping[str, TrialRun] = {}
    if needed:
        tracker = MlflowTracker(root)
        encoders = find_encoders(study, needed, dataset, options, tracker, console, stopped, make_pool)
        if stopped():
            return None
        folders = {modality: tracker.artifact(trial.run_id, MODEL) for modality, trial in encoders.items()}
    else:
        folders = {}
    runs = {modality: trial.run_id for modality, trial in encoders.items()}
    base = with_encoders(base, folders)
    trials = schedule(study, sampler, base, options.fixed, options.trials, options.epochs)
    plan = make_plan(study, base, trials, dataset, options, runs, folders, made_by(options, spec.device))
    key = plan.key
    database, runs_database = postgres_url(SEARCHES), tracking_database()
    if database and database == runs_database:
        raise InputError(f"{SEARCHES} must not be MLFLOW_TRACKING_URI's database: Optuna and MLflow need one each")
    with (
        only_coordinator(root, key.slug, {"search": database, "runs": runs_database}) as confirm,
        delivering(root, partial(say, console)) as deliver,
        Crew(make_pool, spec, options.workers or most_workers(options, spec.device)) as crew,
    ):
        # Where a trial writes when it has ended must be writable before it begins.
        for folder in ("staging", f"artifacts/{study.name}"):
            make_folder(root / folder)
        searches = root / "optuna"
        journal = searches / f"{key.slug}.journal"
        parts = len(plan.parts)
        search = Search(journal, key.slug, trials.space, flatten(base), key.epochs, key.prune, parts, url=database)
        search.check_runs_in(kept_in())
        search.check_unchanged("made", [*trials.lines(), *settings(base, trials.space), f"repeats={study.repeats}"])
        # Workers load while the store is opened; that none of the search's runs was deleted is likely enough.
        likely = search.open_indices(plan.trials, {attempt.run_id for attempt in search.attempts()})
        crew.start(len(likely) * parts)
        tracker = MlflowTracker(root)
        parent = tracker.open_study(key, {**study_tags(study, trials.space, dataset), **plan.tags})
        deliver(parent)
        with tracker.spooled(searches / f"{key.slug}.spool"):
            if search.cut:
                say(console, f"{search.cut} bytes of an unfinished write were cut from {journal}")
            found = reconcile(plan, search, tracker, parent)
            say_where(console, plan, sum(run.state == RUNNING for run in found.trials))
            try:
                drive(plan, search, tracker, parent, found, crew, console, lambda: confirm() or stopped())
            except BaseException as error:
                if storage_problem(error) is None:
                    close(plan, search, tracker, parent)
                raise
            return close(plan, search, tracker, parent)


@contextmanager
def only_coordinator(root: Path, slug: str, databases: Mapping[str, str | None]) -> Iterator[Callable[[], None]]:
    """Hold a study's lock, beside its files and where its search and runs are kept; InputError if another has it.

    Gives a function that raises InputError where a lock was lost, which it looks for every few seconds.
    """
    refusal = f"study {slug} already runs, and one coordinator at a time may write it"
    note = f"pid {os.getpid()} on {os.uname().nodename} since {now()}"
    with ExitStack() as locks:
        locks.enter_context(locked(root / "locks" / slug, refusal, note))
        held = [
            locks.enter_context(locked_there(database, f"{what} of {slug}", refusal, note))
            for what, database in databases.items()
            if database
        ]
        looked = time.monotonic()

        def confirm() -> None:
            nonlocal looked
            if time.monotonic() - looked > CONFIRM_SECONDS:
                looked = time.monotonic()
                for lock in held:
                    lock()

        yield confirm


class Crew:
    """The pool of a study, of `most` workers at most: started as soon as there seems to be work, stopped on leaving."""

    def __init__(self, make_pool: PoolMaker, spec: WorkerSpec, most: int) -> None:
        self.make_pool, self.spec, self.most = make_pool, spec, most
        self.count = 0
        self.pool: Pool | None = None
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()
        self.count, self.pool = 0, None

    def start(self, trainings: int) -> Pool | None:
        """A pool for so many trainings: the one there is if it is large enough; None for no training."""
        wanted = min(self.most, trainings)
        if wanted > self.count:
            self.stack.close()
            self.count = wanted
            self.pool = self.stack.enter_context(self.make_pool(self.spec, wanted))
        return self.pool


def find_encoders(
    study: Study,
    needed: Mapping[str, str],
    dataset: Dataset,
    options: Options,
    tracker: MlflowTracker,
    console: Console,
    stopped: Stopped,
    make_pool: PoolMaker = LocalPool,
) -> dict[str, TrialRun]:
    """By modality, the best tracked trial of the study it needs, which runs first where there is none."""
    found: dict[str, TrialRun] = {}
    for modality, name in needed.items():
        trial = best_encoder(tracker, name, dataset.digest, options)
        if trial is None and not stopped():
            say(console, f"{study.name} needs {name} on this data and split; none is tracked, so it runs first")
            own = "reported" if options.sampler == "reported" else None
            first = replace(options, trials=None, epochs=None, sampler=own, prune=None, fixed={}, folds=0, repeats=1)
            run_study(load_study(name), dataset, first, tracker.root, console, stopped, make_pool)
            trial = best_encoder(tracker, name, dataset.digest, options)
        if trial is None and not stopped():
            raise InputError(f"{study.name} needs a complete trial of {name}; all of its trials failed")
        if trial is not None:
            found[modality] = trial
            score, epochs = trial.metrics[OBJECTIVE], trial.params["train.epochs"]
            say(console, f"{modality} encoder: {name} trial {trial.name}, val macro-F1 {score:.4f} ({epochs} epochs)")
    return found


def say_where(console: Console, plan: Plan, cut: int) -> None:
    """A line on what runs, and one on what an earlier call left."""
    key = plan.key
    say(
        console,
        f"{key.study}: {plan.trials} trial{'s' * (plan.trials > 1)} of {key.epochs} epochs on {key.data} "
        f"({key.digest[:8]}), " + ", ".join([key.protocol, f"seed {key.seed}", key.sampler, *key.division]),
    )
    if cut:
        say(console, f"{cut} trial{'s' * (cut > 1)} cut short by an earlier interruption will be made again")


def drive(
    plan: Plan,
    search: Search,
    tracker: MlflowTracker,
    parent: str,
    found: Found,
    crew: Crew,
    console: Console,
    stopped: Stopped,
) -> None:
    """Run on workers the trials that no tracked run has finished."""
    staging = tracker.root / "staging" / plan.key.slug
    shutil.rmtree(staging, ignore_errors=True)
    parts = len(plan.parts)
    runs = retire_torn(tracker, found, parts)
    tracked = {run.run_id for run in runs}
    ended = [a for a in search.attempts() if a.ended_well and a.index < plan.trials and a.run_id in tracked]
    best = max(((a.score, f"{a.index:02d}") for a in ended if a.score is not None), default=None)
    progress = Progress(
        console=console, trials=plan.trials * parts, epochs=plan.key.epochs, done=len(ended) * parts, best=best
    )
    missing = search.open_indices(plan.trials, tracked)
    if missing:
        note_mixture(plan, tracker, parent, found, console)
    pool = crew.start((plan.trials - len(ended)) * parts) if missing else None
    if pool is not None:
        ended_parts = found.ended_parts() if parts > 1 else {}
        with crew, progress:
            coordinator = Coordinator(
                plan, search, tracker, parent, pool, progress, staging, missing, runs, ended_parts
            )
            coordinator.run(stopped)
    shutil.rmtree(staging, ignore_errors=True)


def note_mixture(plan: Plan, tracker: MlflowTracker, parent: str, found: Found, console: Console) -> None:
    """Say, and record with the study, where its trials are not all made with the same code."""
    ended_well = [run for run in (*found.trials, *found.parts) if run.state in (COMPLETE, PRUNED)]
    told = mixture([(run.number, run.tags) for run in ended_well], plan.tags)
    tracker.record(parent, {}, {"mmtune.mixture": told})
    if told:
        say(console, told)


def close(plan: Plan, search: Search, tracker: MlflowTracker, parent: str) -> Outcome:
    """Close the parent run by how the study stands."""
    trials = tracker.trials(parent)
    still_open = search.open_indices(plan.trials, {trial.run_id for trial in trials if trial.state != FAIL})
    ended_well = {trial.number for trial in trials if trial.state in (COMPLETE, PRUNED)}
    best = best_trial(trials)
    spent = {"tracking_seconds": tracker.watch.seconds, "tuning_seconds": search.watch.seconds}
    tracker.end_study(parent, not still_open, best, spent)
    return Outcome(
        key=plan.key,
        trials=plan.trials,
        finished=not still_open,
        failed=len(set(range(plan.trials)) - ended_well - set(still_open)),
        best=best,
        **spent,
    )


def settings(base: TrialConfig, space: Space) -> list[str]:
    """What every trial has in common, a line each; the epochs and the encoders are in the study's key."""
    varied = {choice.path for choice in space} | {"train.epochs"}
    return [f"{path}={value}" for path, value in flatten(base).items() if path not in varied]


def study_tags(study: Study, space: Space, dataset: Dataset) -> dict[str, str]:
    """What the parent run says of the study, its space and its data."""
    return {
        "mmtune.paper": study.paper,
        "mmtune.repeats": study.repeats,
        "mmtune.space": "\n".join(describe(space)),
        "mmtune.space_hash": fingerprint(space),
        "mmtune.data_dir": str(dataset.folder.resolve()),
        "mlflow.note.content": study.doc,
    }


def resolve_device(name: str) -> str:
    """A torch device by its name, "auto" being the first GPU or else the CPU; InputError where it is not there."""
    if name == "cpu":
        return name

    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    known = re.fullmatch(r"cuda(:\d+)?", name)
    if not known or not torch.cuda.is_available() or int(name[5:] or 0) >= torch.cuda.device_count():
        raise InputError(f"--device must be auto, cpu or a GPU of this machine (cuda, cuda:1), got {name!r}")
    return name


def training_device(options: Options) -> str:
    """The device that workers use; on Ray it is theirs, whatever this machine has."""
    if options.pool == "ray":
        return "cuda" if options.gpus_per_trial else "cpu"
    return resolve_device(options.device)


def made_by(options: Options, device: str) -> dict[str, str]:
    """Tags on what runs are made with; a GPU of Ray's may be any of the cluster's."""
    if options.pool == "ray" and device != "cpu":
        return {**provenance_tags("cpu"), "mmtune.device": "GPU (Ray)"}
    return provenance_tags(device)


@contextmanager
def pool_maker(options: Options, dataset: Dataset, console: Console) -> Iterator[PoolMaker]:
    """What makes the pools of a command that runs studies on one data set."""
    if options.pool == "local":
        yield LocalPool
        return

    from mmtune.pool.ray import Engine, RaySession

    engine = Engine(address=options.ray_address, gpus=options.gpus_per_trial, workers=options.workers)
    with RaySession(engine, dataset.train, partial(say, console)) as session:
        yield session


def most_workers(options: Options, device: str) -> int:
    """How many workers there are at most where no number is asked for; a cluster has its own limits."""
    return ENDLESS if options.pool == "ray" else default_workers(device)


def default_workers(device: str) -> int:
    """One worker a core on the CPU; a few on a GPU, which these small networks leave idle most of the time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4) if device.startswith("cuda") else cores


@contextmanager
def interruptible() -> Iterator[Stopped]:
    """Turn Ctrl-C and SIGTERM into a flag, so that no write is cut in two; a later one ends the process at once.

    One stop can arrive as several signals, from make and from the process group, so those of a second count once.
    """
    seen: list[float] = []

    def note(number: int, _: FrameType | None) -> None:
        seen.append(time.monotonic())
        if seen[-1] - seen[0] > 1:
            os._exit(128 + number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(seen)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

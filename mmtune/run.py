"""From a study and a data set to finished trials: split, encoders, search, workers, tracker."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from rich.console import Console

from mmtune.config import StudyKey, flatten, require_count
from mmtune.coordinator import Coordinator, Plan, reconcile
from mmtune.data.dataset import Dataset
from mmtune.data.splits import split
from mmtune.encoders import best_encoder, needed_encoders, with_encoders
from mmtune.errors import InputError
from mmtune.files import locked
from mmtune.pool import LocalPool, WorkerSpec
from mmtune.progress import Progress, say
from mmtune.provenance import now, provenance_tags
from mmtune.search import Search
from mmtune.space import Space, Value, describe, fingerprint
from mmtune.space import grid as enumerate_grid
from mmtune.study import Study, load_study, narrowed, with_epochs
from mmtune.tracking import COMPLETE, OBJECTIVE, PRUNED, RUNNING, MlflowTracker, TrialRun, best_trial

Stopped = Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How much of a study to run, and where. None stands for the study's own number, or the machine's."""

    protocol: str = "clip_disjoint"
    seed: int = 0
    sampler: str = "grid"
    trials: int | None = None
    epochs: int | None = None
    workers: int | None = None
    device: str = "auto"
    prune: bool | None = None
    fixed: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_count("--seed", self.seed, 0)
        for name in ("trials", "epochs", "workers"):
            value = getattr(self, name)
            if value is not None:
                require_count(f"--{name}", value, 1, 100_000)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a study stands after a call: `finished` says that no trial is left to do, `failed` how many never will be."""

    key: StudyKey
    trials: int
    finished: bool
    failed: int
    best: TrialRun | None


def run_study(
    study: Study, dataset: Dataset, options: Options, root: Path, console: Console, stopped: Stopped = lambda: False
) -> Outcome | None:
    """Run whatever trials of a study are missing; everything that is kept lies under `root`.

    None where it was stopped before it began. Raises InputError where the options, the data or an earlier run of
    the study rule this one out.
    """
    base, space = narrowed(study, options.sampler, options.fixed)
    base = with_epochs(base, options.epochs)
    needed = needed_encoders(study, base, options.fixed)
    spec = WorkerSpec(
        data=dataset.folder,
        split=split(dataset.train, options.protocol, options.seed),
        device=resolve_device(options.device),
    )
    tracker = MlflowTracker(root)
    encoders = find_encoders(study, needed, dataset, options, tracker, console, stopped)
    if stopped():
        return None
    runs = {modality: trial.run_id for modality, trial in encoders.items()}
    folders = {modality: tracker.artifact(run_id, "model") for modality, run_id in runs.items()}
    prune = options.sampler != "grid" if options.prune is None else options.prune
    key = make_key(study, dataset, options, prune, runs)
    grid = tuple(enumerate_grid(space, flatten(base))) if key.sampler == "grid" else ()
    plan = Plan(
        key=key,
        base=with_encoders(base, folders),
        grid=grid,
        trials=plan_trials(options.trials, study.trials, len(grid)),
        encoders=folders,
        encoder_runs=runs,
        tags=provenance_tags(spec.device) | {"mmtune.data_digest": key.digest, "mmtune.protocol": key.protocol},
    )
    refusal = f"study {key.slug} already runs, and one coordinator at a time may write it"
    with locked(root / "locks" / key.slug, refusal, f"pid {os.getpid()} on {os.uname().nodename} since {now()}"):
        search = Search(root / "optuna" / f"{key.slug}.journal", key.slug, space, flatten(base), key.epochs, prune)
        parent = tracker.open_study(key, {**study_tags(study, space, dataset), **plan.tags})
        runs_found = reconcile(search, tracker, parent)
        say_where(console, plan, sum(run.state == RUNNING for run in runs_found))
        tracked = {run.run_id for run in runs_found}
        try:
            drive(plan, search, tracker, parent, tracked, spec, options.workers, console, stopped)
        finally:
            outcome = close(plan, search, tracker, parent)
        return outcome


def make_key(study: Study, dataset: Dataset, options: Options, prune: bool, encoders: Mapping[str, str]) -> StudyKey:
    """The identity of a study under these options."""
    return StudyKey(
        study=study.name,
        data=dataset.name,
        digest=dataset.digest,
        protocol=options.protocol,
        seed=options.seed,
        epochs=options.epochs or study.base.train.epochs,
        sampler=options.sampler,
        prune=prune,
        fixed=tuple(sorted(options.fixed.items())),
        encoders=tuple(sorted(encoders.items())),
    )


def find_encoders(
    study: Study,
    needed: Mapping[str, str],
    dataset: Dataset,
    options: Options,
    tracker: MlflowTracker,
    console: Console,
    stopped: Stopped,
) -> dict[str, TrialRun]:
    """By modality, the best tracked trial of the study it needs, which runs first where there is none."""
    found: dict[str, TrialRun] = {}
    for modality, name in needed.items():
        trial = best_encoder(tracker, name, dataset.digest, options.protocol, options.seed)
        if trial is None and not stopped():
            say(console, f"{study.name} needs {name} on this data and split; none is tracked, so it runs first")
            first = replace(options, trials=None, epochs=None, sampler="grid", prune=None, fixed={})
            run_study(load_study(name), dataset, first, tracker.root, console, stopped)
            trial = best_encoder(tracker, name, dataset.digest, options.protocol, options.seed)
        if trial is None and not stopped():
            raise InputError(f"{study.name} needs a complete trial of {name}; all of its trials failed")
        if trial is not None:
            found[modality] = trial
            score, epochs = trial.metrics[OBJECTIVE], trial.params["train.epochs"]
            say(console, f"{modality} encoder: {name} trial {trial.name}, val macro-F1 {score:.4f} ({epochs} epochs)")
    return found


def plan_trials(asked: int | None, usual: int, combinations: int) -> int:
    """How many trials a study has: all of a grid's combinations or the first few, else as many as asked."""
    return min(asked or combinations, combinations) if combinations else asked or usual


def say_where(console: Console, plan: Plan, cut: int) -> None:
    """A line on what runs, and one on what an earlier call left."""
    key = plan.key
    say(
        console,
        f"{key.study}: {plan.trials} trials of {key.epochs} epochs on {key.data} ({key.digest[:8]}), "
        f"{key.protocol}, seed {key.seed}, {key.sampler}",
    )
    if cut:
        say(console, f"{cut} trial{'s' * (cut > 1)} cut short by an earlier interruption will be made again")


def drive(
    plan: Plan,
    search: Search,
    tracker: MlflowTracker,
    parent: str,
    tracked: Set[str],
    spec: WorkerSpec,
    workers: int | None,
    console: Console,
    stopped: Stopped,
) -> None:
    """Run on workers the trials that no tracked run has finished."""
    staging = tracker.root / "staging" / plan.key.slug
    shutil.rmtree(staging, ignore_errors=True)
    ended = [a for a in search.attempts() if a.ended_well and a.index < plan.trials and a.run_id in tracked]
    best = max(((a.score, f"{a.index:02d}") for a in ended if a.score is not None), default=None)
    progress = Progress(console=console, trials=plan.trials, epochs=plan.key.epochs, done=len(ended), best=best)
    missing = search.open_indices(plan.trials, tracked)
    if missing:
        count = min(workers or default_workers(spec.device), plan.trials - len(ended))
        with LocalPool(spec, count) as pool, progress:
            Coordinator(plan, search, tracker, parent, pool, progress, staging, missing).run(stopped)
    shutil.rmtree(staging, ignore_errors=True)


def close(plan: Plan, search: Search, tracker: MlflowTracker, parent: str) -> Outcome:
    """Close the parent run by how the study stands."""
    trials = tracker.trials(parent)
    still_open = search.open_indices(plan.trials, {trial.run_id for trial in trials})
    ended_well = {trial.number for trial in trials if trial.state in (COMPLETE, PRUNED)}
    best = best_trial(trials)
    tracker.end_study(parent, not still_open, best)
    return Outcome(
        key=plan.key,
        trials=plan.trials,
        finished=not still_open,
        failed=len(set(range(plan.trials)) - ended_well - set(still_open)),
        best=best,
    )


def study_tags(study: Study, space: Space, dataset: Dataset) -> dict[str, str]:
    """What the parent run says of the study, its space and its data."""
    return {
        "mmtune.opened": now(),
        "mmtune.paper": study.paper,
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

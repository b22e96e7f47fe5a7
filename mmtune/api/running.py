"""A study, run: what `mmtune study` and `mmtune.run` have in common, and the call from Python."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Unpack

import numpy as np
from rich.console import Console

from mmtune.api.outcome import Outcome
from mmtune.base.errors import AwayError
from mmtune.base.progress import say, steps
from mmtune.base.signals import end_process, interruptible, raise_interrupt
from mmtune.data.bundled.sample import sample
from mmtune.data.dataset import Dataset
from mmtune.data.storage.store import kept, load
from mmtune.study import Study, load_study, paths_fixed
from mmtune.study.finding import require_own_name
from mmtune.study.options import Chosen, Options, offered, with_options
from mmtune.study.space import Value
from mmtune.tracking import MlflowTracker
from mmtune.tracking.patience import Patience
from mmtune.tune import run as tuning
from mmtune.tune.machine import pool_maker

INTERRUPTED = "interrupted; the same {} goes on with the trials that are missing"


def run(
    study: Study | str | Path,
    data: Dataset | str | Path | None = None,
    *,
    store: str | Path = "mlruns",
    quiet: bool = False,
    fix: Mapping[str, Value] | None = None,
    **chosen: Unpack[Chosen],
) -> Outcome:
    """Run a study, or the trials of it that are missing; safe to interrupt and to repeat.

    study: a Study, the name of one that `mmtune studies` lists, or the path of its file. Its network may be a class of
        this script or notebook.
    data: a data set, the folder of one, or the bundled sample if not given. One made by `mmtune.data.from_arrays` is
        kept in `store`, once.
    store: where runs, models and what is under way are kept. Runs go where MLFLOW_TRACKING_URI or
        `mlflow.set_tracking_uri` says, if one of them does.
    quiet: whether to print nothing.
    fix: choices to fix, by path (`model.width`) or by its last part where that is enough (`width`).
    chosen: the options of `mmtune study` by their names: trials, epochs, sampler, protocol, seed, folds, repeats,
        workers, device, threads, pool, ray_address, gpus_per_trial, slurm, prune, keep, checkpoint_every, hung_after,
        store_patience, hours, until, patience, trial_minutes, warm_start.

    Trials train in processes of their own, on all cores unless `workers` says otherwise. Raises KeyboardInterrupt where
    Ctrl-C, or a signal to end, has come: what is under way waits, and the same call goes on. Raises InputError, in one
    line, where the options, the data, the network or an earlier run of the study rule this one out, and AwayError where
    the store does not answer.
    """
    console = console_of_calls(quiet)
    told = study if isinstance(study, Study) else load_study(str(study))
    require_own_name(told)
    unknown = chosen.keys() - {own.name for own, _ in offered()}
    if unknown:
        raise TypeError(f"run() takes no option {', '.join(sorted(unknown))}; help(mmtune.run) lists them")
    options = Options(**plain(chosen), fixed=paths_fixed(plain(fix or {}), told.base, told.space))
    root = Path(store).resolve()
    dataset = find_data(data, root, console)
    try:
        found = run_and_publish(told, dataset, options, root, console, raise_interrupt)
    except KeyboardInterrupt:
        say(console, INTERRUPTED.format("call"))
        raise
    return Outcome.of(found, told, dataset, root)


def console_of_calls(quiet: bool) -> Console:
    """What a call from Python prints on."""
    # A notebook is no terminal, whatever its kernel's FORCE_COLOR says: lines are all there is.
    return Console(quiet=quiet, force_jupyter=False, force_terminal=sys.stdout.isatty())


def plain(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Options with numbers of Python's own where they were numpy's."""
    return {name: value.item() if isinstance(value, np.generic) else value for name, value in chosen.items()}


def find_data(data: Dataset | str | Path | None, root: Path, console: Console) -> Dataset:
    """The data set that a call names, in a folder where workers find it; what was chosen or kept is said."""
    if data is None:
        say(console, "no data given: the bundled sample of written and spoken digits")
        with steps(console) as advance:
            return sample(on_progress=advance)
    if not isinstance(data, Dataset):
        return load(data)
    found = kept(data, root / "data")
    if found is not data:
        say(console, f"{data.name} is kept in {found.folder}")
    return found


def run_and_publish(
    study: Study,
    dataset: Dataset,
    options: Options,
    root: Path,
    console: Console,
    insist: Callable[[int], NoReturn] = end_process,
) -> tuning.Outcome:
    """Run a study and leave in MLflow what people look at once it has ended; KeyboardInterrupt where it was stopped.

    insist: what a second stop does.
    """
    with interruptible(insist) as stopped, pool_maker(options, dataset, root, console) as make_pool:
        outcome = tuning.run_study(study, dataset, options, root, console, stopped, make_pool)
        if outcome is not None and outcome.best is not None and not stopped():
            publish_study(root, outcome, study, dataset, options.store_patience, console, stopped)
    if outcome is None or stopped():
        raise KeyboardInterrupt
    return outcome


def publish_study(
    root: Path,
    outcome: tuning.Outcome,
    told: Study,
    dataset: Dataset,
    patience: float,
    console: Console,
    stopped: Callable[[], bool],
) -> None:
    """Leave in MLflow what people look at, unless it is stopped while the store is away."""
    # Workers had to wait for what this imports, torch and plotly among it.
    from mmtune.report.publish import publish

    tracker = MlflowTracker(root)

    def act() -> None:
        study = tracker.study(outcome.key)
        if study is not None:
            with steps(console) as advance:
                publish(tracker, study, told, dataset, advance)

    try:
        waits = "the study is finished, its pictures and models are to be made"
        Patience(tracker, patience, partial(say, console), waits).insist(act, stopped)
    except AwayError:
        if not stopped():
            raise


# As editors and `help` show it.
with_options(run)

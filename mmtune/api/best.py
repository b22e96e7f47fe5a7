"""The best model that a given time allows: what `mmtune best` and `mmtune.find_best` have in common, and the latter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

from rich.console import Console

from mmtune.api.running import console_of_calls, find_data
from mmtune.base.progress import say
from mmtune.base.signals import end_process, interruptible, raise_interrupt
from mmtune.best.run import find_best as find
from mmtune.best.task import Found, Task
from mmtune.best.writing import find_or_write
from mmtune.data.building.drawing import with_test
from mmtune.data.dataset import Dataset
from mmtune.data.storage.store import kept
from mmtune.study import load_file
from mmtune.study.options import Options
from mmtune.tune.machine import pool_maker


def find_best(
    data: Dataset | str | Path | None = None,
    *,
    hours: float = 1.0,
    protocol: str | None = None,
    seed: int = 0,
    workers: int | None = None,
    device: str = "auto",
    studies: str | Path | None = None,
    store: str | Path = "mlruns",
    quiet: bool = False,
) -> Found:
    """The best model for a data set that a given time allows, registered, with a certificate; safe to interrupt.

    data, store, quiet: as of `mmtune.run`. Of data without a test partition a seventh is drawn for one, and kept in
    `store`. hours: how long it may take, all calls together. protocol: the split that chooses, the data's usual one if
    not given. studies: the folder in which the study is written that is searched, `studies` if not given; one that is
    there already is taken as it is.

    Raises KeyboardInterrupt where Ctrl-C has come: the same call goes on with what is left of the time. Raises
    InputError, in one line, where no test can be drawn, or there is not time enough for a single trial.
    """
    console = console_of_calls(quiet)
    root = Path(store).resolve()
    options = Options(hours=hours, protocol=protocol, seed=seed, workers=workers, device=device)
    dataset = find_data(data, root, console)
    asked = {"data": dataset.folder, "hours": f"{hours:g}", "protocol": protocol, "seed": seed or None}
    asked |= {"workers": workers, "device": device if device != "auto" else None, "studies": studies, "store": store}
    made = find_and_register(
        dataset, options, None if studies is None else Path(studies), root, console, asked, raise_interrupt
    )
    if made is None:
        raise KeyboardInterrupt
    return made


def find_and_register(
    dataset: Dataset,
    options: Options,
    studies: Path | None,
    root: Path,
    console: Console,
    given: Mapping[str, object],
    insist: Callable[[int], NoReturn] = end_process,
) -> Found | None:
    """The best model in `options.hours`, None where it was stopped. given, insist: as of `Task`, `run_and_publish`."""
    if dataset.test is None:
        # Whatever the seed of a search, so that the test of one is never what another has trained on.
        dataset = kept(with_test(dataset, 0), root / "data")
        drawn = f"{len(dataset.require_test()):,} rows are held out ({dataset.provenance['partition']})"
        say(console, f"no test partition: {drawn}; kept in {dataset.folder}")
    path, is_new = find_or_write(dataset, studies)
    say(console, f"{path} {'written: what is searched, yours to change' if is_new else 'says what is searched'}")
    told = load_file(path)
    with interruptible(insist) as stopped, pool_maker(options, dataset, root, console) as make_pool:
        task = Task(
            study=told,
            dataset=dataset,
            seconds=3600 * (options.hours or 1.0),
            options=options,
            root=root,
            console=console,
            stopped=stopped,
            make_pool=make_pool,
            given={name: own for name, own in given.items() if own is not None},
        )
        return find(task)

"""What the options of a verb name, opened: data, a store, a study's run, a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mmtune.base.commands import command_line
from mmtune.base.errors import InputError
from mmtune.cli.program import console

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset
    from mmtune.study import Study
    from mmtune.tracking import MlflowTracker, StudyRun


def look_in(studies: Path | None) -> None:
    """Look for studies in a folder of the user's too."""
    if studies is not None:
        from mmtune.study.finding import use_studies

        use_studies(studies)


def open_data(folder: Path | None) -> Dataset:
    """The data set in `folder`, or the bundled sample."""
    from mmtune.data.storage.store import load

    return load(folder or sample_path())


def sample_path(seed: int = 0) -> Path:
    """The bundled sample's folder, made on first use with a progress display."""
    from mmtune.data.bundled.sample import sample_folder

    with data_progress() as advance:
        return sample_folder(seed=seed, on_progress=advance)


def data_of(run: StudyRun) -> Dataset | None:
    """The data set that a study was run on, None where it is no longer there."""
    from mmtune.data.storage.store import load

    try:
        return load(Path(run.tags["mmtune.data_dir"]))
    except (InputError, KeyError):
        return None


def data_progress() -> AbstractContextManager[Callable[[str, int, int], None]]:
    """A progress display; gives a function of (step, done, total)."""
    from mmtune.base.progress import steps

    return steps(console)


def open_tracker(store: Path) -> MlflowTracker:
    """The tracker of an existing store."""
    from mmtune.tracking import MlflowTracker, exists

    if not exists(store):
        raise InputError(f"--store must name a folder with tracked runs, got {store}; run a study first")
    return MlflowTracker(store)


def pick_study(
    tracker: MlflowTracker,
    name: str,
    dataset: Dataset | None,
    protocol: str | None,
    seed: int | None,
    folds: int | None = None,
    run: str | None = None,
    finished: bool = False,
    trained: bool = False,
    whole: bool = False,
) -> tuple[StudyRun, list[StudyRun]]:
    """The study that was run last among those that fit, which is said, and the other tracked studies of that name.

    trained: not one of what `mmtune ensemble` has made of another's trials. whole: one whose models have seen all rows
    but those that validate them, which that of a single fold has not.
    """
    from mmtune.report.summary import fits
    from mmtune.study.key import ENSEMBLE

    digest = dataset.digest if dataset else None
    tracked = tracker.studies(name)
    fitting = [own for own in tracked if fits(own.key, digest, protocol, seed, folds)]
    fitting = [own for own in fitting if own.status == "FINISHED" or not finished]
    fitting = [own for own in fitting if own.key.sampler != ENSEMBLE or not trained]
    fitting = [own for own in fitting if own.run_id.startswith(run or "")]
    if whole and fitting and all(is_divided(own) for own in fitting):
        raise InputError(
            f"{name} must have one split to be promoted, it has {fitting[0].key.folds} folds: "
            f"`{command_line('ensemble', name)}` makes one model of them"
        )
    fitting = [own for own in fitting if not whole or not is_divided(own)]
    if not fitting:
        there = "; ".join(f"{own.key.slug} (run {own.run_id[:8]})" for own in tracked) or "none"
        raise InputError(f"{name} must have been run with these options first; tracked: {there}")
    if len(fitting) > 1:
        others = ", ".join(f"{own.run_id[:8]} ({own.key.title})" for own in fitting[1:6])
        more = f" and {len(fitting) - 6} more" if len(fitting) > 6 else ""
        typer.echo(f"{name}: the last of {len(fitting)} runs, {fitting[0].key.title}; another by --run: {others}{more}")
    return fitting[0], [own for own in tracked if own is not fitting[0]]


def is_divided(study: StudyRun) -> bool:
    """Whether each of a study's trained networks is one of a fold."""
    return study.key.folds > 0 and not study.key.of_all_folds


def model_folder(model: str, version: str | None, studies: Path | None, store: Path) -> Path:
    """Where the predictor of a registered model lies."""
    look_in(studies)
    from mmtune.serve.versions import champion_folder

    return champion_folder(store, model, version)


def example_inputs(study: Study, dataset: Dataset | None) -> dict[str, str]:
    """What a study's model may be given, as options of `predict`: a file, or numbers, for each bank that it reads; a
    table where that would take an option twice."""
    from mmtune.serve.given import KINDS

    options = {source: (option, "FILE") for option, source in KINDS.items()}
    forms = {} if dataset is None else {bank: dataset.forms[bank] for bank in study.base.model.reads}
    told = [options.get(form.source, ("input", f"{bank}=...")) for bank, form in forms.items() if form.source]
    # Whatever is made from one recording is given once.
    several = any(option != "audio" and count > 1 for option, count in Counter(option for option, _ in told).items())
    return {"table": "FILE"} if several else dict(told)

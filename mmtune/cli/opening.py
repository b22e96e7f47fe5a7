"""What the options of a verb name, opened: data, a store, a study's run, a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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


class Wanted(NamedTuple):
    """What the options of a command say of a tracked study; None fits all. run: its id in MLflow, or how it begins."""

    dataset: Dataset | None = None
    protocol: str | None = None
    seed: int | None = None
    folds: int | None = None
    run: str | None = None

    def fits(self, study: StudyRun) -> bool:
        """Whether a study is such a one."""
        digest, key = None if self.dataset is None else self.dataset.digest, study.key
        told = ((digest, key.digest), (self.protocol, key.protocol), (self.seed, key.seed), (self.folds, key.folds))
        return all(want in (None, there) for want, there in told) and study.run_id.startswith(self.run or "")


def always(study: StudyRun) -> bool:
    """Every study."""
    return True


def is_trained(study: StudyRun) -> bool:
    """Whether a study's models were trained, and not made of another's."""
    from mmtune.study.key import ENSEMBLE

    return study.key.sampler != ENSEMBLE


def pick_study(
    tracker: MlflowTracker, name: str, wanted: Wanted, only: Callable[[StudyRun], bool] = always
) -> tuple[StudyRun, list[StudyRun]]:
    """The study that was run last among those that fit, which is said, and the other tracked studies of that name."""
    tracked = tracker.studies(name)
    last = last_of([own for own in tracked if wanted.fits(own) and only(own)], name, tracked)
    return last, [own for own in tracked if own is not last]


def last_of(fitting: Sequence[StudyRun], name: str, tracked: Sequence[StudyRun]) -> StudyRun:
    """The first of the studies that fit, which is said where there are more; InputError, with all, where none does."""
    if not fitting:
        there = "; ".join(f"{own.key.slug} (run {own.run_id[:8]})" for own in tracked) or "none"
        raise InputError(f"{name} must have been run with these options first; tracked: {there}")
    if len(fitting) > 1:
        others = ", ".join(f"{own.run_id[:8]} ({own.key.title})" for own in fitting[1:6])
        more = f" and {len(fitting) - 6} more" if len(fitting) > 6 else ""
        typer.echo(f"{name}: the last of {len(fitting)} runs, {fitting[0].key.title}; another by --run: {others}{more}")
    return fitting[0]


def pick_whole(tracker: MlflowTracker, name: str, wanted: Wanted, **where: object) -> StudyRun:
    """As `pick_study`, one whose networks are not of single folds; of such it is said what makes a model of them.

    where: the folders that the command was given, as store and studies.
    """
    tracked = tracker.studies(name)
    fitting = [own for own in tracked if wanted.fits(own)]
    whole = [own for own in fitting if not own.key.divided]
    if fitting and fitting[0].key.divided:
        last = fitting[0]
        command = command_line("ensemble", name, run=last.run_id[:8], **where)
        hint = f": `{command}` makes one model of them" if last.key.joinable else ""
        if not whole:
            raise InputError(f"{name} must have one split to be promoted, it has {last.key.folds} folds{hint}")
        typer.echo(f"{name}: passed over its last run, {last.key.title}, which has {last.key.folds} folds{hint}")
    return last_of(whole, name, tracked)


def model_folder(model: str, version: str | None, studies: Path | None, store: Path) -> Path:
    """Where the predictor of a registered model lies."""
    look_in(studies)
    from mmtune.serve.versions import champion_folder

    return champion_folder(store, model, version)


def example_inputs(study: Study, dataset: Dataset | None) -> dict[str, str]:
    """What a study's model may be given, as options of `predict`: a file, or numbers, for each bank that it reads; a
    table where that would take an option twice."""
    from mmtune.serve.answer.given import KINDS

    options = {source: (option, "FILE") for option, source in KINDS.items()}
    forms = {} if dataset is None else {bank: dataset.forms[bank] for bank in study.base.model.reads}
    told = [options.get(form.source, ("input", f"{bank}=...")) for bank, form in forms.items() if form.source]
    # Whatever is made from one recording is given once.
    several = any(option != "audio" and count > 1 for option, count in Counter(option for option, _ in told).items())
    return {"table": "FILE"} if several else dict(told)

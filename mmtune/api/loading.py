"""A registered model, loaded."""

from __future__ import annotations

from pathlib import Path

from mmtune.networks.kinds import remember
from mmtune.serve.answer.predictor import MODEL, Predictor
from mmtune.serve.loader import know_network
from mmtune.serve.versions import champion_folder
from mmtune.study import Study


def load(
    name: str, *, version: int | str | None = None, store: str | Path = "mlruns", study: Study | None = None
) -> Predictor:
    """A registered model, ready to predict on the CPU: the champion of that name, or a version of it.

    store: the one that it was promoted in. study: whose network it is, where that is a class of this script or notebook
    and `mmtune.run` was not called here; a network of a study's file is found as `mmtune studies` finds the file.
    Loading runs no code that is not here already. Raises InputError, with what is registered, where there is no such
    model, and where a file of it is missing, changed or of a network that is not known here.
    """
    if study is not None:
        remember(study.base.model, study.name)
    folder = champion_folder(Path(store), name, version)
    know_network(folder / MODEL)
    return Predictor.load(folder)

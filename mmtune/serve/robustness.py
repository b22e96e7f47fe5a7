"""What a study's best trial makes of rows with which something has gone wrong: measured, and kept with its run."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmtune.analysis.embeddings import sample_rows
from mmtune.base.errors import InputError
from mmtune.base.files import write_whole
from mmtune.data.dataset import RECORDING, TEST, Dataset, Partition, Progress
from mmtune.data.forms import Sound, Waveform
from mmtune.networks.card import HELD, MODEL, VALIDATION
from mmtune.networks.storage import load_model
from mmtune.serve.measured import FILES, Group, Measured, told
from mmtune.tracking import MlflowTracker, StudyRun, TrialRun
from mmtune.train.answers import read_answers
from mmtune.train.batches import hold, rows_of
from mmtune.train.evaluate import evaluate
from mmtune.train.metrics import by_member
from mmtune.train.robustness import Source, robustness_of

MOST = 2_000
"""Rows that are measured unless told otherwise."""
WAVES = "waveform"
COMPARED, ALIKE, NEAR = 32, 0.9, 1e-3


def measure(
    tracker: MlflowTracker,
    study: StudyRun,
    trial: TrialRun,
    dataset: Dataset,
    on: str,
    advance: Progress,
    most: int = MOST,
) -> Measured:
    """Measure a trial's model on so many rows at most, drawn by the study's seed, and keep that with its run.

    on: "validation", rows that chose among its epochs and trials, or "test". Raises InputError where the data set is
    not the study's, or has no test partition.
    """
    key = study.key
    key.require_data(dataset, f"robustness of {key.slug} must be measured on")
    if key.of_all_folds and on != TEST:
        where = "the test partition (--test)" if dataset.test is not None else "a test partition, which the data lack"
        raise InputError(
            f"robustness of {key.slug} must be measured on {where}, as every other row has trained some of its networks"
        )
    whole, numbers = rows_on(tracker, trial, dataset, on)
    part = whole.take(numbers[sample_rows(len(numbers), most, key.seed)])
    loaded = load_model(tracker.artifact(trial.run_id, MODEL))
    banks = loaded.config.reads
    rows, sources = rows_of(part, len(dataset.classes), banks, missing=banks), sources_of(dataset, part, banks)
    found = evaluate(loaded.model, rows)
    right = (found.predictions == found.labels).numpy()
    trained = dataset.train.take(trained_rows(tracker, study, trial, len(dataset.train)))
    measured = Measured(
        on=on,
        rows=len(part),
        robustness=robustness_of(loaded.model, rows, key.seed, sources, advance),
        groups=tuple(group_of(name, part, trained, right) for name in part.groups if tells(part, name)),
    )
    with tempfile.TemporaryDirectory() as folder:
        write_whole(Path(folder) / FILES[on], told(measured))
        tracker.replace_files(trial.run_id, Path(folder))
    return measured


def rows_on(tracker: MlflowTracker, trial: TrialRun, dataset: Dataset, on: str) -> tuple[Partition, NDArray[np.int64]]:
    """A partition, and the numbers of its rows that are to be measured."""
    if on == TEST:
        return dataset.require_test(), np.arange(len(dataset.require_test()))
    path = tracker.artifact(trial.run_id, VALIDATION)
    stored = read_answers(path, ("row", "label"))
    rows, labels = stored["row"], dataset.train.labels
    if rows.max() >= len(labels) or not np.array_equal(stored["label"], labels[rows]):
        raise InputError(f"{path} must hold rows of {dataset.name} with their labels, it holds others")
    return dataset.train, rows


def trained_rows(tracker: MlflowTracker, study: StudyRun, trial: TrialRun, count: int) -> NDArray[np.int64]:
    """The rows of the training partition that neither validate a trial nor, of a fold, were held out of it."""
    if study.key.of_all_folds:
        return np.arange(count)
    kept = (VALIDATION, HELD) if study.key.divided else (VALIDATION,)
    apart = [read_answers(tracker.artifact(trial.run_id, name), ("row",))["row"] for name in kept]
    return np.setdiff1d(np.arange(count), np.concatenate(apart))


def sources_of(dataset: Dataset, part: Partition, banks: Sequence[str]) -> dict[str, Source]:
    """For the banks that are made of the recordings whose samples are in the bank WAVES, that bank of the same rows."""
    waves = part.banks.get(WAVES)
    if waves is None or type(dataset.forms[WAVES]) is not Waveform:
        return {}
    forms = {name: form for name in banks if isinstance(form := dataset.forms[name], Sound) and name != WAVES}
    held = hold(waves, torch.device("cpu"))
    return {
        name: Source(name=WAVES, held=held, remake=partial(remade, form))
        for name, form in forms.items()
        if is_made_of(part, name, form)
    }


def remade(form: Sound, waves: Tensor) -> Tensor:
    """Waveforms (M, samples) int16 as a form's scaled values (M, *shape)."""
    return torch.from_numpy(form.scaled(form.of_waves(waves.numpy())))


def is_made_of(part: Partition, name: str, form: Sound) -> bool:
    """Whether nearly all of a few values of a bank are what the waveforms of their rows become.

    Not so where a bank is of other recordings, or of more of each than the waveforms hold.
    """
    waves, bank = part.banks[WAVES], part.banks[name]
    few = np.flatnonzero((waves.index >= 0) & (bank.index >= 0))[:COMPARED]
    if form.samples != waves.values.shape[1] or not len(few):
        return False
    made, there = form.scaled(form.of_waves(waves.of_rows(few))), bank.of_rows(few)
    far = np.abs(made.astype(np.float64) - there).reshape(len(few), -1).max(axis=1)
    return float((far <= NEAR).mean()) >= ALIKE


def tells(part: Partition, name: str) -> bool:
    """Whether a group is known of all rows, and of several members; a recording has too few rows to be judged by."""
    return name != RECORDING and part.known(name) and len(np.unique(part.groups[name])) > 1


def group_of(name: str, part: Partition, trained: Partition, right: NDArray[np.bool_]) -> Group:
    """Accuracy by the members of a group, of which rows (N,) are right."""
    members, counts, shares = by_member(part.groups[name], right)
    worst = int(shares.argmin())
    return Group(
        name=name,
        members=len(members),
        trained=int(np.isin(members, trained.groups[name]).sum()),
        mean=float(shares.mean()),
        worst=float(shares[worst]),
        member=str(members[worst]),
        rows=int(counts[worst]),
    )

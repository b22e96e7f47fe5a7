"""A registered model as one file for wherever mmtune is not, written only if it answers as the model does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmtune.base.errors import InputError, first_line
from mmtune.base.files import write_named
from mmtune.base.provenance import installed
from mmtune.data.bundled.sample import BANKS
from mmtune.data.checks import require_banks
from mmtune.data.dataset import Bank, Dataset
from mmtune.data.forms import Form, dtype_of, form_to_json
from mmtune.serve.answer.predictor import Predictor
from mmtune.serve.export.formats import Arrays, Format, format_of
from mmtune.serve.export.graph import PROBABILITIES, traced
from mmtune.serve.scoring import on_scale

COUNT, AT_ONCE = 28, (1, 7)
"""Rows that a file is tried with, and how many of them it is given at once."""
FURTHEST = 1e-4
"""From the model's own probabilities those of a file may be."""
LOUD = 3000.0


@dataclass(frozen=True, kw_only=True)
class Rows:
    """By bank the values (B, *shape) of rows as a data set has them, and where they are from."""

    banks: Arrays
    source: str


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written; difference: the largest of its probabilities from the model's own, on `rows`."""

    path: Path
    size: int
    difference: float
    rows: Rows

    def __str__(self) -> str:
        sizes = " and of ".join(map(str, AT_ONCE))
        tried = f"{len(next(iter(self.rows.banks.values())))} rows of {self.rows.source}, in batches of {sizes}"
        return f"{self.path}: {self.size:,} bytes; its probabilities differ by at most {self.difference:.1e} on {tried}"


def export(predictor: Predictor, to: str, out: Path, rows: Rows, name: str, version: str) -> Exported:
    """Write a predictor as the file `out` in one of FORMATS, with the name and version that it is registered as.

    Raises InputError where there is no such format, the network cannot be written in it, the file cannot be written
    where it is to be, or it answers another class, or a probability by more than FURTHEST another; nothing is written
    then.
    """
    made = format_of(to)
    example = {bank: torch.from_numpy(own[:3].copy()) for bank, own in rows.banks.items()}
    content = made.to_bytes(traced(predictor, example), about(predictor, name, version))
    difference = furthest(predictor, rows.banks, answers(made, content, rows.banks))
    write_named(out, content)
    return Exported(path=out, size=len(content), difference=difference, rows=rows)


def about(predictor: Predictor, name: str, version: str) -> dict[str, str]:
    """What a file says of itself: model and version, mmtune's version, classes, banks and temperature, as JSON."""
    told: dict[str, Any] = {
        "model": name,
        "version": version,
        "mmtune": installed("mmtune"),
        "classes": list(predictor.classes),
        "banks": {bank: told_of(form) for bank, form in predictor.forms.items()},
        "missing": [bank for bank in predictor.missing if bank in predictor.forms],
        "temperature": predictor.calibration.fused.temperature,
    }
    return {what: json.dumps(own) for what, own in told.items()}


def told_of(form: Form) -> dict[str, Any]:
    """What the values of a bank are, and the shape and the type of one."""
    return {**form_to_json(form), "shape": list(form.shape), "dtype": str(dtype_of(form))}


def answers(made: Format, content: bytes, banks: Arrays) -> dict[int, NDArray[Any]]:
    """The probabilities (B, C) that a file gives of some rows, by how many it is given at once.

    InputError where it cannot be run.
    """
    try:
        run = made.loaded(content)
        return {size: np.concatenate([run(part)[PROBABILITIES] for part in batches(banks, size)]) for size in AT_ONCE}
    except Exception as error:  # what runs it may raise anything
        raise InputError(f"the file was not written, it cannot be run: {first_line(error)}") from error


def furthest(predictor: Predictor, banks: Arrays, found: Mapping[int, NDArray[Any]]) -> float:
    """The largest difference of `answers` from the predictor's own.

    InputError where it is more than FURTHEST, or a row gets another class.
    """
    own = predictor.predict_rows(banks, decide=False)
    apart = {size: float(np.abs(said - own.probabilities).max()) for size, said in found.items()}
    others = {size: int((said.argmax(1) != own.label).sum()) for size, said in found.items()}
    for size, difference in apart.items():
        # NaN is not less than anything.
        if not difference <= FURTHEST or others[size]:
            told = f"probabilities differ by up to {difference:.1e}, the class of {others[size]} rows"
            raise InputError(f"the file was not written, in batches of {size} its {told} from the model's own")
    return max(apart.values())


def batches(banks: Arrays, size: int) -> list[dict[str, NDArray[Any]]]:
    """Rows by bank, so many at a time."""
    count = len(next(iter(banks.values())))
    return [{bank: own[at : at + size] for bank, own in banks.items()} for at in range(0, count, size)]


def rows_for(predictor: Predictor, dataset: Dataset | None) -> Rows:
    """COUNT rows of a data set's test partition, or of its training rows where it has none; without one, drawn ones.

    In the last row the banks that may be missing are zeros. InputError where the data set is not what the model reads.
    """
    found = drawn(predictor.forms) if dataset is None else of_dataset(predictor, dataset)
    banks = {bank: np.array(own) for bank, own in found.items()}
    for bank in banks.keys() & set(predictor.missing):
        banks[bank][-1] = 0
    return Rows(banks=banks, source="drawn values" if dataset is None else dataset.name)


def of_dataset(predictor: Predictor, dataset: Dataset) -> dict[str, NDArray[Any]]:
    """Rows from all over a data set, on the model's scale."""
    part = dataset.test or dataset.train
    require_banks(part, tuple(predictor.forms), tuple(predictor.forms))
    chosen, whole = np.linspace(0, len(part) - 1, COUNT).astype(np.int64), replace(dataset, test=part)
    values = {bank: on_scale(predictor, whole, bank) for bank in predictor.forms}
    return {bank: Bank(values=own, index=part.banks[bank].index).of_rows(chosen) for bank, own in values.items()}


def drawn(forms: Mapping[str, Form]) -> dict[str, NDArray[Any]]:
    """Random values of each form: pixels evenly, samples as noise, numbers around 0."""
    rng = np.random.default_rng(0)
    return {bank: drawn_of(form, rng) for bank, form in forms.items()}


def drawn_of(form: Form, rng: np.random.Generator) -> NDArray[Any]:
    """COUNT random values of a form, (COUNT, *shape)."""
    shape, kind = (COUNT, *form.shape), dtype_of(form)
    if kind == np.uint8:
        return rng.integers(0, 256, shape).astype(kind)
    return (rng.standard_normal(shape) * (LOUD if kind == np.int16 else 1.0)).astype(kind)


def reads_sample(predictor: Predictor) -> bool:
    """Whether the bundled sample has what a model reads, perhaps on another scale."""
    there = {own.bank: own.form.unfitted for own in BANKS}
    return all(bank in there and there[bank] == form.unfitted for bank, form in predictor.forms.items())

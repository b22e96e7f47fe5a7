"""What a promoted model was trained on, so that what is like nothing of it can be told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset, Progress, Rows, quiet
from mmtune.data.extent import Extents, extents, measures, outside
from mmtune.data.forms import Form
from mmtune.data.protocols import Split, folds, rotated, split
from mmtune.networks.storage import load_model
from mmtune.networks.vectors import TOGETHER
from mmtune.serve.answer.trained import Present, Trained, trained_on
from mmtune.study import StudyKey
from mmtune.train.batches import rows_of
from mmtune.train.familiar_banks import familiar_banks
from mmtune.train.familiarity import SHORTEST, Familiarity, Vectors


@dataclass(frozen=True, kw_only=True, eq=False)
class Usual:
    """By bank, between what its training values lie by plain measures, where they lie to the network, which they are.

    near may have TOGETHER, for a network that has nothing of its banks one by one.
    """

    extents: Mapping[str, Extents] = field(default_factory=dict)
    near: Mapping[str, Familiarity] = field(default_factory=dict)
    trained: Trained = field(default_factory=dict)

    def remoteness(self, vectors: Mapping[str, Vectors], there: Present) -> dict[str, Vectors]:
        """By bank, how far each value lies from training, (B,), as a share of how far one may; infinity without one.

        vectors: by bank, as `bank_vectors` gives them. there (B,): by bank which rows have a value, all if not given.
        """
        known = {bank: near for bank, near in self.near.items() if bank in vectors}
        far = {bank: near.distances(vectors[bank]) / max(near.threshold, SHORTEST) for bank, near in known.items()}
        return {bank: np.where(there[bank], own, np.inf) if bank in there else own for bank, own in far.items()}

    def strange(
        self,
        forms: Mapping[str, Form],
        values: Mapping[str, NDArray[Any]],
        remote: Mapping[str, Vectors],
        there: Present,
    ) -> dict[str, list[str]]:
        """By bank why each value (B, *shape) is like nothing in training, "" where it is not.

        remote: as `remoteness` gives it. there (B,): by bank which rows have a value, all if not given.
        """
        found = {bank: self.of_bank(bank, forms[bank], own, remote) for bank, own in values.items()}
        if TOGETHER in remote and len(values) == len(forms):
            whole = np.logical_and.reduce(list(there.values())) if there else None
            found[TOGETHER] = where(self.far(TOGETHER, remote[TOGETHER]), whole)
        return {bank: where(why, there.get(bank)) for bank, why in found.items()}

    def further(self, remote: Mapping[str, Vectors], strange: Mapping[str, list[str]]) -> dict[str, Vectors]:
        """The same distances; what is strange by plain measures is further than all that is not."""
        told = {bank: np.array([bool(why) for why in strange[bank]]) for bank in remote if bank in strange}
        return {bank: np.where(own & (remote[bank] <= 1), remote[bank] + 1, remote[bank]) for bank, own in told.items()}

    def of_bank(self, bank: str, form: Form, values: NDArray[Any], remote: Mapping[str, Vectors]) -> list[str]:
        """Why each value of a bank is strange: far outside of what is usual, or far from all training values."""
        usual = self.extents.get(bank)
        told = [", ".join(outside(form, usual, value)) for value in values] if usual else [""] * len(values)
        distant = self.far(bank, remote[bank]) if bank in remote else told
        return [plain or other for plain, other in zip(told, distant, strict=True)]

    def far(self, bank: str, remote: Vectors) -> list[str]:
        """Of each value (B,) how far it lies from training, "" where that is usual."""
        most = self.near[bank].threshold
        unit = max(most, SHORTEST)
        return [f"distance {own * unit:.2f}, in training up to {most:.2f}" if own > 1 else "" for own in remote]

    def covers(self, bank: str) -> bool:
        """Whether anything can be told of a bank's values."""
        return bank in self.near or TOGETHER in self.near


NOTHING = Usual()
"""Of a model that was not promoted: nothing is strange to it."""


def where(why: list[str], there: NDArray[np.bool_] | None) -> list[str]:
    """Reasons of those rows alone that have a value."""
    return why if there is None else [reason if own else "" for reason, own in zip(why, there, strict=True)]


def sides_of(key: StudyKey, dataset: Dataset) -> Split:
    """Rows by which a model of a study tells what is like training, and others by which it tells how far that reaches.

    Of the folds of a cross-validation together those of the first one, whose network is asked: all but what it never
    saw.
    """
    if not key.folds:
        return split(dataset.train, key.protocol, key.seed)
    held = rotated(folds(dataset.train, key.protocol, key.folds, key.seed))[0].held
    assert held is not None
    return Split(train=np.setdiff1d(np.arange(len(dataset.train)), held), validation=held)


def training_rows(key: StudyKey, sides: Split) -> Rows:
    """Of both `sides_of` a study the rows that have trained its models: of folds together all."""
    return np.union1d(sides.train, sides.validation) if key.folds else sides.train


def learnt(model: Path, dataset: Dataset, key: StudyKey, advance: Progress = quiet) -> Usual:
    """What is usual to a saved model of a study, of training and validation rows."""
    loaded = load_model(model)
    reads = tuple(loaded.config.reads)
    rows = rows_of(dataset.train, len(dataset.classes), reads, missing=reads)
    sides = sides_of(key, dataset)
    trained = training_rows(key, sides)
    near = familiar_banks(loaded.model, rows, sides.train, sides.validation, key.seed, advance)
    banks = {bank: dataset.train.banks[bank] for bank in reads}
    used = {bank: np.unique(own.index[trained]) for bank, own in banks.items()}
    # A bank that only rows beyond these have a value in reaches nowhere.
    there = {bank: own[own >= 0] for bank, own in used.items() if (own >= 0).any()}
    reach = {bank: extents(dataset.forms[bank], banks[bank].values, own) for bank, own in there.items()}
    return Usual(extents=reach, near=near, trained=trained_on(dataset.train, reads))


def extents_from(data: object, forms: Mapping[str, Form], name: str) -> dict[str, Extents]:
    """By bank what a card says is usual; InputError, naming it, unless it has the measures of those forms."""
    if not isinstance(data, dict) or not data.keys() <= forms.keys():
        raise InputError(f"{name} must be by bank of {', '.join(forms)}, got {data!r:.200}")
    for bank, own in data.items():
        wanted = measures(forms[bank])
        if not isinstance(own, dict) or own.keys() != wanted.keys() or not all(map(is_span, own.values())):
            raise InputError(f"{name}: {bank} must have {', '.join(wanted)}, two numbers each, got {own!r:.200}")
    return {bank: {measure: (low, high) for measure, (low, high) in own.items()} for bank, own in data.items()}


def is_span(value: object) -> bool:
    """Whether a value of a card is two finite floats, the lower one first."""
    if not isinstance(value, list) or len(value) != 2 or not all(type(own) is float for own in value):
        return False
    return all(map(math.isfinite, value)) and bool(value[0] <= value[1])

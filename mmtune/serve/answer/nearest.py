"""Beside an answer, the training rows whose values are nearest to what was given, as the network sees them.

A registered model keeps none of its rows: they are read from the data set, where that is at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.analysis.rows import Media
from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.data.storage.store import load
from mmtune.networks.vectors import TOGETHER
from mmtune.serve.answer.predictor import Predictor
from mmtune.serve.answer.usual import sides_of, training_rows
from mmtune.study import StudyKey
from mmtune.tracking import MlflowTracker
from mmtune.train.batches import rows_of
from mmtune.train.familiar_banks import vectors_at
from mmtune.train.familiarity import Vectors, places_of

MOST, SHOWN = 2_000, 3
"""So many training values of a bank are compared with, and the nearest are shown."""
MOST_BYTES = 1_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """Training rows (R,) by their numbers, one for each distinct value of a bank, and where those lie (R, D + 2)."""

    rows: NDArray[np.int64]
    places: Vectors


class TrainingRows:
    """What a predictor was trained on, by bank; nothing of a bank of which it cannot be told what is usual.

    Distances are those by which that is told (`mmtune.train.familiarity`). It knows a bank once `learn` has asked the
    model about it, which takes a while: it may do so in a thread of its own.
    """

    def __init__(self, predictor: Predictor, dataset: Dataset, key: StudyKey) -> None:
        """key: of the study in which the model was trained. Raises InputError where the data set is not the model's."""
        digest = predictor.card["data"].get("digest")
        if dataset.digest != digest:
            raise InputError(f"the data must be those of the model, digest {digest!s:.12}, are {dataset.digest:.12}")
        self.predictor, self.dataset, self.key = predictor, dataset, key
        self.known: dict[str, Known] = {}

    def learn(self) -> None:
        """Ask the model about training values, at most MOST of each bank."""
        train, reads = self.dataset.train, tuple(self.predictor.loaded.config.reads)
        rows = rows_of(train, len(self.dataset.classes), reads, missing=reads)
        training = training_rows(self.key, sides_of(self.key, self.dataset))
        for bank in self.predictor.usual.near:
            index = training if bank == TOGETHER else train.banks[bank].index[training]
            values, first = np.unique(index, return_index=True)
            drawn = np.random.default_rng(self.key.seed).permutation(training[first[values >= 0]])[:MOST]
            vectors = vectors_at(self.predictor.model, rows, drawn, bank)
            self.known[bank] = Known(rows=drawn, places=self.placed(bank, vectors))

    def nearest(self, values: Mapping[str, NDArray[Any]]) -> dict[str, list[dict[str, Any]]]:
        """By bank the SHOWN training rows that are nearest to a row's value, the nearest first, as plain JSON.

        values: of that row, (1, *shape) by bank. Each has its class, its groups, and data URIs of pictures and sounds,
        or numbers as text.
        """
        vectors = self.predictor.vectors(values)
        there = {*values, TOGETHER} if len(values) == len(self.predictor.forms) else set(values)
        found = {}
        for bank, known in list(self.known.items()):
            if bank in there:
                apart = known.places - self.placed(bank, vectors[bank])
                order = np.argsort(np.square(apart).sum(axis=1), kind="stable")[:SHOWN]
                found[bank] = [self.shown(bank, int(row)) for row in known.rows[order]]
        return found

    def placed(self, bank: str, vectors: Vectors) -> Vectors:
        """Where vectors (B, F) of a bank lie, (B, D + 2)."""
        near = self.predictor.usual.near[bank]
        return places_of(vectors, near.mean, near.axes, near.length)

    def shown(self, bank: str, row: int) -> dict[str, Any]:
        """A training row, as far as it is of a bank."""
        part = self.dataset.train.take(np.array([row]))
        media = Media(part, list(self.predictor.forms) if bank == TOGETHER else [bank], self.dataset.forms, MOST_BYTES)
        return {
            "class": self.dataset.classes[int(part.labels[0])],
            "groups": media.groups(0),
            "pictures": [*media.pictures(0).values()] or [*media.maps(0).values()],
            "sounds": [*media.sounds(0).values()],
            "numbers": [*media.numbers(0).values()],
        }


def find_training_rows(tracker: MlflowTracker, predictor: Predictor, given: Dataset | None = None) -> TrainingRows:
    """The training rows of a registered model, from the data set of its study, or from the one `given`.

    Raises InputError where the study is not tracked, or its data set is not where it was, or is another one.
    """
    slug = str(predictor.card.get("study_key", ""))
    run = next((own for own in tracker.studies(slug.partition(".")[0]) if own.key.slug == slug), None)
    if run is None:
        raise InputError(f"the study of the model must be in {tracker.root}, {slug or 'it'} is not")
    return TrainingRows(predictor, given or load(Path(run.tags.get("mmtune.data_dir", ""))), run.key)

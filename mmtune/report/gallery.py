"""Rows to look at and to hear: what the best trial gets wrong, what it is least sure of, and some of every class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.analysis.embeddings import sample_rows
from mmtune.analysis.rows import Media
from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.networks.card import CALIBRATION, MODEL
from mmtune.networks.storage import load_model
from mmtune.tracking import MlflowTracker, StudyRun, TrialRun
from mmtune.train.batches import rows_of
from mmtune.train.calibration_file import read_calibration
from mmtune.train.evaluate import evaluate

MOST_WRONG, MOST_UNSURE, OF_CLASS, MOST_CLASSES = 48, 12, 2, 20
ASKED = 400
"""Of the rows that are right so many are asked again, to find those that are least sure."""
MOST_BYTES = 3_000_000
"""Of all pictures and sounds; what comes after has numbers alone."""
WRONG, UNSURE, SAMPLE = "wrong", "unsure", "sample"
SEEN = "every row has trained some of these networks, which would know it"
"""Of the networks of a cross-validation together."""


def same_data(dataset: Dataset | None, run: StudyRun, validation: Mapping[str, NDArray[Any]]) -> str:
    """Why rows of a study cannot be shown from a data set, "" where they can. validation: its stored answers."""
    if dataset is None or dataset.digest != run.key.digest:
        return "the data of this study are not where they were"
    rows = validation["row"]
    if rows.max() >= len(dataset.train) or not np.array_equal(dataset.train.labels[rows], validation["label"]):
        return "the stored answers are not of these data"
    return ""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A row as the page shows it.

    kind: WRONG, UNSURE or SAMPLE. pair: the numbers of its true and its predicted class. said: by who says it, "" for
    the network and the names of its banks, the class and its probability. groups: of the row, by name. pictures, maps
    of what is heard or goes over time, sounds: data URIs by bank; numbers: the first ones of others.
    """

    kind: str
    row: int
    pair: tuple[int, int]
    true: str
    said: Mapping[str, tuple[str, float]]
    groups: Mapping[str, str]
    pictures: Mapping[str, str]
    maps: Mapping[str, str]
    sounds: Mapping[str, str]
    numbers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """wrong: how many validation rows are; shown: those on the page. asked: rows that were asked again.

    classes: how many there are. full: whether pictures and sounds were left out.
    """

    wrong: int
    asked: int
    classes: int
    shown: Sequence[Shown]
    full: bool
    most_classes: int = MOST_CLASSES
    most_asked: int = ASKED

    def of(self, kind: str) -> list[Shown]:
        """The rows of a kind."""
        return [own for own in self.shown if own.kind == kind]

    @property
    def pairs(self) -> list[tuple[tuple[int, int], str, int]]:
        """Pairs of classes, the same in words, and how many wrong rows of each are shown, the most first."""
        counts = Counter(own.pair for own in self.of(WRONG))
        words = {own.pair: f"{own.true} \N{RIGHTWARDS ARROW} {own.said[''][0]}" for own in self.of(WRONG)}
        return [(pair, words[pair], count) for pair, count in sorted(counts.items(), key=lambda own: (-own[1], own[0]))]


def gallery_section(
    tracker: MlflowTracker,
    run: StudyRun,
    trial: TrialRun,
    validation: Mapping[str, NDArray[Any]],
    names: Sequence[str],
    dataset: Dataset | None,
) -> Gallery | str:
    """The gallery of a trial's validation rows; why there is none, in words, where the data are not at hand.

    validation: its stored answers. The trial's model is asked again about the rows that may be shown.
    """
    reason = SEEN if run.key.of_all_folds else same_data(dataset, run, validation)
    if dataset is None or reason:
        return reason
    rows, labels = validation["row"], validation["label"]
    right = validation["prediction"] == labels
    wrong, well = np.flatnonzero(~right), np.flatnonzero(right)
    seed = run.key.seed
    some = well[of_each_class(labels[well])]
    drawn = np.union1d(well[sample_rows(len(well), ASKED, seed)], some)
    asked = np.concatenate([wrong[sample_rows(len(wrong), ASKED, seed)], drawn])
    part = dataset.train.take(rows[asked])
    try:
        loaded = load_model(tracker.artifact(trial.run_id, MODEL))
        scales = read_calibration(tracker.artifact(trial.run_id, CALIBRATION))
    except InputError as error:
        return str(error)
    banks = loaded.config.reads
    found = evaluate(loaded.model, rows_of(part, len(names), banks, missing=banks))
    temperatures = {"": scales.fused.temperature, **{bank: own.temperature for bank, own in scales.alone.items()}}
    logits = {"": found.logits, **{bank: own for bank, own in found.alone.items() if bank in temperatures}}
    said = {name: (own / temperatures[name]).softmax(1).numpy() for name, own in logits.items()}
    sure, is_right, told = said[""].max(1), right[asked], validation["prediction"][asked]
    chosen = [
        *((place, WRONG) for place in spread_over_pairs(sure, is_right, labels[asked], told)),
        *(
            (place, UNSURE)
            for place in np.argsort(sure + ~is_right * 2, kind="stable")[:MOST_UNSURE]
            if is_right[place]
        ),
        *((place, SAMPLE) for place in np.flatnonzero(np.isin(asked, some))),
    ]
    media = Media(part, banks, dataset.forms, MOST_BYTES)
    shown = [
        Shown(
            kind=kind,
            row=int(rows[asked][place]),
            pair=(int(labels[asked][place]), int(told[place])),
            true=names[int(labels[asked][place])],
            said={
                name: (names[int(own[place].argmax())], float(own[place].max()))
                for name, own in said.items()
                if name not in found.there or found.there[name][place]
            },
            groups=media.groups(place),
            pictures=media.pictures(place),
            maps=media.maps(place),
            sounds=media.sounds(place),
            numbers=media.numbers(place),
        )
        for place, kind in chosen
        # A row between two classes may be another processor's other class.
        if said[""][place].argmax() == told[place]
    ]
    return Gallery(wrong=len(wrong), asked=len(asked), classes=len(names), shown=shown, full=media.full)


def spread_over_pairs(
    sure: NDArray[Any], is_right: NDArray[np.bool_], true: NDArray[np.int64], predicted: NDArray[np.int64]
) -> list[int]:
    """At most MOST_WRONG places of wrong rows: of each pair of classes the surest, then of each the next, and so on."""
    order = sorted(np.flatnonzero(~is_right), key=lambda place: -sure[place])
    turns, ranked = Counter[tuple[int, int]](), []
    for place in order:
        pair = (int(true[place]), int(predicted[place]))
        turns[pair] += 1
        ranked.append((turns[pair], int(place)))
    return [place for _, place in sorted(ranked, key=lambda own: own[0])[:MOST_WRONG]]


def of_each_class(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of the first OF_CLASS rows of each class, of at most MOST_CLASSES classes, class by class."""
    found = [np.flatnonzero(labels == own)[:OF_CLASS] for own in np.unique(labels)[:MOST_CLASSES]]
    return np.concatenate(found) if found else np.zeros(0, np.int64)

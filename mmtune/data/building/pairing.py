"""Pairs of the same class out of pictures of one source and recordings of another."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mmtune.data.building.asking import IMAGE
from mmtune.data.dataset import Partition, Rows
from mmtune.data.identity import equal_rows


def pair(pictures: Partition, recordings: Partition, rng: np.random.Generator) -> Partition:
    """Every picture with a recording of its class, equal pictures of a class with one recording.

    Each distinct recording has its turn before any has two; those beyond the pictures are left out. Groups of both are
    kept, those of the recordings where a name is in both.
    """
    width = int(pictures.labels.max()) + 1
    _, first, own = np.unique(
        pictures.banks[IMAGE].index * width + pictures.labels, return_index=True, return_inverse=True
    )
    _, distinct = np.unique(equal_rows(recordings), return_index=True)
    chosen = distinct[match(pictures.labels[first], recordings.labels[distinct], rng)][own]
    heard = recordings.take(chosen)
    made = replace(pictures, banks={**pictures.banks, **heard.banks}, groups={**pictures.groups, **heard.groups})
    return made.compact()


def match(pictures: Rows, recordings: Rows, rng: np.random.Generator) -> Rows:
    """For each label of a picture (N,) a recording of that label out of (M,): each once before any twice, at random."""
    index = np.empty(len(pictures), np.int64)
    order, heard = np.argsort(pictures, kind="stable"), np.argsort(recordings, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(pictures[order])) + 1):
        label = pictures[rows[0]]
        choices = heard[slice(*np.searchsorted(recordings[heard], [label, label + 1]))]
        rounds = -(-len(rows) // len(choices))
        index[rows] = np.concatenate([rng.permutation(choices) for _ in range(rounds)])[: len(rows)]
    return index

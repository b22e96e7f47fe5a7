"""Images and recordings of the same digits made into a data set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.base.rules import CLASSES
from mmtune.data.dataset import Dataset, Partition
from mmtune.data.features import FeatureStats, mfcc
from mmtune.data.recordings import to_float

BATCH = 512


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """pixels (N, 28, 28) uint8; labels (N,) int64 in 0..9."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def take(self, chosen: NDArray[np.int64]) -> Images:
        return Images(pixels=self.pixels[chosen], labels=self.labels[chosen])


@dataclass(frozen=True, kw_only=True, eq=False)
class Recordings:
    """waveforms (M, 16000) int16; labels (M,) int64 in 0..9; speaker (M,) str, "" where unknown; clip_id (M,) str."""

    waveforms: NDArray[np.int16]
    labels: NDArray[np.int64]
    speaker: NDArray[np.str_]
    clip_id: NDArray[np.str_]

    def take(self, chosen: NDArray[np.int64]) -> Recordings:
        return Recordings(
            waveforms=self.waveforms[chosen],
            labels=self.labels[chosen],
            speaker=self.speaker[chosen],
            clip_id=self.clip_id[chosen],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Paired:
    """Images, the recordings that are used, and which of these each image goes with, (N,) int64."""

    images: Images
    recordings: Recordings
    clip_index: NDArray[np.int64]


def match(images: NDArray[np.int64], clips: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """For each image label (N,) a clip of that label out of (M,): each once before any twice, in random order."""
    index = np.empty(len(images), np.int64)
    for digit in range(CLASSES):
        rows, choices = np.flatnonzero(images == digit), np.flatnonzero(clips == digit)
        if not len(rows) or not len(choices):
            lacking = "images" if len(choices) else "recordings"
            raise InputError(f"every digit must have images and recordings, digit {digit} has no {lacking}")
        rounds = -(-len(rows) // len(choices))
        index[rows] = np.concatenate([rng.permutation(choices) for _ in range(rounds)])[: len(rows)]
    return index


def pair(images: Images, recordings: Recordings, rng: np.random.Generator) -> Paired:
    """Give every image a recording of its digit; recordings beyond the number of images are left out."""
    used, index = np.unique(match(images.labels, recordings.labels, rng), return_inverse=True)
    return Paired(images=images, recordings=recordings.take(used), clip_index=index.astype(np.int64))


def raw_features(waveforms: NDArray[np.int16]) -> NDArray[np.float32]:
    """MFCCs (M, 39, 13) of 16-bit waveforms (M, 16000), a part at a time so that memory stays small."""
    return np.concatenate([mfcc(to_float(waveforms[i : i + BATCH])) for i in range(0, len(waveforms), BATCH)])


def make_dataset(
    *, name: str, train: Paired, test: Paired, provenance: Mapping[str, Any], folder: Path = Path()
) -> Dataset:
    """A data set not yet on disk (no digest), its feature statistics fitted on the training recordings alone."""
    features = [raw_features(paired.recordings.waveforms) for paired in (train, test)]
    stats = FeatureStats.fit(features[0])
    parts = [partition(p, stats.apply(f)) for p, f in zip((train, test), features, strict=True)]
    return Dataset(
        name=name,
        folder=folder,
        train=parts[0],
        test=parts[1],
        digest="",
        provenance=provenance,
        features=stats.to_json(),
    )


def partition(paired: Paired, clips: NDArray[np.float32]) -> Partition:
    return Partition(
        images=paired.images.pixels,
        clips=clips,
        clip_index=paired.clip_index,
        labels=paired.images.labels,
        speaker=paired.recordings.speaker,
        clip_id=paired.recordings.clip_id,
        waveforms=paired.recordings.waveforms,
    )

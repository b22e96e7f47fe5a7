"""The canonical in-memory data set that every source becomes and every consumer reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError

IMAGE_SHAPE = (28, 28)
AUDIO_SHAPE = (39, 13)
SAMPLE_RATE = 16_000

Progress = Callable[[str, int, int], None]
"""Told (what, done, total) while something long is under way."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Partition:
    """N pairs of an image and a recording of the same digit; recordings are shared, so M <= N.

    images (N, 28, 28) uint8; clips (M, 39, 13) float32; clip_index (N,) int64 into the clips;
    labels (N,) int64 in 0..9; speaker (M,) str, "" where unknown; clip_id (M,) str;
    waveforms (M, 16000) int16 at 16 kHz, or None.
    For sequences: images (N, T, H, W) and clips (N, T, K), each row with its own clip, labels in 0..C-1.
    """

    images: NDArray[np.uint8]
    clips: NDArray[np.float32]
    clip_index: NDArray[np.int64]
    labels: NDArray[np.int64]
    speaker: NDArray[np.str_]
    clip_id: NDArray[np.str_]
    waveforms: NDArray[np.int16] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def speakers_known(self) -> bool:
        return bool(np.all(self.speaker != ""))


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A training and a test partition, where they lie, and what they were made from.

    test: None for sequences, whose test are the folds that are held out.

    digest: SHA-256 over the content of both partitions, independent of how the files store it.
    features: how raw audio becomes a clip of this set (`FeatureStats.to_json()`), or None where the set came
        as features only, so that no recording can be turned into its clips.
    """

    name: str
    folder: Path
    train: Partition
    test: Partition | None
    digest: str
    provenance: Mapping[str, Any]
    features: Mapping[str, Any] | None

    def require_test(self) -> Partition:
        """The test partition; InputError where there is none."""
        if self.test is None:
            raise InputError(f"{self.name} must have a test partition for this, it has none: its folds are its test")
        return self.test

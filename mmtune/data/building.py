"""A data set from raw files: images of one source, recordings of another, in pairs of the same digit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.rules import CLASSES
from mmtune.data.atomic import require_writable
from mmtune.data.audio_sources import Recordings, read_recordings
from mmtune.data.dataset import Dataset, Partition, Progress
from mmtune.data.features import FeatureStats, mfcc
from mmtune.data.image_sources import Images, read_images
from mmtune.data.store import require_replaceable, save


def build(images: Path, audio: Path, out: Path, seed: int = 0, on_progress: Progress | None = None) -> Dataset:
    """Pair the images of one folder with the recordings of another and save the set to `out`.

    images: MNIST's IDX files, or `label/*.png` with or without `train/` and `test/` above.
    audio: recordings named as in FSDD, Speech Commands or AudioMNIST, or `label/*.wav`.
    seed: of the pairing, and of partitions where a source has none of its own.
    on_progress: called with (what, done, total).
    Raises InputError, and leaves `out` as it was, on the first file that breaks a rule.
    """
    report = on_progress or (lambda what, done, total: None)
    require_replaceable(Path(out))
    require_writable(Path(out).resolve())
    *pictures, image_facts = read_images(Path(images), seed, report)
    *recordings, audio_facts = read_recordings(Path(audio), seed, report)
    report("pairing and features", 0, 2)
    provenance = {"source": "built", "images": image_facts, "audio": audio_facts, "seed": seed}
    name = Path(out).resolve().name
    dataset = make_dataset(name, pictures, recordings, np.random.default_rng(seed), provenance)
    report("writing", 1, 2)
    saved = save(dataset, Path(out))
    report("done", 2, 2)
    return saved


def make_dataset(
    name: str,
    images: Sequence[Images],
    recordings: Sequence[Recordings],
    rng: np.random.Generator,
    provenance: Mapping[str, Any],
) -> Dataset:
    """A data set not yet on disk (no digest) from those for training and those for the test, every digit in each.

    Its feature statistics are fitted on the training recordings alone.
    """
    train, test = (pair(own, heard, rng) for own, heard in zip(images, recordings, strict=True))
    stats = FeatureStats.fit(train.clips)
    return Dataset(
        name=name,
        folder=Path(),
        train=replace(train, clips=stats.apply(train.clips)),
        test=replace(test, clips=stats.apply(test.clips)),
        digest="",
        provenance=provenance,
        features=stats.to_json(),
    )


def pair(images: Images, recordings: Recordings, rng: np.random.Generator) -> Partition:
    """Every image with a recording of its digit, clips being MFCCs; recordings beyond the images are left out."""
    used, index = np.unique(match(images.labels, recordings.labels, rng), return_inverse=True)
    heard = recordings.take(used)
    return Partition(
        images=images.pixels,
        clips=mfcc(heard.waveforms),
        clip_index=index.astype(np.int64),
        labels=images.labels,
        speaker=heard.speaker,
        clip_id=heard.clip_id,
        waveforms=heard.waveforms,
    )


def match(images: NDArray[np.int64], clips: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """For each image label (N,) a clip of that label out of (M,): each once before any twice, in random order."""
    index = np.empty(len(images), np.int64)
    for digit in range(CLASSES):
        rows, choices = np.flatnonzero(images == digit), np.flatnonzero(clips == digit)
        rounds = -(-len(rows) // len(choices))
        index[rows] = np.concatenate([rng.permutation(choices) for _ in range(rounds)])[: len(rows)]
    return index

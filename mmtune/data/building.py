"""A data set from raw files: images of one source, recordings of another."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmtune.data.atomic import require_writable
from mmtune.data.audio_sources import read_recordings
from mmtune.data.dataset import Dataset, Progress
from mmtune.data.image_sources import read_images
from mmtune.data.pairing import make_dataset, pair
from mmtune.data.store import require_replaceable, save


def build(
    images: Path,
    audio: Path,
    out: Path,
    seed: int = 0,
    name: str | None = None,
    on_progress: Progress | None = None,
) -> Dataset:
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
    rng = np.random.default_rng(seed)
    report("pairing and features", 0, 2)
    train, test = (pair(i, r, rng) for i, r in zip(pictures, recordings, strict=True))
    provenance = {"source": "built", "images": image_facts, "audio": audio_facts, "seed": seed}
    dataset = make_dataset(name=name or Path(out).resolve().name, train=train, test=test, provenance=provenance)
    report("writing", 1, 2)
    saved = save(dataset, Path(out))
    report("done", 2, 2)
    return saved

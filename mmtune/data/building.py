"""A data set from raw files: images of one source, recordings of another, in pairs of the same digit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.data.atomic import require_writable
from mmtune.data.audio_sources import Recordings, read_recordings
from mmtune.data.dataset import RECORDING, SPEAKER, Bank, Dataset, Partition, Progress, Rows
from mmtune.data.digits import DIGITS
from mmtune.data.features import mfcc
from mmtune.data.forms import Digit, Mfcc, Waveform
from mmtune.data.identity import distinct
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

    Its features' scale is fitted on the training recordings alone.
    """
    pairs = [pair(own, heard, rng) for own, heard in zip(images, recordings, strict=True)]
    form = Mfcc().fit(pairs[0][1])
    train, test = (
        replace(made, banks={**made.banks, "audio": replace(made.banks["waveform"], values=form.scaled(heard))})
        for made, heard in pairs
    )
    return Dataset(
        name=name,
        folder=Path(),
        classes=DIGITS,
        forms={"image": Digit(), "waveform": Waveform(), "audio": form},
        train=train,
        test=test,
        digest="",
        provenance=provenance,
    )


def pair(images: Images, recordings: Recordings, rng: np.random.Generator) -> tuple[Partition, NDArray[np.float32]]:
    """Every image with a recording of its digit, equal images with one recording, and the MFCCs of these, unscaled.

    Recordings beyond the images are left out.
    """
    seen = distinct(images.pixels)
    _, first = np.unique(seen.index, return_index=True)
    used, index = np.unique(match(images.labels[first], recordings.labels, rng), return_inverse=True)
    heard, index = recordings.take(used), index[seen.index].astype(np.int64)
    made = Partition(
        banks={"image": seen, "waveform": Bank(values=heard.waveforms, index=index)},
        labels=images.labels,
        groups={RECORDING: heard.clip_id[index], SPEAKER: heard.speaker[index]},
    )
    return made, mfcc(heard.waveforms)


def match(images: Rows, clips: Rows, rng: np.random.Generator) -> Rows:
    """For each image label (N,) a clip of that label out of (M,): each once before any twice, in random order."""
    index = np.empty(len(images), np.int64)
    for label in range(int(images.max()) + 1):
        rows, choices = np.flatnonzero(images == label), np.flatnonzero(clips == label)
        rounds = -(-len(rows) // len(choices))
        index[rows] = np.concatenate([rng.permutation(choices) for _ in range(rounds)])[: len(rows)]
    return index

"""Where the valid files of a small world are, and the sources that it begins with."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from hostile import idx_bytes
from sklearn.datasets import load_digits

from mmtune.data.dataset import Partition
from mmtune.data.media.pictures import normalise


@dataclass(frozen=True, kw_only=True)
class World:
    """Where the valid files are.

    store: with one study of one trial, whose model is champion.
    run: the trial's artifacts; champion: its predictor's folder; picture, recording: what it predicts from.
    """

    store: Path
    run: Path
    champion: Path
    picture: Path
    recording: Path


def write_idx(folder: Path) -> Path:
    """MNIST's four files, compressed, with 120 + 20 real digits."""
    pixels, labels = load_digits(return_X_y=True)
    rows = np.concatenate([np.flatnonzero(labels == digit)[:14] for digit in range(10)])
    images = np.stack([normalise(x / 16) for x in pixels[rows].reshape(-1, 8, 8)])
    test = np.arange(len(rows)) % 7 == 0
    folder.mkdir()
    for stem, chosen in (("train", ~test), ("t10k", test)):
        for kind, array in (("images-idx3", images[chosen]), ("labels-idx1", labels[rows][chosen].astype(np.uint8))):
            (folder / f"{stem}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx_bytes(array), 1))
    return folder


def write_fsdd(folder: Path) -> Path:
    """FSDD in small: two speakers, indices 0, 4, 5, 6 of every digit."""
    (folder / "recordings").mkdir(parents=True)
    rng = np.random.default_rng(0)
    time = np.arange(2400) / 8000
    for digit in range(10):
        for speaker in ("ann", "bob"):
            for index in (0, 4, 5, 6):
                wave = 0.3 * np.sin(2 * np.pi * (200 + 90 * digit) * time) + rng.normal(0, 0.02, len(time))
                soundfile.write(folder / "recordings" / f"{digit}_{speaker}_{index}.wav", wave, 8000, subtype="PCM_16")
    return folder


def write_khacef(folder: Path, **parts: Partition) -> Path:
    """The six files that Khacef published, of partitions named train and test."""
    folder.mkdir(exist_ok=True)
    for part, own in parts.items():
        every = np.arange(len(own))
        np.save(folder / f"data_wr_{part}.npy", own.banks["image"].of_rows(every).reshape(-1, 784))
        np.save(folder / f"data_sp_{part}.npy", own.banks["audio"].of_rows(every).reshape(-1, 507))
        np.save(folder / f"labels_{part}.npy", own.labels)
    return folder

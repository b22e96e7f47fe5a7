"""What several tests of the data room build on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from filesets import random_partition, recordings
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from mmtune.data.dataset import Dataset
from mmtune.data.forms import Digit, Ready, Waveform
from mmtune.data.media.pictures import normalise
from mmtune.data.storage.store import save

FORMS = {"image": Digit(), "audio": Ready(sides=(39, 13)), "waveform": Waveform(seconds=0.1)}


@pytest.fixture(scope="session")
def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """140 real digits at 28 x 28, and their labels, 14 of each."""
    pixels, labels = load_digits(return_X_y=True)
    rows = np.concatenate([np.flatnonzero(labels == digit)[:14] for digit in range(10)])
    return np.stack([normalise(x / 16) for x in pixels[rows].reshape(-1, 8, 8)]), labels[rows].astype(np.int64)


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    """90 + 30 random pairs in memory."""
    return Dataset(
        name="made",
        folder=Path(),
        classes=tuple(map(str, range(10))),
        forms=FORMS,
        train=random_partition(90, 40, 1),
        test=random_partition(30, 20, 2),
        digest="",
        provenance={"source": "made by the tests", "seed": 1},
    )


@pytest.fixture
def folder(tmp_path: Path, dataset: Dataset) -> Path:
    """The same on disk."""
    return save(dataset, tmp_path / "set").folder


@pytest.fixture(scope="session")
def fsdd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FSDD in small: 2 speakers, indices 0, 4, 5, 6 of every digit. Read only."""
    own = [f"{d}_{who}_{turn}.wav" for d in range(10) for who in ("ann", "bob") for turn in (0, 4, 5, 6)]
    return recordings(tmp_path_factory.mktemp("fsdd") / "recordings", own).parent

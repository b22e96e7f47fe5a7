"""A small data set of real digits and class-dependent clips, and stores that cost nothing to make."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Tests run side by side, a process a core: more threads in each would only wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from databases import Postgres, running_postgres
from hypothesis import settings
from sklearn.datasets import load_digits

from mmtune.data.dataset import RECORDING, SPEAKER, Dataset, Partition
from mmtune.data.digits import DIGITS
from mmtune.data.forms import Digit, Ready, Speech, Waveform
from mmtune.data.identity import distinct
from mmtune.data.storage.store import save
from mmtune.tracking import MlflowTracker
from mmtune.train.device import prepare_torch

# A slow machine fails no test.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

PRODUCTS = torch.backends.mkldnn.matmul.fp32_precision  # type: ignore[attr-defined]


def pytest_runtest_setup(item: pytest.Item) -> None:
    # Neither the user's own servers nor one that another test has named to MLflow, which notes it there.
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        os.environ.pop(name, None)
    # Sums depend on both in their last digits, and another test may have set them.
    torch.set_num_threads(1)
    torch.backends.mkldnn.matmul.fp32_precision = PRODUCTS  # type: ignore[attr-defined]
    if item.get_closest_marker("cuda"):
        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")
        # As in a worker: without TF32, and with the convolutions that give the same twice.
        prepare_torch(torch.device("cuda"))


@pytest.fixture
def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Give words to a command in this very process; returns the one line with which it refuses them."""

    def give(command: Callable[[], Any], *words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["mmtune", *words])
        with pytest.raises(SystemExit) as end:
            command()
        assert end.value.code == 2
        text = capsys.readouterr().err
        assert len(text.strip().splitlines()) == 1, text
        return text

    return give


def make_partition(rows: int, clips_per_class: int, seed: int) -> Partition:
    """Rows of scikit-learn's digits, enlarged, with clips and tones that a class's mean and noise make."""
    rng = np.random.default_rng(seed)
    small, labels = load_digits(return_X_y=True)
    chosen = rng.permutation(len(labels))[:rows]
    images = np.kron(small[chosen].reshape(-1, 8, 8), np.ones((3, 3))) * 255 / 16
    means = np.random.default_rng(99).uniform(0.2, 0.8, (10, 39, 13))
    of_class = np.repeat(np.arange(10), clips_per_class)
    clips = np.clip(means[of_class] + rng.normal(0, 0.15, (len(of_class), 39, 13)), 0, 1)
    y = labels[chosen].astype(np.int64)
    turn = np.array([np.sum(y[:n] == label) for n, label in enumerate(y)])
    index = y * clips_per_class + turn % clips_per_class
    names = np.array([f"clip{seed}-{n}" for n in range(len(of_class))])
    speakers = np.array([f"speaker{n % clips_per_class}" for n in range(len(of_class))])
    tones = np.sin(2 * np.pi * (200 + 300 * of_class[:, None]) * np.arange(16_000) / 16_000)
    waveforms = 8000 * (tones + rng.normal(0, 0.3, tones.shape))
    pictures = np.pad(images, ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    return Partition(
        banks={
            "image": distinct(pictures),
            "audio": distinct(clips.astype(np.float32)[index]),
            "waveform": distinct(waveforms.astype(np.int16)[index]),
            "speech": distinct(waveforms.astype(np.int16)[index]),
        },
        labels=y,
        groups={RECORDING: names[index], SPEAKER: speakers[index]},
    )


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """300 + 120 pairs, saved and loaded: quick to train on and easy to learn."""
    made = Dataset(
        name="tiny",
        folder=Path(),
        classes=DIGITS,
        forms={"image": Digit(), "audio": Ready(sides=(39, 13)), "waveform": Waveform(), "speech": Speech()},
        train=make_partition(300, 12, seed=1),
        test=make_partition(120, 4, seed=2),
        digest="",
        provenance={"source": "made by the tests"},
    )
    return save(made, tmp_path_factory.mktemp("data") / "tiny")


@pytest.fixture(scope="session")
def store_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty store; copying it saves the seconds that migrations take."""
    folder = tmp_path_factory.mktemp("template")
    MlflowTracker(folder)
    return folder


@pytest.fixture
def store(tmp_path: Path, store_template: Path) -> Path:
    """An empty store of its own."""
    return Path(shutil.copytree(store_template, tmp_path / "mlruns"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of these tests' own."""
    with running_postgres() as made:
        yield made


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database with MLflow's tables and nothing in them."""
    url = postgres.url()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", url)
        MlflowTracker(tmp_path_factory.mktemp("nothing"))
    return url.rpartition("/")[2]


@pytest.fixture
def shared_store(store: Path, postgres: Postgres, postgres_template: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store with its runs in PostgreSQL."""
    (store / "mlflow.db").unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", postgres.url(postgres_template))
    return store


@pytest.fixture(params=["store", pytest.param("shared_store", marks=pytest.mark.slow)])
def any_store(request: pytest.FixtureRequest) -> Path:
    """An empty store, in SQLite and in PostgreSQL."""
    return Path(request.getfixturevalue(request.param))

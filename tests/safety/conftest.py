"""A small world of valid files, made by mmtune itself: sources, a data set, a trained, promoted and tracked model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from tracked import track_study, track_trial
from world import World, write_fsdd, write_idx

from mmtune.data.building.asking import Folders
from mmtune.data.building.build import build
from mmtune.data.protocols import split
from mmtune.data.storage.store import load
from mmtune.networks.config import DualCNNConfig
from mmtune.serve.promotion import promote
from mmtune.serve.versions import champion_folder
from mmtune.study import StudyKey
from mmtune.tracking import MlflowTracker, best_trial
from mmtune.train.batches import Resident
from mmtune.train.objective import MACRO_F1
from mmtune.train.recipe import Train, TrialConfig
from mmtune.train.staging import FILES
from mmtune.train.trial import run_trial


@pytest.fixture(scope="session")
def idx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_idx(tmp_path_factory.mktemp("sources") / "idx")


@pytest.fixture(scope="session")
def fsdd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fsdd(tmp_path_factory.mktemp("sources") / "fsdd")


@pytest.fixture(scope="session")
def built(idx: Path, fsdd: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set made of both."""
    return build(Folders(idx, fsdd), tmp_path_factory.mktemp("built") / "set").folder


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """The file that a payload would touch; no test may end with it there."""
    path = tmp_path / "marker"
    yield path
    assert not path.exists(), "hostile code ran"


@pytest.fixture(scope="session")
def world(built: Path, fsdd: Path, tmp_path_factory: pytest.TempPathFactory, store_template: Path) -> World:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("world")
    dataset = load(built)
    config = TrialConfig(model=DualCNNConfig(), train=Train(epochs=1))
    key = StudyKey(
        study="dual_cnn_fusion",
        data=dataset.name,
        digest=dataset.digest,
        protocol="as_reported",
        seed=0,
        epochs=1,
        sampler="grid",
    )
    made = split(dataset.train, "as_reported", 0)
    (root / "trial").mkdir()
    data = Resident(dataset.train, len(dataset.classes), torch.device("cpu"))
    result = run_trial(config, data, made, 1, root / "trial", lambda epoch, found: True)
    store = Path(shutil.copytree(store_template, root / "mlruns"))
    tracker = MlflowTracker(store)
    study = track_study(tracker, key, data_dir=str(dataset.folder))
    run = track_trial(tracker, study, 0, {"model.kernel": 5}, result.metrics, files=root / "trial" / FILES)
    tracker.end_study(
        study.run_id, finished=True, best=best_trial(tracker.trials(study.run_id), MACRO_F1), objective=MACRO_F1
    )
    promote(tracker, tracker.studies("dual_cnn_fusion")[0], dataset)
    Image.fromarray(dataset.train.banks["image"].values[0]).save(root / "digit.png")
    return World(
        store=store,
        run=tracker.artifact(run, "model").parent,
        champion=champion_folder(store, "dual_cnn_fusion"),
        picture=root / "digit.png",
        recording=fsdd / "recordings" / "7_ann_5.wav",
    )

"""Promotion and prediction where runs, files and models are on a server, or the registry in a store of its own."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from servers import free_port, wait_until_up
from tracked import track_study, track_trial

from mmtune.base.errors import AwayError
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import split
from mmtune.networks.card import MODEL
from mmtune.networks.config import AudioRNNConfig
from mmtune.serve.promotion import promote, rollback
from mmtune.serve.scoring import scored
from mmtune.serve.versions import champion_folder, history
from mmtune.study import StudyKey
from mmtune.tracking import MlflowTracker, best_trial
from mmtune.train.batches import Resident
from mmtune.train.objective import MACRO_F1
from mmtune.train.recipe import Train, TrialConfig
from mmtune.train.staging import FILES, Result
from mmtune.train.trial import run_trial

NAME = "audio_rnn"
# By name, where runs are and where registered models are; "" stands for the folder's own store.
PLACES = {
    "server": ("server", ""),
    "server, registry in a file": ("server", "file"),
    "registry in a file": ("", "file"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, store_template: Path) -> Iterator[str]:
    """The address of an MLflow server that keeps files itself."""
    folder, port = tmp_path_factory.mktemp("server"), free_port()
    shutil.copy(store_template / "mlflow.db", folder / "server.db")
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    words += ["--artifacts-destination", str(folder / "artifacts")]
    quick = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            words, env=os.environ | quick, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        try:
            wait_until_up(process, port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=60)


@pytest.fixture(scope="module")
def trained(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Result]]:
    """Two small trials, of different seeds."""
    made = []
    for seed in (1, 2):
        folder = tmp_path_factory.mktemp("trial")
        config = TrialConfig(model=AudioRNNConfig(hidden=8), train=Train(epochs=3))
        data = Resident(tiny.train, len(tiny.classes), torch.device("cpu"))
        result = run_trial(config, data, split(tiny.train, "clip_disjoint", 0), seed, folder, lambda e, m: True)
        made.append((folder / FILES, result))
    return made


@pytest.fixture(params=PLACES)
def place(
    request: pytest.FixtureRequest,
    server: str,
    store: Path,
    store_template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A store's folder, with the environment that says where runs and models are."""
    shutil.copy(store_template / "mlflow.db", tmp_path / "registry.db")
    addresses = {"server": server, "file": f"sqlite:///{tmp_path / 'registry.db'}"}
    runs, models = PLACES[request.param]
    for variable, where in (("MLFLOW_TRACKING_URI", runs), ("MLFLOW_REGISTRY_URI", models)):
        if where:
            monkeypatch.setenv(variable, addresses[where])
    return store


def mmtune(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mmtune.cli", *words]
    return subprocess.run(
        command, cwd=cwd, env=os.environ | {"COLUMNS": "200"}, capture_output=True, text=True, timeout=240
    )


def done(*words: str, cwd: Path) -> str:
    """What a command that succeeds says."""
    ran = mmtune(*words, cwd=cwd)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def track(tracker: MlflowTracker, dataset: Dataset, trial: tuple[Path, Result], seed: int) -> None:
    """A finished study of one trial."""
    own = {"protocol": "clip_disjoint", "seed": seed, "epochs": 3, "sampler": "grid"}
    key = StudyKey(study=NAME, data=dataset.name, digest=dataset.digest, **own)
    study, (files, result) = track_study(tracker, key, data_dir=str(dataset.folder)), trial
    track_trial(tracker, study, 0, {"model.hidden": 8}, result.metrics, files=files)
    tracker.end_study(
        study.run_id, finished=True, best=best_trial(tracker.trials(study.run_id), MACRO_F1), objective=MACRO_F1
    )


@pytest.mark.slow
def test_models_are_promoted_rolled_back_and_serve_wherever_they_are(
    place: Path, tiny: Dataset, trained: list[tuple[Path, Result]], tmp_path: Path
) -> None:
    tracker = MlflowTracker(place)
    for seed, trial in enumerate(trained):
        track(tracker, tiny, trial, seed)
    here = ("--store", str(place))
    for seed in ("0", "1"):
        said = done("promote", NAME, "--seed", seed, "--force", *here, cwd=tmp_path)
    assert "audio_rnn version 2" in said
    assert "champion" in done("promote", NAME, "--history", *here, cwd=tmp_path)
    assert "report of audio_rnn" in done("report", NAME, "--seed", "0", *here, cwd=tmp_path)
    assert "champion of audio_rnn: version 2 -> version 1" in done("promote", NAME, "--rollback", *here, cwd=tmp_path)
    for version, (files, _) in zip(("1", "2"), trained, strict=True):
        words = ("predict", "--model", NAME, "--data", str(tiny.folder), "--out", "out.csv", *here)
        chosen = () if version == "1" else ("--version", version)
        done(*words, *chosen, cwd=tmp_path)
        named = [row["class"] for row in csv.DictReader((tmp_path / "out.csv").open())]
        assert named == [tiny.classes[number] for number in scored(files / MODEL, tiny).predictions]


@pytest.mark.slow
def test_a_registry_that_cannot_see_the_files_refuses_them_in_a_line(
    server: str,
    store: Path,
    tiny: Dataset,
    trained: list[tuple[Path, Result]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server takes no model from a folder that only this machine knows."""
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", server)
    tracker = MlflowTracker(store)
    before = len(tracker.client.search_model_versions())  # of other tests, on the same server
    track(tracker, tiny, trained[0], 0)
    ran = mmtune("promote", NAME, "--store", str(store), cwd=tmp_path)
    assert ran.returncode == 2, ran.stderr
    assert ran.stderr.count("\n") == 1
    assert f"mmtune: {server} must take what is tracked, it refuses: " in ran.stderr
    assert len(tracker.client.search_model_versions()) == before


def test_a_registry_that_does_not_answer_is_named(
    store: Path, tiny: Dataset, trained: list[tuple[Path, Result]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", gone)
    tracker = MlflowTracker(store)
    track(tracker, tiny, trained[0], 0)
    study = tracker.studies(NAME)[0]
    for act in (
        lambda: promote(tracker, study, tiny),
        lambda: champion_folder(store, NAME),
        lambda: history(tracker, NAME),
        lambda: rollback(tracker, NAME),
    ):
        with pytest.raises(AwayError, match=gone):
            act()
    monkeypatch.delenv("MLFLOW_REGISTRY_URI")
    assert promote(MlflowTracker(store), study, tiny).is_champion

"""What an actor does, as far as it needs no Ray: files that travel, folders that are left, room for trials."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import split
from mmtune.networks.config import AudioRNNConfig
from mmtune.pool.ray.actor import PREFIX, Exited, Files, Message, Order, Trainer, own_folder, pack, unpack
from mmtune.pool.ray.engine import Engine, require_answer
from mmtune.pool.same import differences, made_with
from mmtune.pool.worker import Done, Epoch, Job, Ready, Saved, WorkerSpec
from mmtune.study.options import Options
from mmtune.train.recipe import Train, TrialConfig
from mmtune.train.staging import CHECKPOINT, EPOCHS, RESULT

CONFIG = TrialConfig(model=AudioRNNConfig(hidden=4), train=Train(epochs=4))
Said = list[Message]


def test_files_are_the_same_after_their_journey(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "deep").write_bytes(bytes(range(256)))
    (tmp_path / "a" / "flat").write_bytes(b"")
    unpack(pack(tmp_path / "a"), tmp_path / "c")
    assert pack(tmp_path / "c") == pack(tmp_path / "a") == {"b/deep": bytes(range(256)), "flat": b""}
    assert pack(tmp_path / "missing") == {}


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/tmp/mmtune-out"])
def test_no_file_is_written_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="must lie in its own folder"):
        unpack({name: b"x"}, tmp_path / "in")
    assert not list(tmp_path.rglob("*out"))


@pytest.fixture
def actor(tiny: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Trainer:
    """An actor that lives, without Ray."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = Trainer({}.__getitem__)
    spec = WorkerSpec(data=tmp_path, splits=(split(tiny.train, "clip_disjoint", 0),), device="cpu", classes=10)
    threading.Thread(target=made.work, args=(spec, tiny.train), daemon=True).start()
    return made


def done(actor: Trainer, every: float, left: Files) -> Said:
    """All that an actor says of a job until it is done."""
    job = Job(number=3, config=CONFIG, seed=1, folder=Path(), checkpoint_every=every)
    actor.tell(Order(job=job, folders={}, left=left))
    said: Said = []
    while not (said and isinstance(said[-1][0], Done)):
        said += actor.listen()
    return said


def test_a_job_goes_through_an_actor(actor: Trainer) -> None:
    said = done(actor, 60.0, {})
    assert [type(event) for event, _ in said] == [Ready, Epoch, Epoch, Epoch, Epoch, Done]
    _, files = said[-1]
    assert {"files/model/model.json", RESULT} <= set(files)
    assert not {EPOCHS, CHECKPOINT} & set(files)
    # With the result a run has ended: it is written last.
    assert list(files)[-1] == RESULT
    assert not list(actor.folder.iterdir())


def test_another_actor_goes_on_from_a_checkpoint_that_has_travelled(actor: Trainer) -> None:
    """With the same steps; epochs that are on record already are told as such."""
    first = done(actor, 0.0, {})
    saved = [files for event, files in first if isinstance(event, Saved)]
    points = [event.point for event, _ in first if isinstance(event, Epoch)]
    assert [set(files) for files in saved] == [{CHECKPOINT}] * len(saved)
    assert len(saved) >= 3
    lines = b"".join(json.dumps(asdict(point)).encode() + b"\n" for point in points[:3])
    second = done(actor, 60.0, {EPOCHS: lines, CHECKPOINT: saved[1][CHECKPOINT]})
    heard = [event for event, _ in second if isinstance(event, Epoch)]
    assert [(event.point.epoch, event.new) for event in heard] == [(3, False), (4, True)]
    assert [event.point.metrics["val_loss"] for event in heard] == [p.metrics["val_loss"] for p in points[2:]]
    (ours, theirs) = (said[-1][1] for said in (first, second))
    weights = "files/model/weights.safetensors"
    assert ours[weights] == theirs[weights]


def test_a_worker_that_can_do_no_more_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny: Dataset) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    actor = Trainer({}.__getitem__)
    actor.work(WorkerSpec(data=tmp_path, splits=(), device="nowhere", classes=10), tiny.train)
    ((event, files),) = actor.listen()
    assert isinstance(event, Exited)
    assert event.reason.startswith("RuntimeError: ")
    assert "\n" not in event.reason
    assert files == {}


def test_what_killed_actors_left_is_removed_and_what_living_ones_have_is_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    later = time.time() + 120
    living, _ = own_folder()
    left = tmp_path / f"{PREFIX}left"
    (left / "job").mkdir(parents=True)
    someone, _ = own_folder()
    assert left.exists()
    monkeypatch.setattr(time, "time", lambda: later)
    own_folder()
    assert not left.exists()
    assert living.exists()
    assert someone.exists()


def test_other_code_makes_a_difference() -> None:
    ours = made_with()
    assert set(ours) == {"mmtune", "torch", "numpy", "scikit-learn"}
    assert "+" not in ours["torch"]
    assert differences(ours, ours) == []
    assert differences({**ours, "torch": "1.0"}, ours) == [f"torch 1.0 instead of {ours['torch']}"]


@pytest.mark.parametrize(
    ("gpus", "resources", "room"),
    [
        (0.0, {"CPU": 6.0}, 6),
        (0.25, {"CPU": 64.0, "GPU": 8.0}, 32),
        (0.3, {"CPU": 64.0, "GPU": 2.0}, 6),
        (0.1, {"CPU": 64.0, "GPU": 1.0}, 10),
        (0.25, {"CPU": 3.0, "GPU": 1.0}, 3),
        (1.0, {"CPU": 8.0}, 0),
        (0.0, {}, 0),
    ],
)
def test_room_on_a_node(gpus: float, resources: dict[str, float], room: int) -> None:
    nodes = [{"Alive": True, "Resources": resources}, {"Alive": False, "Resources": resources}]
    assert Engine(gpus=gpus).room(nodes) == room
    assert Engine(gpus=gpus).room([*nodes, nodes[0]]) == 2 * room


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"pool": "spark"}, "--pool must be one of local, ray"),
        ({"ray_address": "auto"}, "--pool must be ray, got local"),
        ({"gpus_per_trial": 0.5}, "--pool must be ray or slurm, got local"),
        ({"pool": "ray", "gpus_per_trial": 1.5}, "from 0 to 1, got 1.5"),
        ({"pool": "ray", "gpus_per_trial": -0.5}, "from 0 to 1, got -0.5"),
        ({"pool": "ray", "gpus_per_trial": float("nan")}, "from 0 to 1, got nan"),
        ({"pool": "ray", "device": "cuda"}, "--device must be auto or cpu"),
        ({"pool": "ray", "device": "cpu", "gpus_per_trial": 0.5}, "--device must be auto or cuda"),
    ],
)
def test_options_that_do_not_go_together(given: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Options(**given)  # type: ignore[arg-type]


def test_an_address_where_nobody_answers_is_told_at_once() -> None:
    with pytest.raises(InputError, match=r"'127\.0\.0\.1:9' is not: "):
        require_answer("127.0.0.1:9")


def test_without_ray_a_line_says_what_to_install(tiny: Dataset, tmp_path: Path) -> None:
    if importlib.util.find_spec("ray"):
        pytest.skip("Ray is installed")
    words = [sys.executable, "-m", "mmtune.cli", "study", "audio_rnn", "--pool", "ray", "--data", str(tiny.folder)]
    done = subprocess.run([*words, "--store", str(tmp_path / "x")], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 2
    assert done.stderr == "mmtune: --pool ray needs Ray, which is not installed: pip install 'mmtune[ray]'\n"

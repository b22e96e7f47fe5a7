"""The pool on real Ray actors: jobs, rungs, files that travel, failures, deaths."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checks import eventually
from heard import until
from nodes import Cluster, actors

from mmtune.data.dataset import Dataset
from mmtune.data.protocols import split
from mmtune.networks.config import AudioRNNConfig, LatentFusionConfig
from mmtune.networks.shapes import Shapes
from mmtune.networks.storage import load_model, save_model
from mmtune.pool.local import LocalPool
from mmtune.pool.ray import Engine, RayPool, RaySession
from mmtune.pool.ray.actor import PREFIX, pack
from mmtune.pool.worker import Died, Done, Epoch, Event, Failed, Job, Ready, Saved, WorkerSpec
from mmtune.train.recipe import Train, TrialConfig
from mmtune.train.staging import CHECKPOINT, FILES, Result, read_epochs, read_result
from mmtune.tune.trying import DIGITS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SHAPES = Shapes(banks=DIGITS, classes=10)
CONFIG = TrialConfig(model=AudioRNNConfig(hidden=8), train=Train(epochs=3))
LONG = TrialConfig(model=AudioRNNConfig(hidden=8), train=Train(epochs=100_000))


@pytest.fixture(scope="module")
def session(tiny: Dataset, shared_cluster: Cluster) -> Iterator[RaySession]:
    said: list[str] = []
    with RaySession(Engine(address=shared_cluster.address), tiny.train, said.append) as made:
        yield made


@pytest.fixture
def pool(session: RaySession, spec: WorkerSpec) -> Iterator[RayPool]:
    with session(spec, 1) as made:
        assert made.idle == 0
        until(made, Ready)
        assert made.idle == 1
        yield made


@pytest.fixture(scope="module")
def spec(tiny: Dataset) -> WorkerSpec:
    """The data at a path that no node has."""
    return WorkerSpec(data=Path("/nowhere"), splits=(split(tiny.train, "clip_disjoint", 0),), device="cpu", classes=10)


def folders() -> list[Path]:
    return [path for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*") if any(path.iterdir())]


def test_a_job_leaves_here_what_it_leaves_on_a_local_worker(
    pool: RayPool, tiny: Dataset, spec: WorkerSpec, tmp_path: Path
) -> None:
    pool.submit(Job(number=7, config=CONFIG, seed=1, folder=tmp_path / "ray"))
    assert pool.idle == 0
    done, seen = until(pool, Done)
    assert pool.idle == 1
    here = WorkerSpec(data=tiny.folder, splits=spec.splits, device="cpu", classes=10)
    with LocalPool(here, 1) as local:
        until(local, Ready)
        local.submit(Job(number=7, config=CONFIG, seed=1, folder=tmp_path / "local"))
        same, also = until(local, Done)
    assert isinstance(done, Done)
    assert isinstance(same, Done)
    ours, theirs = ended(tmp_path / "ray"), ended(tmp_path / "local")
    timeless = {name for name in theirs.metrics if name not in ("fit_seconds", "rows_per_second")}
    assert {name: ours.metrics[name] for name in timeless} == {name: theirs.metrics[name] for name in timeless}
    assert losses(seen) == losses(also)
    assert [point.epoch for point in read_epochs(tmp_path / "ray")] == [1, 2, 3]
    assert pack(tmp_path / "ray" / FILES) == pack(tmp_path / "local" / FILES)
    assert pack(tmp_path / "ray" / FILES)
    assert not folders()


def ended(folder: Path) -> Result:
    found = read_result(folder)
    assert found is not None
    return found


def losses(seen: list[Event]) -> list[tuple[int, float, float]]:
    points = [event.point for event in seen if isinstance(event, Epoch)]
    return [(point.epoch, point.metrics["train_loss"], point.metrics["val_loss"]) for point in points]


def test_at_a_rung_it_waits_for_the_verdict(pool: RayPool, tmp_path: Path) -> None:
    pool.submit(Job(number=8, config=CONFIG, seed=1, folder=tmp_path / "job", rungs=frozenset({2})))
    epochs: list[Event] = []
    assert eventually(lambda: len(epochs) == 2 or epochs.extend(pool.events(0.2)) is not None, 60)
    assert not list(pool.events(1.0))
    pool.answer(8, go_on=False)
    done, seen = until(pool, Done)
    assert isinstance(done, Done)
    assert ended(tmp_path / "job").state == "PRUNED"
    assert not [event for event in seen if isinstance(event, Epoch)]


def test_encoders_travel(pool: RayPool, tmp_path: Path) -> None:
    """They are gone from where they were before the job begins."""
    encoder = AudioRNNConfig(hidden=8)
    save_model(tmp_path / "encoder", encoder.build(SHAPES), encoder, SHAPES)
    config = TrialConfig(model=LatentFusionConfig(audio=encoder), train=Train(epochs=1))
    pool.submit(Job(number=9, config=config, seed=1, folder=tmp_path / "x", encoders={"audio": tmp_path / "encoder"}))
    (tmp_path / "encoder").rename(tmp_path / "moved")
    until(pool, Done)
    trained = load_model(tmp_path / "x" / FILES / "model").model
    kept = load_model(tmp_path / "moved").model
    weights = trained.state_dict()
    learned = [name for name, _ in kept.named_parameters() if not name.startswith("fc3")]
    assert learned
    for name in learned:
        torch.testing.assert_close(weights[f"audio.{name}"], kept.state_dict()[name], rtol=0, atol=0)


def test_an_exception_costs_the_job_and_not_the_actor(pool: RayPool, tmp_path: Path) -> None:
    (before,) = actors()
    job = Job(number=10, config=CONFIG, seed=1, folder=tmp_path / "bad", encoders={"image": tmp_path / "nowhere"})
    pool.submit(job)
    failed, _ = until(pool, Failed)
    assert isinstance(failed, Failed)
    assert failed.reason.startswith("InputError: ")
    assert not failed.retry
    assert "Traceback" in (tmp_path / "bad" / "error.txt").read_text()
    assert actors() == [before]
    pool.submit(Job(number=11, config=CONFIG, seed=1, folder=tmp_path / "next"))
    until(pool, Done)


def test_a_diverged_trial_is_not_worth_a_retry(pool: RayPool, tmp_path: Path) -> None:
    encoder = AudioRNNConfig(hidden=8).build(SHAPES)
    for tensor in encoder.parameters():
        tensor.data.fill_(float("nan"))
    save_model(tmp_path / "encoder", encoder, AudioRNNConfig(hidden=8), SHAPES)
    config = TrialConfig(model=LatentFusionConfig(audio=AudioRNNConfig(hidden=8)))
    pool.submit(Job(number=12, config=config, seed=1, folder=tmp_path / "x", encoders={"audio": tmp_path / "encoder"}))
    failed, _ = until(pool, Failed)
    assert isinstance(failed, Failed)
    assert failed.reason == "DivergenceError: training loss must be finite, got nan"
    assert not failed.retry


def test_a_killed_actor_is_replaced_and_its_job_named(pool: RayPool, tmp_path: Path) -> None:
    pool.submit(Job(number=13, config=LONG, seed=1, folder=tmp_path / "long"))
    until(pool, Epoch)
    (pid,) = actors()
    os.kill(pid, signal.SIGKILL)
    died, _ = until(pool, Died)
    assert isinstance(died, Died)
    assert died.number == 13
    assert "died" in died.reason
    assert "\n" not in died.reason
    until(pool, Ready)
    assert actors() != [pid]
    pool.submit(Job(number=14, config=CONFIG, seed=1, folder=tmp_path / "next"))
    until(pool, Done)


def test_a_job_whose_actor_was_killed_goes_on_from_the_checkpoint_that_had_come_back(
    pool: RayPool, tiny: Dataset, spec: WorkerSpec, tmp_path: Path
) -> None:
    config = TrialConfig(model=AudioRNNConfig(hidden=8), train=Train(epochs=200))
    job = Job(number=18, config=config, seed=1, folder=tmp_path / "ray", checkpoint_every=0.1)
    pool.submit(job)
    until(pool, Saved)
    (pid,) = actors()
    os.kill(pid, signal.SIGKILL)
    until(pool, Died)
    assert (tmp_path / "ray" / CHECKPOINT).exists()
    before = read_epochs(tmp_path / "ray")
    assert [point.epoch for point in before] == list(range(1, len(before) + 1))
    until(pool, Ready)
    pool.submit(job)
    _, seen = until(pool, Done)
    first = next(event for event in seen if isinstance(event, Epoch))
    assert first.point.epoch > 1
    after = read_epochs(tmp_path / "ray")
    assert after[: len(before)] == before
    assert [point.epoch for point in after] == list(range(1, 201))
    with LocalPool(WorkerSpec(data=tiny.folder, splits=spec.splits, device="cpu", classes=10), 1) as local:
        until(local, Ready)
        local.submit(replace(job, folder=tmp_path / "local", checkpoint_every=60.0))
        until(local, Done)
    assert pack(tmp_path / "ray" / FILES) == pack(tmp_path / "local" / FILES)


def test_a_hung_actor_is_replaced_and_its_job_given_back(session: RaySession, spec: WorkerSpec, tmp_path: Path) -> None:
    hasty = WorkerSpec(data=spec.data, splits=spec.splits, device="cpu", classes=10, hung_after=30.0)
    with session(hasty, 1) as pool:
        until(pool, Ready)
        pool.submit(Job(number=15, config=LONG, seed=1, folder=tmp_path / "stopped"))
        until(pool, Epoch)
        (pid,) = actors()
        os.kill(pid, signal.SIGSTOP)
        died, _ = until(pool, Died)
        assert died == Died(number=15, reason="worker hung: it said nothing for 30 s")
        until(pool, Ready)
        assert eventually(lambda: pid not in actors())
        pool.submit(Job(number=16, config=CONFIG, seed=1, folder=tmp_path / "whole"))
        until(pool, Done)


def test_an_actor_that_waits_for_a_node_is_not_taken_for_hung(
    shared_cluster: Cluster, session: RaySession, spec: WorkerSpec, tiny: Dataset, tmp_path: Path
) -> None:
    hasty = WorkerSpec(data=spec.data, splits=spec.splits, device="cpu", classes=10, hung_after=2.0)
    two = Engine(address=shared_cluster.address, workers=2)
    with RayPool(hasty, 2, two, session.data, lambda text: None) as pool:
        until(pool, Ready)
        pool.looked -= 3600
        waiting = [worker for worker in pool.workers if not worker.begun]
        assert not eventually(lambda: bool(list(pool.events(0.2))), 8)
        assert [worker for worker in pool.workers if not worker.begun] == waiting
        assert len(waiting) == 1
        node = shared_cluster.add()
        until(pool, Ready)
        assert pool.idle == 2
    shared_cluster.kill(node)


def test_a_job_that_is_cut_down_leaves_no_file_for_long(pool: RayPool, tmp_path: Path) -> None:
    encoder = AudioRNNConfig(hidden=8)
    save_model(tmp_path / "encoder", encoder.build(SHAPES), encoder, SHAPES)
    fusing = TrialConfig(model=LatentFusionConfig(audio=encoder), train=Train(epochs=100_000))
    encoders = {"audio": tmp_path / "encoder"}
    pool.submit(Job(number=17, config=fusing, seed=1, folder=tmp_path / "job", encoders=encoders))
    until(pool, Epoch)
    assert folders()
    pool.close()
    assert not folders()
    assert eventually(lambda: not actors())

"""The pool on real jobs, which submitit starts on this machine: jobs, rungs, failures, deaths."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from checks import eventually, gone
from heard import until

from mmtune.data.dataset import Dataset
from mmtune.data.protocols import split
from mmtune.networks.config import AudioRNNConfig
from mmtune.pool.local import LocalPool
from mmtune.pool.slurm import Request, SlurmPool, SlurmSession
from mmtune.pool.worker import Died, Done, Epoch, Event, Failed, Job, Ready, WorkerSpec
from mmtune.train.recipe import Train, TrialConfig
from mmtune.train.staging import FILES, read_epochs, read_result

local = pytest.importorskip("submitit.local.local", reason="needs submitit: pip install 'mmtune[slurm]'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
CONFIG = TrialConfig(model=AudioRNNConfig(hidden=8), train=Train(epochs=3))
LONG = TrialConfig(model=AudioRNNConfig(hidden=8), train=Train(epochs=100_000))


class Executor(local.LocalExecutor):
    """Without SLURM's own words; a job that has ended has failed, in one of them."""

    def _submit_command(self, command: str) -> Any:
        job = super()._submit_command(command)
        states = {"RUNNING": "RUNNING", "FINISHED": "FAILED", "INTERRUPTED": "FAILED"}
        job.watcher = SimpleNamespace(get_state=lambda own, mode: states[job.state])
        return job

    def _internal_update_parameters(self, **words: object) -> None:
        super()._internal_update_parameters(timeout_min=60, tasks_per_node=words["ntasks_per_node"])


@pytest.fixture(scope="module")
def spec(tiny: Dataset) -> WorkerSpec:
    return WorkerSpec(data=tiny.folder, splits=(split(tiny.train, "clip_disjoint", 0),), device="cpu", classes=10)


@pytest.fixture(scope="module")
def pool(spec: WorkerSpec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmPool]:
    store = tmp_path_factory.mktemp("store")
    with SlurmSession(Request(), store, print, Executor) as session, session(spec, 1) as made:
        assert made.idle == 0
        until(made, Ready)
        yield made
        pids = [worker.submitted._process.pid for worker in made.workers]
    assert eventually(lambda: all(gone(pid) for pid in pids))
    assert not list((store / "slurm").iterdir())


def task(pool: SlurmPool) -> int:
    """The process of the one worker."""
    (parent,) = [worker.submitted._process.pid for worker in pool.workers]
    (found,) = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return int(found)


def test_a_job_leaves_what_it_leaves_on_a_local_worker(pool: SlurmPool, spec: WorkerSpec, tmp_path: Path) -> None:
    assert pool.idle == 1
    pool.submit(Job(number=7, config=CONFIG, seed=1, folder=tmp_path / "slurm"))
    assert pool.idle == 0
    until(pool, Done)
    assert pool.idle == 1
    with LocalPool(spec, 1) as here:
        until(here, Ready)
        here.submit(Job(number=7, config=CONFIG, seed=1, folder=tmp_path / "local"))
        until(here, Done)
    assert files(tmp_path / "slurm") == files(tmp_path / "local") != {}
    assert [point.epoch for point in read_epochs(tmp_path / "slurm")] == [1, 2, 3]


def files(folder: Path) -> dict[str, bytes]:
    """What is kept of a training, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in (folder / FILES).rglob("*") if path.is_file()}


def test_at_a_rung_it_waits_for_the_verdict(pool: SlurmPool, tmp_path: Path) -> None:
    pool.submit(Job(number=8, config=CONFIG, seed=1, folder=tmp_path / "job", rungs=frozenset({2})))
    epochs: list[Event] = []
    assert eventually(lambda: len(epochs) == 2 or epochs.extend(pool.events(0.2)) is not None, 60)
    assert not list(pool.events(1.0))
    pool.answer(8, go_on=False)
    _, seen = until(pool, Done)
    result = read_result(tmp_path / "job")
    assert result is not None
    assert result.state == "PRUNED"
    assert not [event for event in seen if isinstance(event, Epoch)]


def test_an_exception_costs_the_job_and_not_the_worker(pool: SlurmPool, tmp_path: Path) -> None:
    before = task(pool)
    job = Job(number=10, config=CONFIG, seed=1, folder=tmp_path / "bad", encoders={"image": tmp_path / "nowhere"})
    pool.submit(job)
    failed, _ = until(pool, Failed)
    assert isinstance(failed, Failed)
    assert failed.reason.startswith("InputError: ")
    assert not failed.retry
    assert task(pool) == before
    assert pool.idle == 1


@pytest.mark.parametrize(
    ("number", "lost", "reason"),
    [
        (signal.SIGKILL, False, "died"),
        (signal.SIGUSR2, True, "reached its time limit"),
        (signal.SIGTERM, True, "was preempted or cancelled"),
    ],
)
def test_a_worker_that_ends_is_replaced_and_its_job_named(
    pool: SlurmPool, tmp_path: Path, number: signal.Signals, lost: bool, reason: str
) -> None:
    pool.submit(Job(number=13, config=LONG, seed=1, folder=tmp_path / "long"))
    until(pool, Epoch)
    os.kill(task(pool), number)
    died, _ = until(pool, Died)
    assert isinstance(died, Died)
    assert (died.number, died.lost) == (13, lost)
    assert reason in died.reason or (not lost and died.reason.endswith("ended: FAILED")), died
    until(pool, Ready)
    pool.submit(Job(number=14, config=CONFIG, seed=1, folder=tmp_path / "next"))
    until(pool, Done)


def test_a_hung_worker_is_replaced_and_its_job_given_back(spec: WorkerSpec, tmp_path: Path) -> None:
    hasty = WorkerSpec(data=spec.data, splits=spec.splits, device="cpu", classes=10, hung_after=30.0)
    with SlurmSession(Request(), tmp_path / "store", print, Executor) as session, session(hasty, 1) as pool:
        until(pool, Ready)
        pool.submit(Job(number=15, config=LONG, seed=1, folder=tmp_path / "stopped"))
        until(pool, Epoch)
        stopped = task(pool)
        os.kill(stopped, signal.SIGSTOP)
        died, _ = until(pool, Died)
        assert died == Died(number=15, reason="worker hung: it said nothing for 30 s")
        until(pool, Ready)
        # What scancel does.
        os.kill(stopped, signal.SIGKILL)
        pool.submit(Job(number=16, config=CONFIG, seed=1, folder=tmp_path / "whole"))
        until(pool, Done)


def test_no_job_is_asked_for_while_another_has_nothing_to_do(spec: WorkerSpec, tmp_path: Path) -> None:
    with SlurmSession(Request(), tmp_path / "store", print, Executor) as session, session(spec, 2) as pool:
        assert eventually(lambda: not list(pool.events(0.2)) and pool.idle == 2)
        pool.workers[0].tie.close()
        assert eventually(lambda: not list(pool.events(0.2)) and len(pool.workers) == 1)
        list(pool.events(0.2))
        assert len(pool.workers) == 1
        pool.submit(Job(number=1, config=LONG, seed=1, folder=tmp_path / "one"))
        list(pool.events(0.2))
        assert len(pool.workers) == 2
        until(pool, Ready)
        assert pool.idle == 1


def test_the_last_job_has_the_workers_that_are_left(spec: WorkerSpec, tmp_path: Path) -> None:
    shared = Request(gpus=0.5)
    with SlurmSession(shared, tmp_path / "store", print, Executor) as session, session(spec, 3) as pool:
        jobs = Counter(worker.submitted.job_id for worker in pool.workers)
        assert sorted(jobs.values()) == [1, 2]
        assert eventually(lambda: not list(pool.events(0.2)) and pool.idle == 3)


def test_two_workers_of_one_job_end_each_by_itself(spec: WorkerSpec, tmp_path: Path) -> None:
    shared = Request(gpus=0.5)
    with SlurmSession(shared, tmp_path / "store", print, Executor) as session, session(spec, 2) as pool:
        assert len({worker.submitted.job_id for worker in pool.workers}) == 1
        until(pool, Ready)
        assert eventually(lambda: not list(pool.events(0.2)) and pool.idle == 2)
        pool.submit(Job(number=1, config=LONG, seed=1, folder=tmp_path / "one"))
        pool.submit(Job(number=2, config=CONFIG, seed=1, folder=tmp_path / "two"))
        until(pool, Done)

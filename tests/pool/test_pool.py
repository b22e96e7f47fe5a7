"""Real worker processes: jobs, rungs, failures, deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from processes import with_memory

from mmtune.base.errors import InputError
from mmtune.base.signals import STOPS
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import split
from mmtune.networks.config import AudioRNNConfig, ImageCNNConfig, LatentFusionConfig
from mmtune.networks.shapes import Shapes
from mmtune.networks.storage import save_model
from mmtune.pool import local
from mmtune.pool.local import LocalPool
from mmtune.pool.worker import Died, Done, Epoch, Event, Failed, Job, Ready, Saved, WorkerSpec
from mmtune.train.recipe import Train, TrialConfig
from mmtune.train.staging import CHECKPOINT, Result, read_epochs, read_result
from mmtune.tune.trying import DIGITS

SHAPES = Shapes(banks=DIGITS, classes=10)
CONFIG = TrialConfig(model=AudioRNNConfig(hidden=8), train=Train(epochs=3))


@pytest.fixture(scope="module")
def pool(tiny: Dataset) -> Iterator[LocalPool]:
    spec = WorkerSpec(data=tiny.folder, splits=(split(tiny.train, "clip_disjoint", 0),), device="cpu", classes=10)
    with LocalPool(spec, 1) as made:
        assert made.idle == 0
        until(made, Ready)
        yield made


def until(pool: LocalPool, kind: type, seconds: float = 60) -> tuple[Event, list[Event]]:
    seen: list[Event] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for event in pool.events(0.2):
            seen.append(event)
            if isinstance(event, kind):
                return event, seen
    raise AssertionError(f"no {kind.__name__} among {seen}")


def test_a_job_reports_every_epoch_and_leaves_its_folder(pool: LocalPool, tmp_path: Path) -> None:
    assert pool.idle == 1
    pool.submit(Job(number=7, config=CONFIG, seed=1, folder=tmp_path / "job"))
    assert pool.idle == 0
    done, seen = until(pool, Done)
    assert isinstance(done, Done)
    assert done.number == 7
    assert [event.point.epoch for event in seen if isinstance(event, Epoch)] == [1, 2, 3]
    assert read_epochs(tmp_path / "job") == [event.point for event in seen if isinstance(event, Epoch)]
    result = read_result(tmp_path / "job")
    assert result is not None
    assert (result.state, result.metrics["epochs_trained"]) == ("COMPLETE", 3)
    assert (tmp_path / "job" / "files" / "model" / "model.json").exists()
    assert pool.idle == 1


def test_at_a_rung_it_waits_for_the_verdict(pool: LocalPool, tmp_path: Path) -> None:
    pool.submit(Job(number=8, config=CONFIG, seed=1, folder=tmp_path / "job", rungs=frozenset({2})))
    until(pool, Epoch)
    until(pool, Epoch)
    assert not list(pool.events(0.5))
    pool.answer(8, go_on=False)
    _, seen = until(pool, Done)
    result = read_result(tmp_path / "job")
    assert result is not None
    assert (result.state, result.metrics["epochs_trained"]) == ("PRUNED", 2)
    assert not [event for event in seen if isinstance(event, Epoch)]


def test_an_exception_costs_the_job_and_not_the_worker(pool: LocalPool, tmp_path: Path) -> None:
    bad = Job(number=9, config=CONFIG, seed=1, folder=tmp_path / "bad", encoders={"image": tmp_path / "nowhere"})
    worker = pool.workers[0].process.pid
    pool.submit(bad)
    failed, _ = until(pool, Failed)
    assert isinstance(failed, Failed)
    assert failed.reason.startswith("InputError: ")
    assert not failed.retry
    assert "Traceback" in (tmp_path / "bad" / "error.txt").read_text()
    assert pool.workers[0].process.pid == worker
    assert pool.idle == 1


def test_a_diverged_trial_is_not_worth_a_retry(pool: LocalPool, tmp_path: Path) -> None:
    encoder = AudioRNNConfig(hidden=8).build(SHAPES)
    for tensor in encoder.parameters():
        tensor.data.fill_(float("nan"))
    save_model(tmp_path / "encoder", encoder, AudioRNNConfig(hidden=8), SHAPES)
    config = TrialConfig(model=LatentFusionConfig(audio=AudioRNNConfig(hidden=8)))
    pool.submit(Job(number=10, config=config, seed=1, folder=tmp_path / "x", encoders={"audio": tmp_path / "encoder"}))
    failed, _ = until(pool, Failed)
    assert isinstance(failed, Failed)
    assert failed.reason == "DivergenceError: training loss must be finite, got nan"
    assert not failed.retry


TOO_WIDE = """
import sys
from pathlib import Path

from mmtune.data.protocols import split
from mmtune.data.storage.store import load
from mmtune.networks.config import AudioRNNConfig
from mmtune.pool import local
from mmtune.pool.local import LocalPool
from mmtune.pool.worker import Done, Failed, Job, Ready, WorkerSpec
from mmtune.train.recipe import Train, TrialConfig


def until(kind):
    while True:
        for event in pool.events(0.2):
            if isinstance(event, kind):
                return event


data, folder = load(Path(sys.argv[1])), Path(sys.argv[2])
spec = WorkerSpec(data=data.folder, splits=(split(data.train, "clip_disjoint", 0),), device="cpu", classes=10)
with LocalPool(spec, 1) as pool:
    until(Ready)
    wide = TrialConfig(model=AudioRNNConfig(hidden=8192, layers=5))
    pool.submit(Job(number=12, config=wide, seed=1, folder=folder / "wide"))
    failed = until(Failed)
    print(failed.memory, failed.retry, "allocate" in failed.reason)
    narrow = TrialConfig(model=AudioRNNConfig(hidden=8), train=Train(epochs=3))
    pool.submit(Job(number=13, config=narrow, seed=1, folder=folder / "narrow"))
    print(until(Done))
"""


def test_too_little_memory_costs_the_job_and_not_the_worker(tiny: Dataset, tmp_path: Path) -> None:
    """The worker may have 2 GiB; the weights of this network alone need more."""
    said = with_memory(2, TOO_WIDE, str(tiny.folder), str(tmp_path))
    assert said.splitlines() == ["True True True", "Done(number=13)"]


AHEAD = """
import os
import sys

sys.path = [path for path in sys.path if path not in ("", os.getcwd())]
from multiprocessing import forkserver, get_context

from mmtune.pool.local import loaded_ahead

with loaded_ahead():
    process = get_context("forkserver").Process(target=print)
    process.start()
    process.join()
    server = forkserver._forkserver._forkserver_pid
    print(os.path.exists(f"/proc/{server}"), "PYTHONSAFEPATH" in os.environ)
print(os.path.exists(f"/proc/{server}"))
"""


def test_what_is_loaded_ahead_is_never_from_the_folder_that_one_is_in_and_ends_with_the_command(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("open('ran', 'w').close()")
    found = subprocess.run([sys.executable, "-c", AHEAD], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["True", "False", "False"]
    assert not (tmp_path / "ran").exists()


def test_fewer_jobs_run_side_by_side_once_memory_gave_out(tiny: Dataset, tmp_path: Path) -> None:
    spec = WorkerSpec(data=tiny.folder, splits=(split(tiny.train, "clip_disjoint", 0),), device="cpu", classes=10)
    with LocalPool(spec, 2) as pool:
        until(pool, Ready)
        until(pool, Ready)
        assert pool.idle == 2
        assert pool.narrow() == 1
        assert pool.idle == 1
        pool.submit(Job(number=14, config=CONFIG, seed=1, folder=tmp_path / "one"))
        assert pool.idle == 0
        until(pool, Done)
        assert pool.narrow() == 1
        assert pool.idle == 1


def test_a_killed_worker_is_replaced_and_its_job_named(pool: LocalPool, tmp_path: Path) -> None:
    long = TrialConfig(model=AudioRNNConfig(hidden=8), train=Train(epochs=100_000))
    pool.submit(Job(number=11, config=long, seed=1, folder=tmp_path / "long"))
    until(pool, Epoch)
    pid = pool.workers[0].process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    died, _ = until(pool, Died)
    assert died == Died(number=11, reason="worker was killed by SIGKILL")
    until(pool, Ready)
    pool.submit(Job(number=12, config=CONFIG, seed=1, folder=tmp_path / "next"))
    done, _ = until(pool, Done)
    assert isinstance(done, Done)
    assert done.number == 12


@pytest.fixture
def spec(tiny: Dataset) -> WorkerSpec:
    return WorkerSpec(data=tiny.folder, splits=(split(tiny.train, "clip_disjoint", 0),), device="cpu", classes=10)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_trainings_side_by_side_in_one_process_draw_nothing_from_each_other(
    device: str, spec: WorkerSpec, tmp_path: Path
) -> None:
    """Dropout and the weights drawn at the start are those of trainings that have a process to themselves."""
    config = TrialConfig(model=ImageCNNConfig(dropout=0.4), train=Train(epochs=3, keep_final=True))
    spec = replace(spec, device=device)

    def job(number: int, beside: int) -> Job:
        folder = tmp_path / f"{number} beside {beside}"
        return Job(number=number, config=config, seed=number, folder=folder, rungs=frozenset({1, 2}))

    for together in (1, 2):
        with LocalPool(spec, together, together=together) as pool:
            for _ in range(together):
                until(pool, Ready)
            assert len({worker.process.pid for worker in pool.workers}) == 1
            for first in range(0, 2, together):
                numbers = range(first, first + together)
                for number in numbers:
                    pool.submit(job(number, together))
                # None goes on before all have come as far.
                for _ in (1, 2):
                    told: set[int] = set()
                    while told != set(numbers):
                        event, _ = until(pool, Epoch)
                        assert isinstance(event, Epoch)
                        told |= {event.number} if event.point.epoch in (1, 2) else set()
                    for number in numbers:
                        pool.answer(number, go_on=True)
                for _ in numbers:
                    until(pool, Done)
    for number in range(2):
        assert ended(job(number, 1).folder) == ended(job(number, 2).folder)


def test_a_worker_that_the_kernel_ends_for_its_memory_is_told_from_one_that_somebody_kills(
    spec: WorkerSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Linux counts is a file here: to bring it to kill would end other processes too."""
    monkeypatch.setattr(local, "VMSTAT", tmp_path / "vmstat")
    long = TrialConfig(model=AudioRNNConfig(hidden=8), train=Train(epochs=100_000))
    killed = "worker was killed by SIGKILL"
    for before, after, reason in ((3, 3, killed), (3, 4, local.OUT_OF_MEMORY), (None, None, killed)):
        (tmp_path / "vmstat").write_text("nr_free_pages 7\n" + ("" if before is None else f"oom_kill {before}\n"))
        with LocalPool(spec, 1) as pool:
            until(pool, Ready)
            pool.submit(Job(number=1, config=long, seed=1, folder=tmp_path / f"{before}-{after}"))
            until(pool, Epoch)
            (tmp_path / "vmstat").write_text("nr_free_pages 7\n" + ("" if after is None else f"oom_kill {after}\n"))
            os.kill(pool.workers[0].process.pid or 0, signal.SIGKILL)
            died, _ = until(pool, Died)
            assert died == Died(number=1, reason=reason, memory=reason == local.OUT_OF_MEMORY)


def test_whatever_ends_a_process_of_several_workers_may_end_one_job_only_when_it_does_so_again(
    spec: WorkerSpec, tmp_path: Path
) -> None:
    long = TrialConfig(model=AudioRNNConfig(hidden=8), train=Train(epochs=100_000))
    with LocalPool(spec, 2, together=2) as pool:
        until(pool, Ready)
        until(pool, Ready)
        for number in range(2):
            pool.submit(Job(number=number, config=long, seed=1, folder=tmp_path / str(number)))
        until(pool, Epoch)
        os.kill(pool.workers[0].process.pid or 0, signal.SIGKILL)
        died = {until(pool, Died)[0] for _ in range(2)}
        assert died == {Died(number=number, reason="worker was killed by SIGKILL") for number in range(2)}
        until(pool, Ready)
        until(pool, Ready)
        first, second = (worker.process.pid for worker in pool.workers)
        assert first != second
        for number in range(2):
            pool.submit(Job(number=number, config=long, seed=1, folder=tmp_path / str(number)))
        os.kill(first or 0, signal.SIGKILL)
        until(pool, Died)
        assert sum(worker.job is not None for worker in pool.workers) == 1
        assert any(worker.process.pid == second for worker in pool.workers)


FIRST = """
import sys
from pathlib import Path
from mmtune.base.signals import STOPS
from mmtune.pool import local
from mmtune.pool.local import LocalPool
from mmtune.pool.worker import WorkerSpec
from mmtune.tune.trying import DIGITS

if __name__ == "__main__":
    with LocalPool(WorkerSpec(data=Path(sys.argv[1]), splits=(), device="cpu", classes=10), 2) as pool:
        for worker in pool.workers:
            status = Path(f"/proc/{worker.process.pid}/status").read_text()
            blocked = int(next(line for line in status.splitlines() if line.startswith("SigBlk")).split()[1], 16)
            print(*(name.name for name in STOPS if blocked >> (name - 1) & 1))
"""


def test_stopping_signals_do_not_reach_a_worker(pool: LocalPool, tmp_path: Path) -> None:
    pid = pool.workers[0].process.pid
    assert pid is not None
    for number in STOPS:
        os.kill(pid, number)
    pool.submit(Job(number=13, config=CONFIG, seed=1, folder=tmp_path / "job"))
    done, _ = until(pool, Done)
    assert isinstance(done, Done)
    assert pool.workers[0].process.pid == pid


def test_nor_the_first_worker_of_a_process_from_its_first_instruction_on(tiny: Dataset, tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text(FIRST)
    # Workers that have their data stay, however late one looks at them.
    command = [sys.executable, tmp_path / "first.py", tiny.folder]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["SIGINT SIGTERM SIGHUP"] * 2 + [""]


def test_workers_that_cannot_get_their_data_end_the_study_with_the_reason(tiny: Dataset, tmp_path: Path) -> None:
    spec = WorkerSpec(data=tmp_path / "gone", splits=(split(tiny.train, "clip_disjoint", 0),), device="cpu", classes=10)
    with LocalPool(spec, 1) as broken, pytest.raises(InputError, match=r"workers cannot start: .*gone"):
        until(broken, Done)


def test_workers_that_die_at_the_start_again_and_again_end_the_study(tiny: Dataset) -> None:
    spec = WorkerSpec(data=tiny.folder, splits=(split(tiny.train, "clip_disjoint", 0),), device="cpu", classes=10)

    def kill_every_worker(pool: LocalPool) -> None:
        for _ in range(100):
            pool.workers[0].process.kill()
            list(pool.events(0.5))

    with LocalPool(spec, 1) as broken, pytest.raises(InputError, match="workers cannot start: worker was killed"):
        kill_every_worker(broken)


def ended(folder: Path) -> tuple[Result, bytes]:
    """How a training ended, without what it took, and the weights that it left."""
    result = read_result(folder)
    assert result is not None
    metrics = {name: v for name, v in result.metrics.items() if "second" not in name}
    return replace(result, metrics=metrics, time=0), (folder / "files" / "model" / "weights.safetensors").read_bytes()


def test_a_job_in_the_folder_of_one_that_was_killed_goes_on_from_its_checkpoint(
    pool: LocalPool, tmp_path: Path
) -> None:
    config = replace(CONFIG, train=Train(epochs=12))
    folder, whole = tmp_path / "cut", tmp_path / "whole"
    job = Job(number=30, config=config, seed=1, folder=folder, rungs=frozenset({8}), checkpoint_every=0.0)
    pool.submit(job)
    while not read_epochs(folder)[7:]:
        list(pool.events(0.2))
    pid = pool.workers[0].process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(pool, Died)
    # As kills in the midst of writes leave it.
    with (folder / "epochs.jsonl").open("ab") as file:
        file.write(b'{"epoch":9,"ti')
    (folder / f".{CHECKPOINT}.{pid}").write_bytes(b"half")
    until(pool, Ready)
    pool.submit(replace(job, rungs=frozenset()))
    _, seen = until(pool, Done)
    told = [(event.point.epoch, event.new) for event in seen if isinstance(event, Epoch)]
    # The eighth was told, and no checkpoint is of it, as it waited for its verdict.
    assert told == [(8, False), *((epoch, True) for epoch in range(9, 13))]
    assert [event for event in seen if isinstance(event, Saved)]
    assert [point.epoch for point in read_epochs(folder)] == list(range(1, 13))
    assert not list(folder.glob(".*"))
    pool.submit(replace(job, number=31, folder=whole, rungs=frozenset()))
    until(pool, Done)
    assert ended(folder) == ended(whole)
    losses = [[point.metrics["train_loss"] for point in read_epochs(own)] for own in (folder, whole)]
    assert losses[0] == losses[1]


def in_silence(pool: LocalPool) -> list[Event]:
    """What comes of a pool within 3,000 seconds in which no worker says a word, by the pool's own count."""
    for _ in range(600):
        pool.looked -= 5.0
        events = list(pool.events(0))
        if events:
            return events
    return []


def test_a_hung_worker_is_replaced_and_its_job_given_back(tiny: Dataset, tmp_path: Path) -> None:
    splits = (split(tiny.train, "clip_disjoint", 0),)
    spec = WorkerSpec(data=tiny.folder, splits=splits, device="cpu", classes=10, hung_after=2000.0)
    with LocalPool(spec, 1) as pool:
        until(pool, Ready)
        assert not in_silence(pool)
        worker = pool.workers[0].process
        os.kill(worker.pid or 0, signal.SIGSTOP)
        pool.submit(Job(number=20, config=CONFIG, seed=1, folder=tmp_path / "stopped"))
        assert in_silence(pool) == [Died(number=20, reason="worker hung: it said nothing for 2000 s")]
        assert worker.exitcode == -signal.SIGKILL
        until(pool, Ready)
        pool.submit(Job(number=21, config=CONFIG, seed=1, folder=tmp_path / "whole"))
        until(pool, Done)


def test_who_shares_the_process_of_one_that_hangs_is_not_charged_with_it(spec: WorkerSpec, tmp_path: Path) -> None:
    long = TrialConfig(model=AudioRNNConfig(hidden=8), train=Train(epochs=100_000))
    with LocalPool(replace(spec, hung_after=2000.0), 2, together=2) as pool:
        until(pool, Ready)
        until(pool, Ready)
        for number in range(2):
            pool.submit(Job(number=number, config=long, seed=1, folder=tmp_path / str(number)))
        os.kill(pool.workers[0].process.pid or 0, signal.SIGSTOP)
        died = [event for event in in_silence(pool) if isinstance(event, Died)]
        if len(died) == 1:
            died.append(until(pool, Died)[0])
        assert [event.lost for event in died] == [False, True]


def test_a_worker_that_can_do_no_more_gets_no_job(spec: WorkerSpec) -> None:
    """After its last word, which comes before its end is heard of."""
    with LocalPool(spec, 1) as pool:
        until(pool, Ready)
        assert pool.idle == 1
        pool._note(pool.workers[0], Failed(number=0, reason="a failed assertion on the GPU", retry=True, last=True))
        assert pool.idle == 0


def test_a_coordinator_that_was_stopped_itself_takes_no_worker_for_hung(tiny: Dataset, tmp_path: Path) -> None:
    splits = (split(tiny.train, "clip_disjoint", 0),)
    spec = WorkerSpec(data=tiny.folder, splits=splits, device="cpu", classes=10, hung_after=600.0)
    with LocalPool(spec, 1) as pool:
        until(pool, Ready)
        pool.submit(Job(number=22, config=CONFIG, seed=1, folder=tmp_path / "x", rungs=frozenset({1})))
        until(pool, Epoch)
        pool.looked -= 3600
        assert not list(pool.events(0.2))
        pool.answer(22, go_on=True)
        until(pool, Done)

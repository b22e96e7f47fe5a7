"""The whole command on SLURM, as far as one machine is one: jobs that are killed, end in time, wait, cannot start."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fake_slurm
import pytest
from checks import begin, check_whole, command, eventually, results, run, wait_for
from fake_slurm import processes, states

from mmtune.data.dataset import Dataset
from mmtune.tracking import MlflowTracker
from mmtune.train.staging import CHECKPOINT, EPOCHS

pytest.importorskip("submitit", reason="needs submitit: pip install 'mmtune[slurm]'")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
LONG, TRIALS = 150, 3
OFTEN = ("--checkpoint-every", "0.2")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a SLURM that runs two jobs side by side."""
    folder = tmp_path / "slurm"
    place = fake_slurm.install(folder)
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    monkeypatch.setenv("PATH", os.pathsep.join([str(place), os.environ["PATH"]]))
    yield folder
    for job in states(folder):
        (folder / f"{job}.cancel").touch()
    assert eventually(lambda: idle(folder))


def idle(folder: Path) -> bool:
    """Whether no job runs or waits."""
    return not any(processes(folder).values()) and not {"PENDING", "RUNNING"} & set(states(folder).values())


def on_slurm(dataset: Dataset, store: Path, *more: str, epochs: int = LONG, trials: int = TRIALS) -> list[str]:
    return command(dataset, store, "--pool", "slurm", *more, epochs=epochs, trials=trials)


@pytest.fixture(scope="module")
def calm(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory, store_template: Path) -> Path:
    """The store of a study on local workers that nobody disturbed."""
    store = Path(shutil.copytree(store_template, tmp_path_factory.mktemp("calm") / "mlruns"))
    run(command(tiny, store, epochs=LONG, trials=TRIALS))
    return store


def failures(store: Path) -> list[str]:
    """The reasons of attempts that count."""
    tracker = MlflowTracker(store)
    return [
        trial.tags["mmtune.reason"] for trial in tracker.trials(tracker.studies()[0].run_id) if trial.state == "FAIL"
    ]


def checkpoints(store: Path) -> list[Path]:
    return list((store / "staging").glob(f"*/*/{CHECKPOINT}"))


def test_a_study_is_that_of_local_workers_and_leaves_no_job(
    tiny: Dataset, store: Path, slurm: Path, calm: Path
) -> None:
    run(on_slurm(tiny, store, "--slurm", "partition=short account=ml exclusive"))
    check_whole(store, trials=TRIALS, epochs=LONG)
    assert results(store) == results(calm)
    script = (slurm / "100.sh").read_text()
    for line in ("partition=short", "account=ml", "exclusive", "no-requeue", "time=60", "array=0-1%2"):
        assert f"#SBATCH --{line}\n" in script
    assert "gpus" not in script
    assert "wckey" not in script
    assert eventually(lambda: idle(slurm), 10)
    assert not list((store / "slurm").iterdir())
    assert len(states(slurm)) == 2


def test_jobs_that_are_killed_are_replaced_and_their_trials_go_on(
    tiny: Dataset, store: Path, slurm: Path, calm: Path
) -> None:
    process = begin(on_slurm(tiny, store, *OFTEN))
    wait_for(process, "trial 01")
    assert eventually(lambda: len(checkpoints(store)) == 2)
    (first, *_) = [pid for pids in processes(slurm).values() for pid in pids]
    os.kill(first, signal.SIGKILL)
    text, _ = process.communicate(timeout=240)
    assert process.returncode == 0, text
    check_whole(store, trials=TRIALS, epochs=LONG)
    assert results(store) == results(calm)
    (reason,) = failures(store)
    assert "job 100_" in reason
    assert reason.endswith("ended: FAILED")
    assert len(states(slurm)) == 3


def test_time_limits_cost_no_attempt(tiny: Dataset, store: Path, slurm: Path) -> None:
    """Each job has seconds beside those in which a worker starts on this machine; the training needs several jobs."""
    (slurm / "slots").write_text("1")
    epochs, began = 2500, time.monotonic()
    run([sys.executable, "-c", "import mmtune.pool.slurm.job, mmtune.train.fit"])
    seconds = 7 + 2 * round(time.monotonic() - began)
    limit = f"time={seconds // 60}:{seconds % 60:02}"
    words = on_slurm(tiny, store, *OFTEN, "--slurm", limit, "--workers", "1", epochs=epochs, trials=1)
    text = run(words)
    check_whole(store, trials=1, epochs=epochs)
    assert text.count("reached its time limit; it waits for another worker") >= 2, text
    assert failures(store) == []


def test_jobs_end_with_their_coordinator_and_the_same_command_goes_on(
    tiny: Dataset, store: Path, slurm: Path, calm: Path
) -> None:
    (slurm / "slots").write_text("1")
    words = on_slurm(tiny, store, *OFTEN)
    process = begin(words)
    wait_for(process, "trial 00")
    assert eventually(lambda: bool(checkpoints(store)))
    process.kill()
    process.wait()
    # The job that ran ends, then the one that waited begins and ends too.
    assert eventually(lambda: idle(slurm)), states(slurm)
    assert sorted(states(slurm).values()) == ["COMPLETED", "FAILED"]
    text = run(words)
    assert "cut short by an earlier interruption" in text
    check_whole(store, trials=TRIALS, epochs=LONG)
    assert results(store) == results(calm)
    assert failures(store) == []
    assert not list((store / "slurm").iterdir())


def test_jobs_that_a_killed_command_has_left_waiting_are_cancelled_by_the_next(
    tiny: Dataset, store: Path, slurm: Path
) -> None:
    (slurm / "slots").write_text("0")
    process = begin(on_slurm(tiny, store))
    wait_for(process, "waiting for SLURM: 2 jobs pending")
    process.kill()
    process.wait()
    left = set(states(slurm))
    process = begin(on_slurm(tiny, store))
    assert eventually(lambda: len(states(slurm)) > len(left))
    assert eventually(lambda: {states(slurm)[job] for job in left} == {"CANCELLED by 1000"})
    process.send_signal(signal.SIGTERM)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 130, text
    assert eventually(lambda: idle(slurm), 20)


def test_workers_share_the_gpu_of_a_job(tiny: Dataset, store: Path, slurm: Path) -> None:
    """There is none: each says so, and the command ends with that line."""
    done = subprocess.run(
        [word for word in on_slurm(tiny, store, "--gpus-per-trial", "0.5") if word not in ("--device", "cpu")],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    script = (slurm / "100.sh").read_text()
    assert "#SBATCH --gpus-per-node=1\n" in script
    assert "#SBATCH --ntasks-per-node=2\n" in script
    assert "#SBATCH --array" not in script
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def refused(words: list[str], place: Path | None = None) -> str:
    """The one line with which a command ends."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, cwd=place)
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr.strip()


def test_what_sbatch_refuses_is_a_line(tiny: Dataset, store: Path, slurm: Path) -> None:
    said = refused(on_slurm(tiny, store, "--slurm", "partition=nowhere"))
    assert "sbatch refuses: invalid partition specified: nowhere; Batch job submission failed: Invalid" in said
    assert not list((store / "slurm").iterdir())


def test_nodes_without_this_python_are_a_line(tiny: Dataset, store: Path, slurm: Path) -> None:
    (slurm / "lacks").write_text("python")
    said = refused(on_slurm(tiny, store))
    assert "workers cannot start: job 10" in said
    assert f"slurmstepd: error: execve(): {sys.executable}: No such file or directory" in said


def test_nodes_with_other_code_are_a_line(tiny: Dataset, store: Path, slurm: Path, tmp_path: Path) -> None:
    package = Path(sys.modules["mmtune"].__file__ or "").parent
    shutil.copytree(package, tmp_path / "older" / "mmtune", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "older" / "mmtune" / "__init__.py").write_text('__version__ = "0.0.1"\n')
    (slurm / "path").write_text(str(tmp_path / "older"))
    # Where the checkout is, a program finds that first.
    said = refused(on_slurm(tiny, store), tmp_path)
    assert "every node must have this machine's mmtune and torch: job 100_" in said
    assert "has mmtune 0.0.1 (" in said


def test_nodes_without_the_data_are_a_line(tiny: Dataset, store: Path, slurm: Path, tmp_path: Path) -> None:
    """They are moved away before a job begins."""
    (slurm / "slots").write_text("0")
    data = Path(shutil.copytree(tiny.folder, tmp_path / "data"))
    words = [str(data) if word == str(tiny.folder) else word for word in on_slurm(tiny, store)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert eventually(lambda: bool(states(slurm)))
    data.rename(tmp_path / "elsewhere")
    (slurm / "slots").write_text("2")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert f"workers cannot start: every node must see the data set under the path {data}" in said


def test_epochs_are_each_there_once_whenever_a_worker_is_asked_to_end(tiny: Dataset, store: Path, slurm: Path) -> None:
    epochs = 2500
    process = begin(on_slurm(tiny, store, *OFTEN, "--workers", "1", epochs=epochs, trials=1))
    before = 0
    for _ in range(3):
        wait_for(process, ": started")
        assert eventually(lambda before=before: trained(store) > before + 20)
        before = trained(store)
        for pid in (pid for pids in processes(slurm).values() for pid in pids):
            os.kill(pid, signal.SIGTERM)
        wait_for(process, "was preempted or cancelled; it waits for another worker")
    text, _ = process.communicate(timeout=240)
    assert process.returncode == 0, text
    check_whole(store, trials=1, epochs=epochs)
    assert failures(store) == []


def trained(store: Path) -> int:
    """How many epochs are on record of what is under way."""
    return sum(path.read_bytes().count(b"\n") for path in (store / "staging").glob(f"*/*/{EPOCHS}"))

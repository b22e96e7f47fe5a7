"""What is asked of SLURM, in its own words, and what is read of its answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmtune.base.errors import InputError
from mmtune.base.files import locked
from mmtune.pool.slurm import Request, require_slurm, sbatch_words
from mmtune.pool.slurm.queue import how_ended, last_line, own_folder
from mmtune.study.options import Options

ABSENT = "ModuleNotFoundError: No module named 'mmtune'"
NOWHERE = "slurmstepd: error: execve(): /x/python: No such file or directory"


def test_words_are_sbatchs_own() -> None:
    words = sbatch_words("partition=gpu time=4:00:00 exclusive gres=gpu:a100:1 comment='two words' cpus-per-task=4")
    assert words == {
        "partition": "gpu",
        "time": "4:00:00",
        "exclusive": True,
        "gres": "gpu:a100:1",
        "comment": "two words",
        "cpus_per_task": "4",
    }
    assert sbatch_words("") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "--partition=gpu",
            "--slurm must be words KEY=VALUE or KEY, as sbatch has them behind --, got '--partition=gpu'",
        ),
        ("partition=", "got 'partition='"),
        ("=gpu", "got '=gpu'"),
        ("comment='a\ntouch ran'", "as sbatch has them behind --"),
        ("comment='a", "No closing quotation"),
        ("array=0-9", "--slurm must leave array to mmtune, got 'array=0-9'"),
        ("job-name=x", "must leave job-name to mmtune"),
        ("requeue", "must leave requeue to mmtune"),
    ],
)
def test_other_words_are_refused(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        sbatch_words(text)
    assert said in str(error.value)


def script(request: Request, tasks: int, folder: Path) -> list[str]:
    """The lines that sbatch would read."""
    slurm = pytest.importorskip("submitit.slurm.slurm", reason="needs submitit: pip install 'mmtune[slurm]'")
    text = slurm._make_sbatch_string("true", folder, **request.parameters(tasks))
    return [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]


def test_a_job_has_one_processor_and_an_hour_unless_the_words_say_more(tmp_path: Path) -> None:
    lines = script(Request(), 1, tmp_path)
    expected = ("cpus-per-task=1", "job-name=mmtune", "no-requeue", "nodes=1", "ntasks-per-node=1", "signal=USR2@30")
    assert {*expected, "time=60"} <= set(lines)
    assert not [line for line in lines if line.startswith(("wckey", "gpus", "gres"))]
    lines = script(Request(words=sbatch_words("time=4:00:00 cpus-per-task=2 mem=4G")), 1, tmp_path)
    assert {"time=4:00:00", "cpus-per-task=2", "mem=4G"} <= set(lines)
    assert not {"time=60", "cpus-per-task=1"} & set(lines)


@pytest.mark.parametrize(("share", "tasks"), [(0.0, 1), (1.0, 1), (0.5, 2), (0.25, 4), (0.3, 3), (0.1, 10)])
def test_as_many_share_a_jobs_gpu_as_the_share_says(share: float, tasks: int, tmp_path: Path) -> None:
    request = Request(gpus=share)
    assert request.tasks == tasks
    assert ("gpus-per-node=1" in script(request, tasks, tmp_path)) == (share > 0)
    other = script(Request(gpus=share, words=sbatch_words("gres=gpu:1")), tasks, tmp_path)
    assert "gpus-per-node=1" not in other


@dataclass
class Asked:
    """A job of submitit's, of which SLURM says `state`."""

    state: str
    paths: SimpleNamespace
    modes: list[str] = field(default_factory=list)
    job_id: str = "7_0"

    @property
    def watcher(self) -> Any:
        return SimpleNamespace(get_state=lambda job, mode: self.modes.append(mode) or self.state)


def asked(state: str, folder: Path, log: str | None = None) -> Asked:
    paths = SimpleNamespace(result_pickle=folder / "result.pkl", stderr=folder / "log.err")
    if log is not None:
        paths.stderr.write_text(log)
    return Asked(state, paths)


@pytest.mark.parametrize(
    ("state", "ended"),
    [
        ("PENDING", ""),
        ("RUNNING", ""),
        ("COMPLETING", ""),
        ("UNKNOWN", ""),
        ("PREEMPTED", "PREEMPTED"),
        ("CANCELLED by 1000", "CANCELLED"),
        ("OUT_OF_MEMORY", "OUT_OF_MEMORY"),
    ],
)
def test_how_a_job_has_ended_is_slurms_word(state: str, ended: str, tmp_path: Path) -> None:
    assert how_ended(asked(state, tmp_path), "standard") == ended


def test_without_accounts_a_result_says_that_it_has(tmp_path: Path) -> None:
    (tmp_path / "result.pkl").touch()
    assert how_ended(asked("UNKNOWN", tmp_path), "standard") == "FAILED"


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (None, ""),
        ("", ""),
        (f"Traceback\n{ABSENT}\n\nsrun: error: n1: task 0: Exited with exit code 1\n", ABSENT),
        (f"{NOWHERE}\nsrun: error: n1: task 0: Exited with exit code 2\n", NOWHERE),
    ],
)
def test_the_last_line_that_says_something(log: str | None, line: str, tmp_path: Path) -> None:
    assert last_line(asked("FAILED", tmp_path, log)) == line


def test_a_folder_is_its_users_own_and_goes_with_the_command(tmp_path: Path) -> None:
    with own_folder(tmp_path) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        with own_folder(tmp_path) as other:
            assert other != folder
            assert folder.exists()
    assert not list((tmp_path / "slurm").iterdir())
    assert not list((tmp_path / "locks").iterdir())


def test_what_a_killed_command_has_left_is_removed_and_its_jobs_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, taken = tmp_path / "slurm" / "left", tmp_path / "slurm" / "taken"
    for folder, jobs in ((left, ("12", "13")), (taken, ("14",))):
        folder.mkdir(parents=True)
        for job in jobs:
            (folder / f"{job}_submission.sh").touch()
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "scancel").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/cancelled\n')
    (commands / "scancel").chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:/usr/bin:/bin")
    with locked(tmp_path / "locks" / "slurm-taken", "taken"), own_folder(tmp_path):
        assert not left.exists()
        assert taken.exists()
    assert (tmp_path / "cancelled").read_text() == "12 13\n"


def test_a_machine_without_slurm_or_submitit_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(InputError, match=r"needs SLURM's sbatch, srun, scancel, which this machine has not: run it on"):
        require_slurm()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs submitit, which is not installed: pip install 'mmtune\[slurm\]'"):
        require_slurm()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"slurm": "partition=gpu"}, "--slurm is SLURM's, so --pool must be slurm, got local"),
        ({"slurm": "partition=gpu", "pool": "ray"}, "--slurm is SLURM's, so --pool must be slurm, got ray"),
        ({"ray_address": "auto", "pool": "slurm"}, "--ray-address is Ray's, so --pool must be ray, got slurm"),
        ({"gpus_per_trial": 0.5}, "--gpus-per-trial is a cluster's, so --pool must be ray or slurm, got local"),
        (
            {"pool": "slurm", "gpus_per_trial": 1.0, "device": "cpu"},
            "--device must be auto or cuda with this --gpus-per-trial, got 'cpu'",
        ),
    ],
)
def test_options_of_another_pool_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        Options(**given)
    assert str(error.value) == said

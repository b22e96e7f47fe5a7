"""The recipes of docs/cluster.md: the SLURM script is run, as far as that goes without SLURM, and the YAML is read."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from checks import check_whole, wait_for
from typer.testing import CliRunner

from mmtune.cli import app
from mmtune.data.dataset import Dataset

ROOT = Path(__file__).parents[2]
# The fields of KubeRay's API reference (ray.io/v1) that a spec may have, as far as the recipe goes.
FIELDS = {
    "RayJobSpec": "entrypoint shutdownAfterJobFinishes ttlSecondsAfterFinished backoffLimit rayClusterSpec",
    "RayClusterSpec": "rayVersion authOptions enableInTreeAutoscaling headGroupSpec workerGroupSpecs",
    "HeadGroupSpec": "rayStartParams template",
    "WorkerGroupSpec": "groupName replicas minReplicas maxReplicas rayStartParams template",
    "Container": "name image resources volumeMounts",
}
# What `srun` does, on one machine: the command once for every node.
SRUN = """#!/bin/bash
nodes=1
while [[ $1 == --* ]]; do
    [[ $1 == --nodes=* ]] && nodes=${1#*=}
    shift
done
trap 'jobs -p | xargs -r kill' TERM
for ((n = 0; n < nodes; n++)); do "$@" & done
wait
"""


def block(language: str) -> str:
    """The code block of a language in the document."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", (ROOT / "docs" / "cluster.md").read_text(), re.DOTALL)
    return str(found)


def test_the_script_is_bash(tmp_path: Path) -> None:
    (tmp_path / "mmtune.sbatch").write_text(block("bash"))
    subprocess.run(["bash", "-n", tmp_path / "mmtune.sbatch"], check=True)


def test_the_commands_have_options_that_there_are() -> None:
    text = (ROOT / "docs" / "cluster.md").read_text()
    told = CliRunner().invoke(app, ["study", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    commands = [line for line in text.replace("\\\n", " ").splitlines() if line.lstrip().startswith("mmtune study")]
    commands.append(yaml.safe_load(block("yaml"))["spec"]["entrypoint"])
    options = {option for line in commands for option in re.findall(r"--[a-z-]+", line)}
    assert {"--pool", "--ray-address", "--slurm", "--gpus-per-trial", "--workers"} <= options
    assert not {option for option in options if option not in told}


def test_the_kuberay_job_has_documented_fields_alone() -> None:
    job = yaml.safe_load(block("yaml"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    cluster = spec["rayClusterSpec"]
    head, (workers,) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    pods = [group["template"]["spec"] for group in (head, workers)]
    containers = [container for pod in pods for container in pod["containers"]]
    parts = [("RayJobSpec", spec), ("RayClusterSpec", cluster), ("HeadGroupSpec", head), ("WorkerGroupSpec", workers)]
    for kind, part in [*parts, *(("Container", one) for one in containers)]:
        assert set(part) <= set(FIELDS[kind].split()), kind
    assert shlex.split(spec["entrypoint"])[:2] == ["mmtune", "study"]
    assert all(isinstance(value, str) for value in head["rayStartParams"].values())
    mounted = {mount["name"] for pod in pods for one in pod["containers"] for mount in one.get("volumeMounts", [])}
    assert mounted == {volume["name"] for pod in pods for volume in pod.get("volumes", [])}
    assert len({one["image"] for one in containers}) == 1
    pinned = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert cluster["rayVersion"] == pinned[1]


@pytest.fixture
def slurm(tmp_path: Path) -> Path:
    """A folder to submit from, in which the commands of SLURM are found."""
    pytest.importorskip("ray", reason="needs Ray: pip install 'mmtune[ray]'")
    commands = tmp_path / ".venv" / "bin"
    commands.mkdir(parents=True)
    interpreter = shlex.quote(sys.executable)
    scripts = {
        "srun": SRUN,
        "scontrol": f'#!/bin/bash\necho "$@" >> {shlex.quote(str(tmp_path / "scontrol"))}\n',
        "mmtune": f'#!/bin/bash\nexec {interpreter} -m mmtune.cli "$@"\n',
        "ray": f'#!/bin/bash\nexec {interpreter} -m ray.scripts.scripts "$@"\n',
        "python": f'#!/bin/bash\nexec {interpreter} "$@"\n',
        "activate": f"export PATH={shlex.quote(str(commands))}:$PATH\n",
    }
    for name, text in scripts.items():
        (commands / name).write_text(textwrap.dedent(text))
        (commands / name).chmod(0o755)
    (tmp_path / "mmtune.sbatch").write_text(block("bash"))
    return tmp_path


def environment(nodes: int) -> dict[str, str]:
    """What SLURM tells a job. Ray's nodes here are of different addresses, as on a cluster."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = os.pathsep.join(sys.path)
    told = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NUM_NODES": str(nodes), "SLURM_CPUS_PER_TASK": "1"}
    return {**inherited, **told, "PYTHONPATH": path}


def submit(folder: Path, *words: str, nodes: int) -> subprocess.Popen[str]:
    command = ["bash", str(folder / "mmtune.sbatch"), *words]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(nodes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def clear(process: subprocess.Popen[str]) -> None:
    """What SLURM does at the end of a job: no process of its is left."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_slurm_script_runs_a_study_on_its_nodes(tiny: Dataset, store: Path, slurm: Path) -> None:
    words = ("audio_rnn", "--data", str(tiny.folder), "--store", str(store), "--trials", "3", "--epochs", "4")
    process = submit(slurm, *words, nodes=2)
    try:
        text, _ = process.communicate(timeout=240)
    finally:
        clear(process)
    assert process.returncode == 0, text
    assert "[3/3]" in text
    assert text.count("Ray runtime started") == 2
    check_whole(store, trials=3, epochs=4)
    assert not (slurm / "scontrol").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_slurm_job_whose_time_is_over_queues_itself_again(tiny: Dataset, store: Path, slurm: Path) -> None:
    words = ("audio_rnn", "--data", str(tiny.folder), "--store", str(store), "--trials", "1", "--epochs", "5000")
    process = submit(slurm, *words, nodes=1)
    try:
        wait_for(process, "trial 00")
        process.send_signal(signal.SIGTERM)
        text, _ = process.communicate(timeout=120)
    finally:
        clear(process)
    assert process.returncode == 130, text
    assert "the same command goes on" in text
    assert (slurm / "scontrol").read_text() == f"requeue {os.getpid()}\n"

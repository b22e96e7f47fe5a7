"""What SLURM's commands do, on this machine alone: a program, which each of them calls with its own name.

FAKE_SLURM is a folder that says how: `slots`, how many jobs run side by side; `lacks`, what is missing on the nodes;
`path`, what a node finds Python's packages in first. Beside them are the state of each job and its processes.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

COMMANDS = ("sbatch", "srun", "scancel", "sacct")
# As long before its time limit a job is told; a real one is told in minutes.
NOTICE_SECONDS = 2.0
TICK_SECONDS = 0.05


def install(folder: Path) -> Path:
    """Put the commands in a folder, for PATH; returns it."""
    place = folder / "bin"
    place.mkdir(parents=True)
    for name in COMMANDS:
        words = shlex.join([sys.executable, str(Path(__file__).resolve()), name])
        (place / name).write_text(f'#!/bin/bash\nexec {words} "$@"\n')
        (place / name).chmod(0o755)
    (folder / "slots").write_text("2")
    return place


def states(folder: Path) -> dict[str, str]:
    """How every job stands, by its number."""
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.state"))}


def processes(folder: Path) -> dict[str, list[int]]:
    """The processes of every job's tasks that live."""
    found = {path.stem: [int(pid) for pid in path.read_text().split()] for path in sorted(folder.glob("*.pids"))}
    return {job: [pid for pid in pids if Path(f"/proc/{pid}/cmdline").exists()] for job, pids in found.items()}


def said(folder: Path, name: str) -> str:
    path = folder / name
    return path.read_text().strip() if path.exists() else ""


def sbatch(folder: Path, words: list[str]) -> int:
    script = Path(words[-1]).read_text()
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script, re.MULTILINE))
    asked = {name: shlex.split(value)[0] if value else "" for name, value in asked.items()}
    if asked.get("partition") == "nowhere":
        print("sbatch: error: invalid partition specified: nowhere", file=sys.stderr)
        print("sbatch: error: Batch job submission failed: Invalid partition name specified", file=sys.stderr)
        return 1
    number = 100 + len(list(folder.glob("*.sh")))
    (folder / f"{number}.sh").write_text(script)
    last = re.match(r"0-(\d+)", asked.get("array", ""))
    elements = [f"{number}_{n}" for n in range(int(last[1]) + 1)] if last else [str(number)]
    for job in elements:
        write(folder / f"{job}.state", "PENDING")
        own = [sys.executable, __file__, "job", job, asked.get("time", "60"), asked.get("ntasks-per-node", "1")]
        with Path(os.devnull).open("r+") as nowhere:
            subprocess.Popen(own, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True)
    print(f"Submitted batch job {number}")
    return 0


def job(folder: Path, words: list[str]) -> int:
    """A job from its submission to its end."""
    name, limit, tasks = words
    number, _, element = name.partition("_")
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    cancelled = folder / f"{name}.cancel"
    slot = None
    while slot is None:
        if cancelled.exists():
            write(folder / f"{name}.state", "CANCELLED by 1000")
            return 0
        slot = next(free_slots(folder), None)
        time.sleep(TICK_SECONDS)
    write(folder / f"{name}.state", "RUNNING")
    told = {"SLURM_JOB_ID": str(int(number) * 1000 + int(element or 0)), "SLURM_NTASKS": tasks, "FAKE_JOB": name}
    told |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": element} if element else {"SLURM_JOB_ID": number}
    batch = subprocess.Popen(["bash", folder / f"{number}.sh"], env={**os.environ, **told}, start_new_session=True)
    minutes, _, seconds = limit.partition(":")
    end = time.monotonic() + 60 * int(minutes) + int(seconds or 0)
    state, noticed = "", False
    while batch.poll() is None and not state:
        time.sleep(TICK_SECONDS)
        if not noticed and time.monotonic() > end - NOTICE_SECONDS:
            noticed = True
            for pid in processes(folder).get(name, []):
                os.kill(pid, signal.SIGUSR2)
        state = "CANCELLED by 1000" if cancelled.exists() else "TIMEOUT" if time.monotonic() > end else ""
    if state:
        for number_ in (signal.SIGCONT, signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(batch.pid, number_)
            time.sleep(1.0 if number_ == signal.SIGTERM and batch.poll() is None else 0.0)
    write(folder / f"{name}.state", state or ("FAILED" if batch.wait() else "COMPLETED"))
    return 0


def free_slots(folder: Path) -> Iterator[int]:
    """Of the slots, which are locked by the jobs that run, one that is free, now taken."""
    for slot in range(int(said(folder, "slots"))):
        descriptor = os.open(folder / f"slot-{slot}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        yield descriptor


def srun(folder: Path, words: list[str]) -> int:
    out, err = (words[words.index(option) + 1] for option in ("--output", "--error"))
    command = words[words.index("--error") + 2 :]
    array, element = (os.environ.get(f"SLURM_ARRAY_{name}_ID", "") for name in ("JOB", "TASK"))
    lacks, path = said(folder, "lacks"), said(folder, "path")

    def opened(pattern: str, task: int) -> int:
        for place, own in (("%A", array), ("%a", element), ("%j", os.environ["SLURM_JOB_ID"]), ("%t", str(task))):
            pattern = pattern.replace(place, own)
        return os.open(pattern, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    if lacks == "python":
        os.write(opened(err, 0), f"slurmstepd: error: execve(): {command[0]}: No such file or directory\n".encode())
        os.write(opened(err, 0), b"srun: error: node: task 0: Exited with exit code 2\n")
        return 2
    more = {"PYTHONPATH": path} if path else {}
    tasks = []
    for task in range(int(os.environ["SLURM_NTASKS"])):
        own = {**os.environ, **more, "SLURM_PROCID": str(task), "SLURM_LOCALID": str(task)}
        tasks.append(subprocess.Popen(command, env=own, stdout=opened(out, task), stderr=opened(err, task)))
    write(folder / f"{os.environ['FAKE_JOB']}.pids", " ".join(str(task.pid) for task in tasks))
    code = max(abs(task.wait()) for task in tasks)
    if code:
        os.write(opened(err, 0), f"srun: error: node: task 0: Exited with exit code {code}\n".encode())
    return code


def scancel(folder: Path, words: list[str]) -> int:
    jobs = [job for job in states(folder) for word in words if word in (job, job.partition("_")[0])]
    for one in jobs:
        (folder / f"{one}.cancel").touch()
    return 0 if jobs else 1


def sacct(folder: Path, words: list[str]) -> int:
    asked = {word for option, word in itertools.pairwise(words) if option == "-j"}
    print("JobID|State|NodeList")
    for own, state in states(folder).items():
        if own.partition("_")[0] in asked:
            print(f"{own}|{state}|node")
    return 0


def write(path: Path, text: str) -> None:
    """Whole, as others read it at any moment."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text)
    part.replace(path)


if __name__ == "__main__":
    run = {"sbatch": sbatch, "srun": srun, "scancel": scancel, "sacct": sacct, "job": job}[sys.argv[1]]
    sys.exit(run(Path(os.environ["FAKE_SLURM"]), sys.argv[2:]))

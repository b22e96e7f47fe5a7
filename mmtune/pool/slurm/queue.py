"""Asking SLURM for jobs: what each is given, how they are submitted and cancelled, what has become of them."""

from __future__ import annotations

import importlib.util
import io
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmtune.base.errors import InputError
from mmtune.base.files import locked, make_folder
from mmtune.base.signals import STOPS

MINUTES = 60
# SLURM may send it a minute earlier; all that is to be done then is to say goodbye.
SIGNAL_SECONDS = 30
# SLURM's own limit is 1001 jobs in an array.
LARGEST_ARRAY = 500
CANCEL_SECONDS = 30.0
OURS = ("array", "error", "job_name", "nodes", "ntasks", "ntasks_per_node", "open_mode", "output", "requeue", "signal")
GPUS = ("gres", "gpus", "gpus_per_node", "gpus_per_task", "gpus_per_socket")
# Whether a job may still begin, or goes on.
UNDECIDED = ("READY", "PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "COMPLETING", "RESIZING", "REQUEUED", "UNKNOWN")
TAKEN_AWAY = ("TIMEOUT", "PREEMPTED", "NODE_FAIL", "BOOT_FAIL", "REVOKED", "CANCELLED", "DEADLINE")
NOISE = re.compile(r"Exited with exit code|STEP .* ON |Terminated$|submitit (INFO|WARNING|ERROR)")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What jobs are given. words: for sbatch, by name, True for one without a value; gpus: a trial's share of a GPU."""

    words: Mapping[str, str | bool] = field(default_factory=dict)
    gpus: float = 0.0

    @property
    def tasks(self) -> int:
        """How many workers a job holds: one, or as many as share its GPU."""
        return int(1 / self.gpus + 1e-9) if self.gpus else 1

    def parameters(self, tasks: int) -> dict[str, Any]:
        """The same for submitit, for a job of so many workers."""
        gpus = {"gpus_per_node": 1} if self.gpus and not set(GPUS) & self.words.keys() else {}
        return {
            "job_name": "mmtune",
            "time": MINUTES,
            "nodes": 1,
            "ntasks_per_node": tasks,
            "cpus_per_task": 1,
            "signal_delay_s": SIGNAL_SECONDS,
            "array_parallelism": LARGEST_ARRAY,
            # Where SLURM knows such keys it refuses one that it does not know, and submitit's own is one.
            "wckey": None,
            **gpus,
            # Another job is asked for where one ends: one that SLURM queued again would be one too many.
            "additional_parameters": {"no_requeue": True, **self.words},
        }


def sbatch_words(text: str) -> dict[str, str | bool]:
    """The KEY=VALUE and KEY of `--slurm`, by their names with underscores; InputError where one is no such word."""
    found: dict[str, str | bool] = {}
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError(f"--slurm must be words KEY=VALUE or KEY, got {text!r}: {error}") from error
    for word in words:
        key, equals, value = word.partition("=")
        # A line of a script is made of each.
        if not re.fullmatch(r"[a-z][a-z0-9-]*", key) or not word.isprintable() or (equals and not value):
            raise InputError(f"--slurm must be words KEY=VALUE or KEY, as sbatch has them behind --, got {word!r}")
        name = key.replace("-", "_")
        if name in OURS:
            raise InputError(f"--slurm must leave {key} to mmtune, got {word!r}")
        found[name] = value if equals else True
    return found


def require_slurm() -> None:
    """InputError where jobs cannot be asked for from here."""
    if importlib.util.find_spec("submitit") is None:
        raise InputError("--pool slurm needs submitit, which is not installed: pip install 'mmtune[slurm]'")
    missing = [name for name in ("sbatch", "srun", "scancel") if shutil.which(name) is None]
    if missing:
        raise InputError(f"--pool slurm needs SLURM's {', '.join(missing)}, which this machine has not: run it on one "
            "from which jobs are submitted")  # fmt: skip


def slurm_executor(folder: Path) -> Any:
    """What submits to SLURM. folder: of scripts and logs, which every node sees."""
    from submitit.slurm.slurm import SlurmExecutor

    return SlurmExecutor(folder)


def submit(executor: Any, parameters: Mapping[str, Any], work: Sequence[Any], jobs: int) -> list[Any]:
    """Ask for so many jobs that call a function, `work[0]`, with the rest of `work`; InputError where SLURM refuses."""
    from submitit.core.utils import FailedJobError, FailedSubmissionError
    from submitit.helpers import clean_env

    # A worker knows neither stores nor databases.
    private = [name for name in os.environ if name.startswith("MLFLOW_") or name == "PGPASSWORD"]
    executor.update_parameters(**parameters)
    made: list[Any] = []
    # The message of a refusal is printed by submitit too.
    with undisturbed(), clean_env(extra_names=private), redirect_stderr(io.StringIO()):
        try:
            while len(made) < jobs:
                with executor.batch():
                    own = [executor.submit(*work) for _ in range(min(jobs - len(made), LARGEST_ARRAY))]
                made += own
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            cancel(job.job_id for job in made)
            lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in str(error).splitlines()]
            raise InputError(f"sbatch refuses: {'; '.join(line.strip() for line in lines if line.strip())}") from error
    return made


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep from programs that are started what asks this process to stop: Ctrl-C reaches them too."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def how_ended(job: Any, mode: str) -> str:
    """How a job has ended, in SLURM's word, "" where it has not. mode: how eagerly submitit asks SLURM."""
    state = str(job.watcher.get_state(job.job_id, mode=mode)).partition(" ")[0].upper()
    if state not in UNDECIDED:
        return state
    # Where SLURM keeps no accounts, this is all there is to see.
    return "FAILED" if job.paths.result_pickle.exists() else ""


def last_line(job: Any) -> str:
    """The last line that a job which came to nothing has left in its log, "" where there is none."""
    with suppress(OSError):
        lines = job.paths.stderr.read_text(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip() and not NOISE.search(line)), "")
    return ""


def cancel(jobs: Iterable[str]) -> None:
    """End jobs, also those that wait; one that has ended is no fault."""
    known = sorted(set(jobs))
    if known:
        with undisturbed(), suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(["scancel", *known], capture_output=True, timeout=CANCEL_SECONDS)


@contextmanager
def own_folder(store: Path) -> Iterator[Path]:
    """A folder of this command's below the store, for this user alone; what killed ones have left there is removed,
    and their jobs with it."""
    above, locks = make_folder(store / "slurm"), store / "locks"
    for left in above.iterdir():
        # Another command's is its own.
        with suppress(InputError, OSError), locked(locks / f"slurm-{left.name}", "taken"):
            if left.lstat().st_uid == os.getuid():
                cancel(path.name.partition("_")[0] for path in left.glob("*_submission.sh"))
                remove(left)
                (locks / f"slurm-{left.name}").unlink()
    name = secrets.token_hex(8)
    with locked(locks / f"slurm-{name}", "taken"):
        folder = above / name
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            remove(folder)
            (locks / f"slurm-{name}").unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Remove a folder; what a network file system keeps open until a job is gone, the next command removes."""
    shutil.rmtree(folder, ignore_errors=True)


Submit = Callable[[Path], Any]
"""From a folder, an executor of submitit's."""

"""A side in a process of its own, watched from outside: its time, its memory, and what it left in its store.

Both sides are read the same way. When an epoch was tracked and when a trial ended is what MLflow's store says; the
store also shows that nothing was left out.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from benchmarks.command import IncompleteError

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_PROC_BIND", "GOMP_CPU_AFFINITY")
"""Settings of the caller's that neither side may inherit: the plain loop has all threads, mmtune sets its own."""
CURVES = [f"{part}_{score}" for part in ("train", "val") for score in ("loss", "accuracy", "macro_f1")]
WEIGHTS = (".safetensors", ".pth")
EVERY = 0.1
REPOSITORY = Path(__file__).parent.parent


@dataclass(frozen=True, kw_only=True)
class Watched:
    """A process that has ended: seconds of wall and CPU time with its children, peak bytes of all together.

    others: the share of the machine that others used meanwhile. The plain loop's threads wait for each other at every
    layer, so it suffers from others far more than one-thread workers do: a ratio is worth something without them only.
    """

    started: float
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    others: float
    code: int


def measure_side(side: str, case: Case, data: Path, device: str, workers: int | None = None) -> dict[str, Any]:
    """Run a side from nothing to its end; raises IncompleteError where it failed or left anything out."""
    with tempfile.TemporaryDirectory(prefix="mmtune-bench-") as temporary:
        root, output = Path(temporary) / "store", Path(temporary) / "output"
        root.mkdir()
        words = ["--case", json.dumps(case.to_json()), "--data", str(data), "--root", str(root), "--device", device]
        words += [] if workers is None else ["--workers", str(workers)]
        watched = watch([sys.executable, "-m", "benchmarks.side", side, *words], output)
        said = output.read_text(errors="replace").splitlines()
        if watched.code != 0 or not said:
            raise IncompleteError(f"{side} of {case.study} ended with code {watched.code}: " + "\n".join(said[-20:]))
        return {
            "seconds": watched.seconds,
            "cpu_seconds": watched.cpu_seconds,
            "peak_bytes": watched.peak_bytes,
            "others": watched.others,
            "trials_per_hour": 3600 * case.trials / watched.seconds,
            **read_store(root, case, watched.started),
            **json.loads(said[-1]),
        }


def watch(command: list[str], output: Path) -> Watched:
    """Run a command with all threads to itself, its words into `output`, and see what it takes."""
    environment = {name: value for name, value in os.environ.items() if name not in THREADS}
    started, before, peak, busy = time.time(), time.perf_counter(), 0, busy_seconds()
    ticks: dict[int, int] = {}
    with output.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=REPOSITORY, env=environment)
    try:
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            there = list(tree(process.pid))
            peak = max(peak, sum(map(resident, there)))
            ticks |= {own: spent for own in there if (spent := statistics_of(own)[0])}
            time.sleep(EVERY)
    except BaseException:
        process.kill()
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    # Workers are children of a process that nobody waits for, so that they are in nobody's own account.
    counted = sum(ticks.values()) / os.sysconf("SC_CLK_TCK")
    seconds, own = time.perf_counter() - before, max(used.ru_utime + used.ru_stime, counted)
    return Watched(
        started=started,
        seconds=seconds,
        cpu_seconds=own,
        peak_bytes=peak,
        others=max(0.0, busy_seconds() - busy - own) / (seconds * (os.cpu_count() or 1)),
        code=process.returncode,
    )


def busy_seconds() -> float:
    """Seconds that the machine's cores have worked since it started, for whomever, or were taken from it; 0 unknown."""
    line = content(Path("/proc/stat")).partition("\n")[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = (int(ticks) for ticks in line[:8] or ["0"] * 8)
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> Iterator[int]:
    """A process and all that come from it; nothing where the system has no /proc."""
    yield pid
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in content(listed).split():
            yield from tree(int(child))


def statistics_of(pid: int) -> tuple[int, str]:
    """The ticks that a process has used itself, and when it began; "" where it is gone."""
    fields = content(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12]), fields[19]) if fields else (0, "")


def resident(pid: int) -> int:
    """Bytes of memory that a process has, those included that it shares with others."""
    pages = content(Path(f"/proc/{pid}/statm")).split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if pages else 0


def content(path: Path) -> str:
    """The text of a file of /proc, "" where its process has just gone."""
    try:
        return path.read_text()
    except OSError:
        return ""


def read_store(root: Path, case: Case, started: float) -> dict[str, float]:
    """When the first epoch and the first trial were there, in seconds, and epochs a second from then on.

    Raises IncompleteError unless every trial has ended with all of its curves and a model.
    """
    asked = ",".join("?" * len(CURVES))
    with closing(sqlite3.connect(root / "mlflow.db")) as store:
        points = store.execute(f"SELECT run_uuid, key, step, timestamp FROM metrics WHERE key IN ({asked})", CURVES)
        curves = {(run, key, step): stamp for run, key, step, stamp in points}
        ends = dict(store.execute("SELECT run_uuid, end_time FROM runs WHERE status = 'FINISHED'"))
    runs = {run for run, _, _ in curves}
    models = sum(path.suffix in WEIGHTS for path in root.rglob("*"))
    require("trials that ended", len(runs & set(ends)), case.trials)
    require("points of its curves", len(curves), case.trials * case.epochs * len(CURVES))
    require("models at least", min(models, case.trials), case.trials)
    stamps = sorted({(run, step): stamp / 1000 for (run, _, step), stamp in curves.items()}.values())
    return {
        "first_epoch_seconds": stamps[0] - started,
        "first_trial_seconds": min(ends[run] for run in runs) / 1000 - started,
        "epochs_per_second": (len(stamps) - 1) / max(stamps[-1] - stamps[0], 1e-3),
    }


def require(what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise IncompleteError(f"a side must leave {wanted} {what} in its store, found {found}")

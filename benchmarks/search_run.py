"""A side of a search in a process group of its own: watched to its end, or killed on the way, and what it has left."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.command import IncompleteError
from benchmarks.measure import REPOSITORY, THREADS, busy_seconds, content, resident, statistics_of, tree
from benchmarks.rivals import ours
from benchmarks.rivals.asked import COMPLETE, PRUNED, RUNNING, SCORE, Asked, left
from benchmarks.rivals.training import best_trial, evaluate, read_journal, saved
from benchmarks.search_table import improvements
from mmtune.train.checkpoint import load_moment
from mmtune.train.staging import CHECKPOINT, EPOCHS, read_epochs, read_result

EVERY = 0.25
ENDED = (COMPLETE, PRUNED)


@dataclass(kw_only=True)
class Watch:
    """A process and all that come from it, by id: when each began and what it has used, in the system's ticks.

    peak_bytes: the most memory of all together, what several share divided between them.
    """

    pid: int
    began: dict[int, str] = field(default_factory=dict)
    used: dict[int, int] = field(default_factory=dict)
    peak_bytes: int = 0

    def look(self) -> None:
        """See what is there now."""
        there = list(tree(self.pid))
        for pid in there:
            ticks, began = statistics_of(pid)
            if began:
                self.began[pid], self.used[pid] = began, ticks
        self.peak_bytes = max(self.peak_bytes, sum(map(proportional, there)))

    def kill(self) -> None:
        """End all of them at once, those that left the process group too."""
        self.look()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        for pid, began in self.began.items():
            # A number may be another process's by now.
            if statistics_of(pid)[1] == began:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    @property
    def cpu_seconds(self) -> float:
        return sum(self.used.values()) / os.sysconf("SC_CLK_TCK")


def proportional(pid: int) -> int:
    """Bytes of memory of a process, its share alone of what it shares; all of it where the system does not say."""
    lines = content(Path(f"/proc/{pid}/smaps_rollup")).splitlines()
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")]
    return found[0] if found else resident(pid)


@contextmanager
def running(side: str, asked: Asked) -> Iterator[tuple[subprocess.Popen[bytes], Watch]]:
    """A side's process, its words in a file of its folder; whatever of it is left at the end is killed."""
    environment = {name: value for name, value in os.environ.items() if name not in THREADS}
    command = [sys.executable, "-m", "benchmarks.rivals", side, asked.to_json()]
    with (asked.folder / "output").open("ab") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, cwd=REPOSITORY, env=environment, start_new_session=True
        )
    watch = Watch(pid=process.pid)
    try:
        yield process, watch
    finally:
        watch.kill()
        process.wait()


def whole(side: str, asked: Asked) -> dict[str, Any]:
    """Run a side to its end: seconds, memory, and how much others used the machine; IncompleteError where it fails."""
    before, busy = time.perf_counter(), busy_seconds()
    with running(side, asked) as (process, watch):
        while process.poll() is None:
            watch.look()
            time.sleep(EVERY)
        took, code = time.perf_counter() - before, process.returncode
    if code:
        raise IncompleteError(ended(side, asked, code))
    others = max(0.0, busy_seconds() - busy - watch.cpu_seconds) / (took * (os.cpu_count() or 1))
    told = {"seconds": took, "cpu_seconds": watch.cpu_seconds, "peak_bytes": watch.peak_bytes}
    return {**told, "others": min(1.0, others)}


def ended(side: str, asked: Asked, code: int, when: str = "") -> str:
    """How a side ended that was not to end so, with its last words."""
    said = (asked.folder / "output").read_text(errors="replace").splitlines()
    return f"{side} with seed {asked.seed} ended with code {code}{when}: " + "\n".join(said[-20:])


def killed(side: str, asked: Asked, after: float) -> float:
    """Run a side for so many seconds and kill all of it; the seconds that it had. IncompleteError where it was done."""
    before = time.perf_counter()
    with running(side, asked) as (process, watch):
        while time.perf_counter() - before < after:
            if process.poll() is not None:
                early = f", before it could be killed after {after:.0f} s"
                raise IncompleteError(ended(side, asked, process.returncode, early))
            watch.look()
            time.sleep(EVERY)
        watch.kill()
        process.wait()
        return time.perf_counter() - before


def measured(side: str, asked: Asked) -> dict[str, Any]:
    """Run a side from nothing to its end, and read all that a run is judged by."""
    started = time.time()
    took = whole(side, asked)
    epochs, states = told_epochs(side, asked), told_states(side, asked)
    found = trials(epochs, states, started)
    timeline = improvements((epoch["time"] - started, epoch["score"]) for epoch in epochs)
    return {
        "side": side,
        "asked": without_folders(asked),
        **took,
        "best": timeline[-1][1],
        "held_out": held_out(side, asked),
        "epochs": len(epochs),
        "trials": found,
        "timeline": timeline,
    }


def told_epochs(side: str, asked: Asked) -> list[dict[str, Any]]:
    """Every epoch that a side has trained, in order of time: trial, epoch, time (seconds since 1970) and score."""
    return tracked_epochs(asked.folder) if side == "mmtune" else read_journal(asked.folder)


def told_states(side: str, asked: Asked) -> dict[str, str]:
    """By trial, its state in the tool's own storage."""
    if side == "mmtune":
        return {own["trial"]: own["state"] for own in ours.trials(asked.folder)}
    return left(asked.folder)


def tracked_epochs(root: Path) -> list[dict[str, Any]]:
    """mmtune's epochs, from its store: of equal scores of an epoch the first, the later one being the trial's end."""
    numbers = {own["run"]: own["trial"] for own in ours.trials(root)}
    asked = "SELECT run_uuid, step, MIN(timestamp), value FROM metrics WHERE key = ? GROUP BY run_uuid, step, value"
    with closing(sqlite3.connect(root / ours.STORE / "mlflow.db")) as store:
        points = store.execute(asked, [SCORE]).fetchall()
    found = [
        {"trial": numbers[run], "epoch": step, "time": stamp / 1000, "score": value}
        for run, step, stamp, value in points
        if run in numbers
    ]
    return sorted(found, key=lambda epoch: epoch["time"])


def trials(epochs: list[dict[str, Any]], states: Mapping[str, str], started: float) -> list[dict[str, Any]]:
    """Of every trial its state, how many epochs it trained, its best score and when its last epoch ended."""
    found: dict[str, list[dict[str, Any]]] = {}
    for epoch in epochs:
        found.setdefault(epoch["trial"], []).append(epoch)
    return [
        {
            "trial": trial,
            "state": states.get(trial, RUNNING),
            "epochs": len(own),
            "best": max(epoch["score"] for epoch in own),
            "end": own[-1]["time"] - started,
        }
        for trial, own in found.items()
    ]


def held_out(side: str, asked: Asked) -> float:
    """The macro-F1 on the test partition of the best trial's model, with the weights of its best epoch.

    mmtune's is its best complete one, as `promote` takes it; a rival's the one with the best epoch, stopped or not.
    """
    if side == "mmtune":
        return ours.held_out(asked)
    from benchmarks.rivals import data

    model, _ = saved(asked, best_trial(asked.folder))
    return evaluate(model, data.held_out(asked))[SCORE]


def interrupted(side: str, asked: Asked, full_seconds: float) -> dict[str, Any]:
    """Kill a side half way, start it again as its user would, and see what that cost."""
    after = killed(side, asked, full_seconds / 2)
    before, again = epoch_marks(side, asked), to_repeat(side, asked)
    took = whole(side, asked)
    total = after + took["seconds"]
    every = before | epoch_marks(side, asked)
    states = told_states(side, asked)
    kept = {(own["trial"], own["epoch"]) for own in told_epochs(side, asked) if states.get(own["trial"]) in ENDED}
    return {
        "side": side,
        "asked": without_folders(asked),
        "full_seconds": full_seconds,
        "killed_after": after,
        "seconds": total,
        "cost": total - full_seconds,
        "epochs": len(kept),
        "wasted": len(every) - len(kept) + again,
        "running_own": sum(state == RUNNING for state in states.values()),
        "running_mlflow": running_in_mlflow(side, asked.folder),
    }


def epoch_marks(side: str, asked: Asked) -> set[tuple[int, float]]:
    """Every epoch that was trained as milliseconds and score, those of mmtune's staging too, which no other has."""
    if side != "mmtune":
        return {(round(own["time"] * 1000), own["score"]) for own in read_journal(asked.folder)}
    there = (asked.folder / ours.STORE / "mlflow.db").exists()
    tracked = tracked_epochs(asked.folder) if there else []
    staged = (asked.folder / ours.STORE / "staging").rglob(EPOCHS)
    points = [point for path in staged for point in read_epochs(path.parent)]
    return {(round(own["time"] * 1000), own["score"]) for own in tracked} | {
        (point.time, point.metrics[SCORE]) for point in points if SCORE in point.metrics
    }


def to_repeat(side: str, asked: Asked) -> int:
    """Epochs that mmtune has trained since a training's last checkpoint and will train again without a new mark."""
    if side != "mmtune":
        return 0
    folders = [path.parent for path in (asked.folder / ours.STORE / "staging").rglob(EPOCHS)]
    moments = {folder: load_moment(folder / CHECKPOINT) for folder in folders if read_result(folder) is None}
    return sum(len(read_epochs(own)) - (len(found.story["history"]) if found else 0) for own, found in moments.items())


def running_in_mlflow(side: str, root: Path) -> int:
    """How many runs MLflow still takes for under way."""
    path = (root / ours.STORE if side == "mmtune" else root) / "mlflow.db"
    with closing(sqlite3.connect(path)) as store:
        return int(store.execute("SELECT COUNT(*) FROM runs WHERE status = 'RUNNING'").fetchone()[0])


def without_folders(asked: Asked) -> dict[str, Any]:
    """What was asked for, without what names folders of this machine."""
    return {name: value for name, value in asdict(asked).items() if name not in ("data", "root")}

"""The coordinator with 1 to 256 simulated workers: where it saturates, in SQLite, in PostgreSQL and on a server.

A simulated worker trains nothing: it reports its epochs when they are due, waits for the answer at a rung, and leaves
a trial's files. All else is real: the search, the store, the files. What is measured begins when every worker has
ended its first trial and lasts a given time; workers that wait for the coordinator are not busy.
"""

from __future__ import annotations

import argparse
import heapq
import io
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.command import command, say, whole
from benchmarks.coordinator import EPOCHS, UntrainedPool, leave_files, metrics, score
from benchmarks.machine import describe
from benchmarks.results import keep, result_path, today
from mmtune.data.bundled.sample import sample_folder
from mmtune.data.dataset import Dataset
from mmtune.data.storage.store import load
from mmtune.pool.worker import Epoch, Event, Job, WorkerSpec
from mmtune.study import load_study
from mmtune.study.options import Options
from mmtune.tracking.address import tracking_uri
from mmtune.train.staging import FILES, Point, now_ms
from mmtune.tune.machine import ENDLESS
from mmtune.tune.run import run_study

WORKERS = (1, 8, 64, 256)
# By the begin of MLFLOW_TRACKING_URI, where runs are kept.
STORES = {"sqlite": "SQLite", "postgresql": "PostgreSQL", "http": "a server"}


@dataclass(kw_only=True)
class Window:
    """What pools count from a moment on, for so many seconds."""

    seconds: float
    began: float = 0.0
    began_cpu: float = 0.0
    ended: float = 0.0
    ended_cpu: float = 0.0
    reports: int = 0
    late: list[float] = field(default_factory=list)

    def open(self) -> None:
        """Begin, and forget what was before."""
        self.began, self.began_cpu = time.perf_counter(), time.process_time()
        self.reports, self.late = 0, []

    def over(self) -> bool:
        """Whether it is; the first to be told so closes it."""
        if self.began and not self.ended and time.perf_counter() - self.began >= self.seconds:
            self.ended, self.ended_cpu = time.perf_counter(), time.process_time()
        return bool(self.ended)

    def found(self) -> dict[str, float]:
        """Rates, and by how much events were late."""
        passed = self.ended - self.began
        return {
            "seconds": passed,
            # Ends of trials come in waves, of which a window has now one more, now one less.
            "trials_per_second": self.reports / EPOCHS / passed,
            "reports_per_second": self.reports / passed,
            "late_median": statistics.median(self.late),
            "late_99": statistics.quantiles(self.late, n=100)[-1],
            "coordinator_busy": (self.ended_cpu - self.began_cpu) / passed,
        }


@dataclass(kw_only=True)
class SimulatedPool(UntrainedPool):
    """So many workers, each of which takes `epoch_seconds` for an epoch.

    due: (time, ticket, epoch) of what each one does next; waiting: by ticket, the epoch that waits for an answer.
    pattern: a folder of files as a training leaves them, of which every trial gets a copy that costs nothing.
    """

    epoch_seconds: float
    pattern: Path
    window: Window
    jobs: dict[int, Job] = field(default_factory=dict)
    due: list[tuple[float, int, int]] = field(default_factory=list)
    waiting: dict[int, int] = field(default_factory=dict)

    @property
    def idle(self) -> int:
        return self.count - len(self.jobs)

    def submit(self, job: Job) -> None:
        self.begin()
        self.jobs[job.number] = job
        self._plan(time.perf_counter(), job.number, 1)

    def answer(self, number: int, go_on: bool) -> None:
        epoch = self.waiting.pop(number)
        self._plan(time.perf_counter(), number, epoch if go_on else EPOCHS + 1)

    def _plan(self, begin: float, number: int, epoch: int) -> None:
        """An epoch takes its time from its begin; the end of a trial none."""
        heapq.heappush(self.due, (begin + self.epoch_seconds * (epoch <= EPOCHS), number, epoch))

    def events(self, timeout: float) -> Iterator[Event]:
        now = time.perf_counter()
        if not self.due or self.due[0][0] > now:
            time.sleep(min(self.due[0][0] - now, timeout) if self.due else timeout)
            return
        ready = []
        while self.due and self.due[0][0] <= now:
            ready.append(heapq.heappop(self.due))
        for at, number, epoch in ready:
            self.window.late.append(time.perf_counter() - at)
            yield self._event(at, number, epoch)

    def _event(self, at: float, number: int, epoch: int) -> Event:
        job = self.jobs[number]
        if epoch > EPOCHS:
            return self._end(job)
        self.window.reports += 1
        if epoch in job.rungs:
            self.waiting[number] = epoch + 1
        else:
            # A worker does not wait until its report is heard.
            self._plan(at, number, epoch + 1)
        found = metrics(epoch, score(self.made + 1) * epoch / EPOCHS)
        return Epoch(number=number, point=Point(epoch=epoch, time=now_ms(), metrics=found))

    def _end(self, job: Job) -> Event:
        self.made += 1
        shutil.copytree(self.pattern, job.folder / FILES, copy_function=os.link, dirs_exist_ok=True)
        del self.jobs[job.number]
        if self.made == self.count:
            self.window.open()
        return self.done(job)


def measure(dataset: Dataset, workers: int, seconds: float, trial_seconds: float, root: Path) -> dict[str, float]:
    """`seconds` of a study with so many workers, each of whose trials takes `trial_seconds`."""
    window = Window(seconds=seconds)
    pattern = root.with_name("pattern")
    leave_files(pattern)
    pools: list[SimulatedPool] = []

    def make_pool(spec: WorkerSpec, count: int) -> SimulatedPool:
        made = SimulatedPool(
            spec=spec, count=count, epoch_seconds=trial_seconds / EPOCHS, pattern=pattern, window=window
        )
        pools.append(made)
        return made

    options = Options(sampler="random", trials=ENDLESS, epochs=EPOCHS, workers=workers, device="cpu")
    outcome = run_study(
        load_study("image_cnn"),
        dataset,
        options,
        root,
        Console(file=io.StringIO()),
        stopped=window.over,
        make_pool=make_pool,
    )
    (pool,) = pools
    assert outcome is not None
    found = window.found()
    return {
        "workers": workers,
        "trial_seconds": trial_seconds,
        "offered": workers / trial_seconds,
        **found,
        "workers_busy": found["reports_per_second"] * trial_seconds / EPOCHS / workers,
        "tracking": outcome.tracking_seconds / (window.ended - pool.began),
        "tuning": outcome.tuning_seconds / (window.ended - pool.began),
    }


def table(results: Mapping[str, Any]) -> str:
    """The whole page."""
    head = ["kept in", "workers", "a trial, s", "trials per second", "offered", "reports per second"]
    head += ["workers busy", "an event is late, ms (median / 99 %)", "coordinator's processor", "tracking", "tuning"]
    rows = [head, ["---"] * len(head), *(row(entry) for entry in results.get("scale", {}).values())]
    made = sorted({describe_entry(entry) for entry in results.get("scale", {}).values()})
    lines = ["# The coordinator with simulated workers", "", *(f"- {line}" for line in made), ""]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in rows), ""])


def describe_entry(entry: Mapping[str, Any]) -> str:
    machine = entry["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    where = f"{machine['processor']}, {machine['cores']} cores"
    return f"{entry['date']}: {where}, {versions}, commit {machine['commit'][:12]}"


def row(entry: Mapping[str, Any]) -> list[str]:
    found = entry["found"]
    return [
        *(entry["kept_in"], f"{found['workers']:.0f}", f"{found['trial_seconds']:g}"),
        *(f"{found['trials_per_second']:.2f}", f"{found['offered']:.2f}", f"{found['reports_per_second']:.0f}"),
        f"{found['workers_busy']:.0%}",
        f"{1000 * found['late_median']:.1f} / {1000 * found['late_99']:.0f}",
        *(f"{found[name]:.0%}" for name in ("coordinator_busy", "tracking", "tuning")),
    ]


def run(given: argparse.Namespace) -> None:
    path, dataset = result_path(given.out, "scale"), load(sample_folder())
    kept_in = next(name for begin, name in STORES.items() if tracking_uri(Path("mlruns")).startswith(begin))
    for trial_seconds in given.trial_seconds:
        for workers in given.workers:
            with tempfile.TemporaryDirectory(prefix="mmtune-scale-") as folder:
                found = measure(dataset, workers, given.seconds, trial_seconds, Path(folder) / "mlruns")
            entry = {"date": today(), "machine": describe("cpu"), "kept_in": kept_in, "found": found}
            keep(path, "scale", f"{kept_in} {workers} {trial_seconds:g}", entry, table)
            say(
                f"{kept_in}, {workers} workers, trials of {trial_seconds:g} s: {found['trials_per_second']:.2f} of "
                f"{found['offered']:.2f} trials per second, workers {found['workers_busy']:.0%} busy"
            )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=whole, nargs="+", default=list(WORKERS))
    parser.add_argument("--trial-seconds", type=float, nargs="+", default=[20.0, 4.0])
    parser.add_argument("--seconds", type=float, default=40.0, help="of each measurement")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    command(lambda: run(arguments()))

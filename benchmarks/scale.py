"""The coordinator with 1 to 256 simulated workers: where it saturates, with journal files and with PostgreSQL.

A simulated worker trains nothing: it reports its epochs when they are due, waits for the answer at a rung, and leaves
a trial's files. All else is real: the search, the store, the files. A worker is late by as much as its coordinator
keeps it waiting, and what share of their time workers wait is what saturation costs.
"""

from __future__ import annotations

import argparse
import heapq
import io
import os
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
from mmtune.data.bundled import sample_folder
from mmtune.data.dataset import Dataset
from mmtune.data.store import load
from mmtune.plan import Options
from mmtune.run import SEARCHES, run_study
from mmtune.study import load_study
from mmtune.worker import Epoch, Event, Job, WorkerSpec

WORKERS = (1, 8, 64, 256)


@dataclass(kw_only=True)
class SimulatedPool(UntrainedPool):
    """So many workers, each of which takes `epoch_seconds` for an epoch.

    due: (time, ticket, epoch) of what each one does next. late: by how many seconds each event was heard.
    """

    epoch_seconds: float
    jobs: dict[int, Job] = field(default_factory=dict)
    due: list[tuple[float, int, int]] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    busy_seconds: float = 0.0

    @property
    def idle(self) -> int:
        return self.count - len(self.jobs)

    def submit(self, job: Job) -> None:
        self.begin()
        self.jobs[job.number] = job
        self._plan(job.number, 1)

    def answer(self, number: int, go_on: bool) -> None:
        (epoch,) = (epoch for _, ticket, epoch in self.due if ticket == -1 - number)
        self.due = [entry for entry in self.due if entry[1] != -1 - number]
        heapq.heapify(self.due)
        self._plan(number, epoch if go_on else EPOCHS + 1)

    def _plan(self, number: int, epoch: int) -> None:
        heapq.heappush(self.due, (time.perf_counter() + self.epoch_seconds * (epoch <= EPOCHS), number, epoch))

    def events(self, timeout: float) -> Iterator[Event]:
        now = time.perf_counter()
        ready = [entry for entry in self.due if entry[0] <= now and entry[1] >= 0]
        if not ready:
            following = min((at for at, number, _ in self.due if number >= 0), default=now + timeout)
            time.sleep(max(0.0, min(following - now, timeout)))
            return
        self.due = [entry for entry in self.due if entry[0] > now or entry[1] < 0]
        heapq.heapify(self.due)
        for at, number, epoch in sorted(ready):
            self.late.append(time.perf_counter() - at)
            yield self._event(number, epoch)

    def _event(self, number: int, epoch: int) -> Event:
        job = self.jobs[number]
        if epoch > EPOCHS:
            self.made += 1
            leave_files(job.folder)
            del self.jobs[number]
            return self.done(number)
        self.busy_seconds += self.epoch_seconds
        if epoch in job.rungs:
            # A worker that waits for an answer is kept under another number.
            heapq.heappush(self.due, (float("inf"), -1 - number, epoch + 1))
        else:
            self._plan(number, epoch + 1)
        return Epoch(number=number, epoch=epoch, metrics=metrics(epoch, score(self.made + 1) * epoch / EPOCHS))


def measure(dataset: Dataset, workers: int, seconds: float, trial_seconds: float, root: Path) -> dict[str, float]:
    """About `seconds` of a study with so many workers, each of whose trials takes `trial_seconds`."""
    pools: list[SimulatedPool] = []

    def make_pool(spec: WorkerSpec, count: int) -> SimulatedPool:
        pools.append(SimulatedPool(spec=spec, count=count, epoch_seconds=trial_seconds / EPOCHS))
        return pools[-1]

    trials = max(workers, int(workers * seconds / trial_seconds))
    options = Options(sampler="random", trials=trials, epochs=EPOCHS, workers=workers, device="cpu")
    outcome = run_study(
        load_study("image_cnn"), dataset, options, root, Console(file=io.StringIO()), make_pool=make_pool
    )
    (pool,) = pools
    passed, cpu = time.perf_counter() - pool.began, time.process_time() - pool.began_cpu
    assert outcome is not None
    assert outcome.finished
    assert pool.made == trials
    return {
        "workers": workers,
        "trial_seconds": trial_seconds,
        "trials": trials,
        "seconds": passed,
        "trials_per_second": trials / passed,
        "offered": workers / trial_seconds,
        "reports_per_second": trials * EPOCHS / passed,
        "workers_busy": pool.busy_seconds / (workers * passed),
        "late_median": statistics.median(pool.late),
        "late_99": statistics.quantiles(pool.late, n=100)[-1],
        "coordinator_busy": cpu / passed,
        "tracking": outcome.tracking_seconds / passed,
        "tuning": outcome.tuning_seconds / passed,
    }


def table(results: Mapping[str, Any]) -> str:
    """The whole page."""
    head = ["searches in", "workers", "a trial, s", "trials", "trials per second", "offered", "reports per second"]
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
        *(entry["searches"], f"{found['workers']:.0f}", f"{found['trial_seconds']:g}", f"{found['trials']:.0f}"),
        *(f"{found['trials_per_second']:.2f}", f"{found['offered']:.2f}", f"{found['reports_per_second']:.0f}"),
        f"{found['workers_busy']:.0%}",
        f"{1000 * found['late_median']:.1f} / {1000 * found['late_99']:.0f}",
        *(f"{found[name]:.0%}" for name in ("coordinator_busy", "tracking", "tuning")),
    ]


def run(given: argparse.Namespace) -> None:
    path, dataset = result_path(given.out, "scale"), load(sample_folder())
    searches = "PostgreSQL" if os.environ.get(SEARCHES) else "journal"
    for trial_seconds in given.trial_seconds:
        for workers in given.workers:
            with tempfile.TemporaryDirectory(prefix="mmtune-scale-") as folder:
                found = measure(dataset, workers, given.seconds, trial_seconds, Path(folder) / "mlruns")
            entry = {"date": today(), "machine": describe("cpu"), "searches": searches, "found": found}
            keep(path, "scale", f"{searches} {workers} {trial_seconds:g}", entry, table)
            say(
                f"{searches}, {workers} workers, trials of {trial_seconds:g} s: {found['trials_per_second']:.2f} of "
                f"{found['offered']:.2f} trials per second, workers {found['workers_busy']:.0%} busy"
            )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.scale", description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=whole, nargs="+", default=list(WORKERS))
    parser.add_argument("--trial-seconds", type=float, nargs="+", default=[20.0, 4.0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement, about")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    command(lambda: run(arguments()))

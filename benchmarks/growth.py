"""What a trial costs the coordinator once its study has many: by sampler, and the seconds until such a study goes on.

A real search and a real store, and a pool whose work costs nothing (benchmarks/coordinator.py). What Optuna's samplers
take for a draw is also measured alone, with so many complete trials in memory.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from benchmarks.command import command, say, whole
from benchmarks.coordinator import EPOCHS, InstantPool
from benchmarks.machine import describe
from benchmarks.results import keep, result_path, today
from benchmarks.scale import describe_entry
from mmtune.base.fields import flatten
from mmtune.data.bundled.sample import sample_folder
from mmtune.data.dataset import Dataset
from mmtune.data.storage.store import load
from mmtune.pool.worker import Event, Job, WorkerSpec
from mmtune.study import load_study
from mmtune.study.options import Options
from mmtune.study.space import sample
from mmtune.tune.run import run_study
from mmtune.tune.search import make_sampler

MARKS = (100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)


@dataclass(kw_only=True)
class TimedPool(InstantPool):
    """Notes when it had made so many trials. passed: seconds since the first job, by number of trials."""

    passed: dict[int, float] = field(default_factory=dict)

    def submit(self, job: Job) -> None:
        super().submit(job)
        if self.made in MARKS or self.made % 100 == 0:
            self.passed.setdefault(self.made, time.perf_counter() - self.began)

    def events(self, timeout: float) -> Iterator[Event]:
        yield from super().events(timeout)
        self.passed[self.made] = time.perf_counter() - self.began


def measure(dataset: Dataset, sampler: str, trials: int, root: Path) -> dict[str, Any]:
    """By number of trials, milliseconds that one took of the last tenth before it; seconds until the study goes on."""
    pools: list[TimedPool] = []

    def make_pool(spec: WorkerSpec, count: int) -> TimedPool:
        pools.append(TimedPool(spec=spec, count=count))
        return pools[-1]

    options = Options(sampler=sampler, trials=trials, epochs=EPOCHS, workers=2, device="cpu")
    study, silent = load_study("image_cnn"), Console(file=io.StringIO())
    outcome = run_study(study, dataset, options, root, silent, make_pool=make_pool)
    assert outcome is not None
    assert outcome.finished
    (pool,) = pools
    began = time.perf_counter()
    run_study(study, dataset, options, root, silent, make_pool=make_pool)
    again = time.perf_counter() - began
    mib = (root / "mlflow.db").stat().st_size / 2**20
    return {"milliseconds": dict(slopes(pool.passed, trials)), "again_seconds": again, "mib": mib}


def measure_draw(sampler: str, trials: int) -> float:
    """Milliseconds of a draw from the study's space after so many complete trials, the fastest of five."""
    study, base = load_study("image_cnn"), flatten(load_study("image_cnn").base)
    search, rng = optuna.create_study(direction="maximize", sampler=make_sampler("random", 0)), random.Random(0)
    for _ in range(trials):
        trial = search.ask()
        sample(study.space, base, trial)
        search.tell(trial, rng.random())
    search.sampler = make_sampler(sampler, 1)
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        sample(study.space, base, search.ask())
        taken.append(1000 * (time.perf_counter() - began))
    return min(taken)


def slopes(passed: Mapping[int, float], trials: int) -> Iterator[tuple[int, float]]:
    """Of each mark, milliseconds a trial, over the tenth before it."""
    for mark in (mark for mark in MARKS if mark <= trials):
        first = max(made for made in passed if made <= 0.9 * mark)
        last = min(made for made in passed if made >= mark)
        yield mark, 1000 * (passed[last] - passed[first]) / (last - first)


def table(results: Mapping[str, Any]) -> str:
    """The whole page."""
    entries = results.get("growth", {}).values()
    marks = sorted({int(mark) for entry in entries for mark in entry["found"]["milliseconds"]})
    head = ["sampler", *(f"{mark:,} trials" for mark in marks), "goes on after, s", "store, MiB"]
    lines = ["# What a trial costs the coordinator, in milliseconds, once there are many", ""]
    lines += [f"- {line}" for line in sorted({describe_entry(entry) for entry in entries})]
    rows = [head, ["---"] * len(head), *(row(entry, marks) for entry in entries)]
    draws = results.get("draws", {}).values()
    told = [f"- {d['sampler']} takes {d['milliseconds']:.1f} ms for a draw after {d['trials']:,} trials" for d in draws]
    return "\n".join([*lines, "", *(f"| {' | '.join(cells)} |" for cells in rows), "", *told, ""])


def row(entry: Mapping[str, Any], marks: list[int]) -> list[str]:
    found = entry["found"]
    costs = {int(mark): f"{value:.1f}" for mark, value in found["milliseconds"].items()}
    end = [f"{found['again_seconds']:.1f}", f"{found['mib']:.0f}"]
    return [entry["sampler"], *(costs.get(mark, "") for mark in marks), *end]


def run(given: argparse.Namespace) -> None:
    path, dataset = result_path(given.out, "growth"), load(sample_folder())
    for named in given.samplers:
        sampler, _, trials = named.partition("=")
        with tempfile.TemporaryDirectory(prefix="mmtune-growth-", dir=os.environ.get("TMPDIR")) as folder:
            found = measure(dataset, sampler, int(trials or given.trials), Path(folder) / "mlruns")
        entry = {"date": today(), "machine": describe("cpu"), "sampler": sampler, "found": found}
        keep(path, "growth", sampler, entry, table)
        costs = ", ".join(f"{mark:,}: {value:.1f} ms" for mark, value in found["milliseconds"].items())
        say(f"{sampler}: a trial costs at {costs}; goes on after {found['again_seconds']:.1f} s")

    for sampler in given.draw:
        for trials in given.after:
            cost = measure_draw(sampler, trials)
            entry = {"date": today(), "sampler": sampler, "trials": trials, "milliseconds": cost}
            keep(path, "draws", f"{sampler} {trials}", entry, table)
            say(f"{sampler} takes {cost:.1f} ms for a draw after {trials:,} trials")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.growth", description=__doc__.splitlines()[0])
    parser.add_argument("--samplers", nargs="*", default=["random", "tpe"], help="perhaps each with its own =trials")
    parser.add_argument("--trials", type=whole, default=10_000)
    parser.add_argument("--draw", nargs="*", default=["tpe"], help="samplers whose draws are measured alone")
    parser.add_argument("--after", type=whole, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    command(lambda: run(arguments()))

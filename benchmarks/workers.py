"""Two workers against one on the same study, in turn, and how long a worker takes from its start to being ready."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.cases import CPU, data_set
from benchmarks.command import command, whole
from benchmarks.machine import describe
from benchmarks.measure import measure_side
from benchmarks.results import keep, result_path, today
from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.pool.local import LocalPool
from mmtune.pool.worker import Ready, WorkerSpec
from mmtune.study.options import Options
from mmtune.tune.plan import make_splits


def start_seconds(dataset: Dataset, device: str, times: int) -> list[float]:
    """From asking for a worker to its being ready with the data, one after the other."""
    spec = WorkerSpec(data=dataset.folder, splits=make_splits(dataset, Options()), device=device)

    def once() -> float:
        before = time.perf_counter()
        with LocalPool(spec, 1) as pool:
            while not any(isinstance(event, Ready) for event in pool.events(timeout=0.05)):
                pass
            return time.perf_counter() - before

    return [once() for _ in range(times)]


def compare(given: argparse.Namespace, dataset: Dataset) -> dict[str, list[dict[str, Any]]]:
    """The study with one worker and with several, in turn, `rounds` times each."""
    case = asked(given)
    runs: dict[str, list[dict[str, Any]]] = {"1": [], str(given.workers): []}
    for _ in range(given.rounds):
        for count, own in runs.items():
            own.append(measure_side("mmtune", case, dataset.folder, given.device, int(count)))
            last = own[-1]
            disturbed = f", others used {last['others']:.0%} of the machine" if last["others"] > 0.05 else ""
            print(f"{count} at work: {last['trials_per_hour']:.0f} trials per hour{disturbed}", flush=True)
    return runs


def asked(given: argparse.Namespace) -> Any:
    """The case with whatever of it was given otherwise."""
    if given.study not in CPU:
        raise InputError(f"--study must be one of {', '.join(CPU)}, got {given.study!r}")
    other = {name: getattr(given, name) for name in ("trials", "epochs", "rows")}
    return replace(CPU[given.study], **{name: value for name, value in other.items() if value is not None})


def table(results: Mapping[str, Any]) -> str:
    """The whole page."""
    head = ["study", "trials x epochs", "rows", "workers", "trials per hour", "epochs per second", "ratio"]
    head += ["a worker's start, s", "processor", "date", "commit"]
    rows = [head, ["---"] * len(head), *(row(entry) for entry in results.get("workers", {}).values())]
    return "\n".join(["# Several workers against one", "", *(f"| {' | '.join(cells)} |" for cells in rows), ""])


def row(entry: Mapping[str, Any]) -> list[str]:
    runs, case, machine = entry["runs"], entry["case"], entry["machine"]

    def both(name: str, form: str) -> str:
        return " / ".join(form.format(statistics.median(run[name] for run in own)) for own in runs.values())

    return [
        *(f"`{case['study']}`", f"{case['trials']} x {case['epochs']}", f"{case['rows']:,}", " / ".join(runs)),
        *(both("trials_per_hour", "{:,.0f}"), both("epochs_per_second", "{:.2f}"), f"{entry['ratio']:.2f}"),
        f"{statistics.median(entry['start_seconds']):.2f}",
        *(f"{machine['processor']}, {machine['cores']} cores", entry["date"], machine["commit"][:12]),
    ]


def run(given: argparse.Namespace) -> None:
    case, path = asked(given), result_path(given.out, "workers")
    with data_set(given.data, case.rows) as dataset:
        starts = start_seconds(dataset, given.device, 3)
        print(f"a worker is ready after {statistics.median(starts):.2f} s", flush=True)
        runs = compare(given, dataset)
        speeds = [statistics.median(one["trials_per_hour"] for one in own) for own in runs.values()]
        entry = {
            **{"date": today(), "machine": describe(given.device), "data": dataset.name, "case": case.to_json()},
            **{"runs": runs, "ratio": speeds[1] / speeds[0], "start_seconds": starts},
        }
    keep(path, "workers", given.study, entry, table)
    print(f"{given.study}: {given.workers} workers do {entry['ratio']:.2f} times what one does")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.workers", description=__doc__)
    parser.add_argument("--study", default="audio_rnn")
    parser.add_argument("--workers", type=whole, default=min(os.cpu_count() or 2, 2), help="to hold against one")
    parser.add_argument("--rounds", type=whole, default=1)
    parser.add_argument("--data", type=Path, help="a data set's folder; the bundled sample if not given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    for name in ("trials", "epochs", "rows"):
        parser.add_argument(f"--{name}", type=whole, help="in place of the study's own number")
    given = parser.parse_args()
    if given.workers < 2:
        parser.error("--workers must be 2 or more, to be held against one")
    return given


def main() -> None:
    command(lambda: run(arguments()))


if __name__ == "__main__":
    main()

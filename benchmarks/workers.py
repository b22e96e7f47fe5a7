"""Several workers against one on the same study, in turn, and how long a worker takes from its start to being ready.

With `--plain` the plain loop's epochs per second stand beside them, those of one trial of so many epochs: on a GPU its
whole study would take many times longer than all the rest.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.cases import CPU, GPU, Case, data_set
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
    splits = make_splits(dataset, Options())
    spec = WorkerSpec(data=dataset.folder, splits=splits, device=device, classes=len(dataset.classes))

    def once() -> float:
        before = time.perf_counter()
        with LocalPool(spec, 1) as pool:
            while not any(isinstance(event, Ready) for event in pool.events(timeout=0.05)):
                pass
            return time.perf_counter() - before

    return [once() for _ in range(times)]


def compare(given: argparse.Namespace, dataset: Dataset) -> dict[str, list[dict[str, Any]]]:
    """The study with each number of workers, in turn, `rounds` times each."""
    case = asked(given)
    runs: dict[str, list[dict[str, Any]]] = {str(count): [] for count in given.workers}
    for _ in range(given.rounds):
        for count, own in runs.items():
            own.append(measure_side("mmtune", case, dataset.folder, given.device, int(count)))
            last = own[-1]
            disturbed = f", others used {last['others']:.0%} of the machine" if last["others"] > 0.05 else ""
            said = f"{last['trials_per_hour']:.0f} trials per hour, {last['epochs_per_second']:.2f} epochs per second"
            print(f"{count} at work: {said}{disturbed}", flush=True)
    return runs


def asked(given: argparse.Namespace) -> Case:
    """The case with whatever of it was given otherwise."""
    known = GPU if given.device.startswith("cuda") else CPU
    if given.study not in known:
        raise InputError(f"--study must be one of {', '.join(known)}, got {given.study!r}")
    other = {name: getattr(given, name) for name in ("trials", "epochs", "rows")}
    return replace(known[given.study], **{name: value for name, value in other.items() if value is not None})


def plain_side(given: argparse.Namespace, dataset: Dataset) -> dict[str, Any]:
    """The plain loop's first trial, of as many epochs as asked for; {} where it was not asked for."""
    if not given.plain:
        return {}
    found = measure_side("plain", replace(asked(given), trials=1, epochs=given.plain), dataset.folder, given.device)
    print(f"the plain loop: {found['epochs_per_second']:.2f} epochs per second", flush=True)
    return found


def table(results: Mapping[str, Any]) -> str:
    """The whole page."""
    head = ["study", "trials x epochs", "rows", "workers", "trials per hour", "epochs per second", "ratio"]
    head += ["first epoch, s", "a worker's start, s", "the plain loop's epochs per second", "to the best of them"]
    head += ["machine", "date", "commit"]
    rows = [head, ["---"] * len(head), *(row(entry) for entry in results.get("workers", {}).values())]
    return "\n".join(["# Several workers against one", "", *(f"| {' | '.join(cells)} |" for cells in rows), ""])


def row(entry: Mapping[str, Any]) -> list[str]:
    runs, case, machine = entry["runs"], entry["case"], entry["machine"]
    plain = entry.get("plain", {}).get("epochs_per_second")
    best = max(statistics.median(run["epochs_per_second"] for run in own) for own in runs.values())
    on = machine["device"] if machine["device"] != "cpu" else machine["processor"]

    def both(name: str, form: str) -> str:
        return " / ".join(form.format(statistics.median(run[name] for run in own)) for own in runs.values())

    return [
        *(f"`{case['study']}`", f"{case['trials']} x {case['epochs']}", f"{case['rows']:,}", " / ".join(runs)),
        *(both("trials_per_hour", "{:,.0f}"), both("epochs_per_second", "{:.2f}"), f"{entry['ratio']:.2f}"),
        *(both("first_epoch_seconds", "{:.1f}"), f"{statistics.median(entry['start_seconds']):.2f}"),
        *((f"{plain:.2f}", f"**{best / plain:.1f}**") if plain else ("", "")),
        *(f"{on}, {machine['cores']} cores", entry["date"], machine["commit"][:12]),
    ]


def run(given: argparse.Namespace) -> None:
    case, path = asked(given), result_path(given.out, "workers")
    with data_set(given.data, case.rows) as dataset:
        starts = start_seconds(dataset, given.device, given.starts)
        print(f"a worker is ready after {statistics.median(starts):.2f} s", flush=True)
        plain, runs = plain_side(given, dataset), compare(given, dataset)
        speeds = [statistics.median(one["trials_per_hour"] for one in own) for own in runs.values()]
        entry = {
            **{"date": today(), "machine": describe(given.device), "data": dataset.name, "case": case.to_json()},
            **{"runs": runs, "ratio": speeds[-1] / speeds[0], "start_seconds": starts, "plain": plain},
        }
    keep(path, "workers", given.study, entry, table)
    first, *_, last = [*given.workers, given.workers[-1]]
    print(f"{given.study}: with {last} at work {entry['ratio']:.2f} times what {first} does")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.workers", description=__doc__)
    parser.add_argument("--study", default="audio_rnn")
    parser.add_argument("--workers", type=whole, nargs="+", default=[1, min(os.cpu_count() or 2, 2)])
    parser.add_argument("--plain", type=whole, metavar="EPOCHS", help="2 at least, of the plain loop's one trial")
    parser.add_argument("--starts", type=whole, default=3, help="how often a worker's start is measured")
    parser.add_argument("--rounds", type=whole, default=1)
    parser.add_argument("--data", type=Path, help="a data set's folder; the bundled sample if not given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path)
    for name in ("trials", "epochs", "rows"):
        parser.add_argument(f"--{name}", type=whole, help="in place of the study's own number")
    return parser.parse_args()


def main() -> None:
    command(lambda: run(arguments()))


if __name__ == "__main__":
    main()

"""mmtune against the plain loop, study by study, both sides in turn in fresh processes.

Each study's result is kept as soon as it is there; a run that is broken off is gone on with by naming the studies
that are left, for `--out` keeps what it holds.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import CPU, GPU, Case, data_set
from benchmarks.command import IncompleteError, command, say, whole
from benchmarks.machine import ceiling, describe, trial_flops
from benchmarks.measure import measure_side
from benchmarks.results import keep, result_path, today
from benchmarks.table import table
from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import split
from mmtune.tune.machine import resolve_device

SIDES = ("plain", "mmtune")
IDLE = 0.05


def chosen(given: argparse.Namespace, device: str) -> list[Case]:
    """The cases asked for, with whatever of them was given otherwise; InputError on a name that is none."""
    known = GPU if device.startswith("cuda") else CPU
    names = given.names or list(known)
    for name in names:
        if name not in known:
            raise InputError(f"a benchmark must be one of {', '.join(known)}, got {name!r}")
    other = {name: getattr(given, name) for name in ("trials", "epochs", "rows")}
    return [replace(known[name], **{k: v for k, v in other.items() if v is not None}) for name in names]


def compare(case: Case, dataset: Dataset, device: str, rounds: int, workers: int | None) -> dict[str, Any]:
    """Both sides in turn, `rounds` times each."""
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for n in range(rounds):
        for side in SIDES:
            say(f"{case.study}: {side}, {case.trials} trials of {case.epochs} epochs" + f", round {n + 1}" * (n > 0))
            runs[side].append(measure_side(side, case, dataset.folder, device, workers if side == "mmtune" else None))
            say(f"{case.study}: {side} took {runs[side][-1]['seconds']:.1f} s{disturbance(runs[side][-1]['others'])}")
    return {"runs": runs, "ratio": ratio(runs)}


def disturbance(share: float) -> str:
    """A warning where others were at work on the machine meanwhile."""
    return f"; others used {share:.0%} of the machine meanwhile, so this says little" if share > IDLE else ""


def ratio(runs: dict[str, list[dict[str, Any]]]) -> float:
    """mmtune's trials per hour over the plain loop's, medians of both."""
    plain, ours = (statistics.median(run["trials_per_hour"] for run in runs[side]) for side in SIDES)
    return float(ours / plain)


def conditions(case: Case, dataset: Dataset, device: str, ceilings: dict[str, float]) -> dict[str, Any]:
    """What a result was made with."""
    made, configs = split(dataset.train, "clip_disjoint", 0), case.configs
    rows = {"train": len(made.train), "validation": len(made.validation)}
    return {
        "date": today(),
        "machine": describe(device),
        "ceiling": ceilings,
        "data": dataset.name,
        "case": case.to_json(),
        "rows": rows,
        "batch_sizes": sorted({config.train.batch_size for config in configs}),
        "seed": 0,
        "flops": sum(trial_flops(config, rows["train"], rows["validation"]) for config in configs),
    }


def run(given: argparse.Namespace) -> bool:
    """Measure and keep every case; whether all of them could be measured."""
    device = resolve_device(given.device)
    cases, path = chosen(given, device), result_path(given.out, "cuda" if device.startswith("cuda") else "cpu")
    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    say("the machine's own ceiling")
    ceilings = ceiling(device)
    say(
        f"{ceilings['product_flops'] / 1e9:.0f} GFLOP/s of a product, {ceilings['copy_bytes'] / 1e9:.1f} GB/s of a copy"
    )
    ratios = []
    for case in cases:
        try:
            ratios.append(measure(case, given, device, ceilings, path))
        except IncompleteError as error:
            say(f"error: {error}")
    mean = math.exp(statistics.fmean(map(math.log, ratios))) if ratios else math.nan
    say(f"geometric mean {mean:.2f} over {len(ratios)} of {len(cases)}; {shown(path)}, and .md beside it")
    return len(ratios) == len(cases)


def measure(case: Case, given: argparse.Namespace, device: str, ceilings: dict[str, float], path: Path) -> float:
    """Measure a study, on a GPU also one trial of it alone, keeping each result; the study's ratio."""
    forms = {"single": replace(case, trials=1)} if device.startswith("cuda") else {}
    with data_set(given.data, case.rows) as dataset:
        for section, own in {**forms, "studies": case}.items():
            entry = conditions(own, dataset, device, ceilings)
            entry |= compare(own, dataset, device, given.rounds, given.workers)
            keep(path, section, case.study, entry, table)
            say(f"{case.study}{' (one trial)' * (section == 'single')}: {entry['ratio']:.2f} times the plain loop")
    return float(entry["ratio"])


def shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.bench", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CPU)}; all if none is given")
    parser.add_argument("--data", type=Path, help="a data set's folder; the bundled sample if not given")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--rounds", type=whole, default=1, help="how often each side runs; medians are compared")
    parser.add_argument("--workers", type=whole, help="of mmtune's; as many as it takes by itself if not given")
    parser.add_argument("--out", type=Path, help="the .json that results are put into; a dated one if not given")
    for name in ("trials", "epochs", "rows"):
        parser.add_argument(f"--{name}", type=whole, help="in place of each study's own number")
    return parser.parse_args()


def main() -> None:
    command(lambda: run(arguments()))


if __name__ == "__main__":
    main()

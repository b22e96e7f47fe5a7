"""How much faster one training is on several threads, of the first configuration of each case of `make bench`.

    python -m benchmarks.threads --data data/mnist_fsdd

Each epoch in turn on each number of threads; the best of so many, evaluation included, as a study's epochs are.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import torch

from benchmarks.cases import CPU, data_set
from benchmarks.command import command, say, whole
from benchmarks.machine import describe
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import split
from mmtune.train.batches import Resident
from mmtune.train.device import prepare_torch
from mmtune.train.learner import Learner
from mmtune.train.objective import MACRO_F1
from mmtune.train.recipe import TrialConfig
from mmtune.train.trial import take


def fastest(config: TrialConfig, dataset: Dataset, threads: list[int], rounds: int) -> dict[int, float]:
    """By the number of threads, the seconds of the fastest of `rounds` epochs; a first one is not counted."""
    device = torch.device("cpu")
    rows = Resident(dataset.train, len(dataset.classes), device).rows(config.model.reads)
    parts = split(dataset.train, "clip_disjoint", 0)
    train, validation = take(rows, parts.train), take(rows, parts.validation)
    learner = Learner(config, train, validation, 0, MACRO_F1.first, encoders={})
    took: dict[int, list[float]] = {count: [] for count in threads}
    for _ in range(1 + rounds):
        for count in threads:
            prepare_torch(device, count)
            took[count].append(learner.epoch()["epoch_seconds"])
    return {count: min(seconds[1:]) for count, seconds in took.items()}


def run(given: argparse.Namespace) -> None:
    about = describe("cpu")
    say(f"{about['processor']}, {about['cores']} cores; torch {about['versions']['torch']}")
    say(f"| study | {' | '.join(f'{count} threads, times as fast' for count in given.threads)} |")
    say("|" + "---|" * (1 + len(given.threads)))
    for name in given.study or CPU:
        case = CPU[name]
        with data_set(given.data, min(case.rows, given.rows)) as dataset:
            seconds = fastest(case.configs[0], dataset, [1, *given.threads], given.rounds)
        say(f"| `{name}` | {' | '.join(f'{seconds[1] / seconds[count]:.2f}' for count in given.threads)} |")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.threads", description=__doc__.splitlines()[0])
    parser.add_argument("--study", choices=CPU, action="append", help="may be repeated; all if not given")
    parser.add_argument("--threads", type=whole, nargs="+", default=[os.cpu_count() or 2])
    parser.add_argument("--rounds", type=whole, default=3)
    parser.add_argument("--data", type=Path, help="a data set's folder; the bundled sample if not given")
    parser.add_argument("--rows", type=whole, default=3000, help="of each case at most")
    given = parser.parse_args()
    command(lambda: run(given))


if __name__ == "__main__":
    main()

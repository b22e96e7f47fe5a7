"""How much faster one training is on several threads, of the first configuration of each case of `make bench`.

    python -m benchmarks.threads --data data/mnist_fsdd

Each epoch in turn on each number of threads; the best of so many, evaluation included, as a study's epochs are.
"""

from __future__ import annotations

import argparse
import os

import torch

from benchmarks.cases import CPU, data_set
from benchmarks.command import command, say, whole
from benchmarks.machine import describe
from benchmarks.profile import case_parser, learner_of
from mmtune.data.dataset import Dataset
from mmtune.train.batches import Resident
from mmtune.train.device import prepare_torch
from mmtune.train.recipe import TrialConfig


def fastest(config: TrialConfig, dataset: Dataset, threads: list[int], rounds: int) -> dict[int, float]:
    """By the number of threads, the seconds of the fastest of `rounds` epochs; a first one is not counted."""
    device = torch.device("cpu")
    learner = learner_of(config, Resident(dataset.train, len(dataset.classes), device), dataset)
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
    parser = case_parser("benchmarks.threads", __doc__.splitlines()[0])
    parser.add_argument("--threads", type=whole, nargs="+", default=[os.cpu_count() or 2])
    parser.add_argument("--rounds", type=whole, default=3)
    given = parser.parse_args()
    command(lambda: run(given))


if __name__ == "__main__":
    main()

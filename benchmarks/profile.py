"""Where an epoch's time goes on one thread, as a worker has it: by kind of operation, of the cases of `make bench`.

    python -m benchmarks.profile --data data/mnist_fsdd

Each configuration trains an epoch that warms up, one that is timed and one under torch's profiler. An operation counts
for the innermost operation around it that has a kind, so what our own layers do counts for the layer.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.cases import CPU, data_set
from benchmarks.command import command, say, whole
from benchmarks.machine import describe
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import split
from mmtune.train.batches import Resident
from mmtune.train.device import prepare_torch
from mmtune.train.evaluate import evaluate
from mmtune.train.learner import Learner
from mmtune.train.objective import MACRO_F1
from mmtune.train.recipe import TrialConfig
from mmtune.train.trial import take

KINDS: Mapping[str, tuple[str, ...]] = {
    "optimiser": ("Optimizer.", "_adam"),
    "convolutions": ("convolution",),
    "products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm"),
    "batch norm": ("batch_norm", "_Normalised"),
    "pools": ("pool",),
    "activations": ("tanh", "Tanh", "relu", "threshold_", "PReLU", "clamp_min", "sigmoid"),
    "batches": ("aten::index", "aten::gather"),
    "loss": ("nll_loss", "log_softmax", "cross_entropy"),
}
REST = "the rest"


def kind_of(event: Any) -> str:
    """The kind of a profiled operation, or of the innermost one around it that has any."""
    while event is not None:
        for kind, marks in KINDS.items():
            if any(mark in event.name for mark in marks):
                return kind
        event = event.cpu_parent
    return REST


def shares(events: Iterable[Any]) -> dict[str, float]:
    """By kind, its part of all profiled time."""
    spent: Counter[str] = Counter()
    for event in events:
        spent[kind_of(event)] += event.self_cpu_time_total
    return {kind: spent[kind] / spent.total() for kind in (*KINDS, REST)}


def learner_of(config: TrialConfig, data: Resident, dataset: Dataset) -> Learner:
    """A training of a configuration on the data set's `clip_disjoint` rows, before its first epoch."""
    rows, parts = data.rows(config.model.reads), split(dataset.train, "clip_disjoint", 0)
    train, validation = take(rows, parts.train), take(rows, parts.validation)
    return Learner(config, train, validation, 0, MACRO_F1.first, encoders={})


def measured(config: TrialConfig, data: Resident, dataset: Dataset) -> dict[str, float]:
    """Shares by kind, of evaluation, and the milliseconds of a step, evaluation left out."""
    learner = learner_of(config, data, dataset)
    learner.epoch()
    before = time.perf_counter()
    learner.epoch()
    between = time.perf_counter()
    evaluate(learner.step.evaluated, learner.validation)
    epoch, evaluation = between - before, time.perf_counter() - between
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        learner.epoch()
    steps = len(learner.step.rows) / config.train.batch_size
    return {
        **shares(seen.events() or []),
        "evaluation": evaluation / epoch,
        "ms": 1000 * (epoch - evaluation) / steps,
    }


def lines(found: Mapping[str, list[dict[str, float]]]) -> Iterator[str]:
    """The table; shares are means over a study's configurations."""
    yield f"| study | a step, ms | {' | '.join((*KINDS, REST))} | evaluation, of an epoch | products alone |"
    yield "|" + "---|" * (len(KINDS) + 5)
    for name, own in found.items():
        mean = {key: sum(each[key] for each in own) / len(own) for key in own[0]}
        told = [f"{mean[kind]:.0%}" for kind in (*KINDS, REST)]
        steps = " / ".join(f"{each['ms']:.1f}" for each in own)
        faster = 1 / (mean["convolutions"] + mean["products"])
        yield f"| `{name}` | {steps} | {' | '.join(told)} | {mean['evaluation']:.1%} | {faster:.1f} times as fast |"


def run(given: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    device = torch.device("cpu")
    prepare_torch(device)
    about = describe("cpu")
    say(
        f"{about['processor']}, {torch.backends.cpu.get_cpu_capability()}; torch {about['versions']['torch']}; 1 thread"
    )
    found: dict[str, list[dict[str, float]]] = {}
    for name in given.study or CPU:
        case = CPU[name]
        with data_set(given.data, min(case.rows, given.rows)) as dataset:
            data = Resident(dataset.train, len(dataset.classes), device)
            found[name] = []
            for number, config in enumerate(case.configs, start=1):
                found[name].append(measured(config, data, dataset))
                say(f"{name} {number}/{len(case.configs)}: {found[name][-1]['ms']:.1f} ms a step")
    say("\n" + "\n".join(lines(found)))


def case_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """The options of a script that goes through the cases of a CPU."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--study", choices=CPU, action="append", help="may be repeated; all if not given")
    parser.add_argument("--data", type=Path, help="a data set's folder; the bundled sample if not given")
    parser.add_argument("--rows", type=whole, default=3000, help="of each case at most")
    return parser


def main() -> None:
    given = case_parser("benchmarks.profile", __doc__.splitlines()[0]).parse_args()
    command(lambda: run(given))


if __name__ == "__main__":
    main()

"""Training in bfloat16 against float32, network by network: how fast, and how good over several seeds.

Speed: epochs of the same steps in turn in this process, the least time of each. Quality: the best validation macro-F1
of whole trainings, both precisions with the same seeds, rows and split. bfloat16 is worth choosing where it is at
least 5 % faster and not worse by more than one standard error of the paired difference.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.cases import CPU, data_set
from benchmarks.command import command, say, whole
from benchmarks.machine import describe
from benchmarks.results import keep, result_path, today
from mmtune.base.errors import InputError
from mmtune.data.bundled.sample import sample_folder
from mmtune.data.protocols import split
from mmtune.data.storage.store import load
from mmtune.train.batches import Resident, Rows
from mmtune.train.device import prepare_torch
from mmtune.train.fit import fit
from mmtune.train.learner import prepared, step_of
from mmtune.train.recipe import PRECISIONS, TrialConfig
from mmtune.train.step import DivergenceError, Engine, Step, make_engine
from mmtune.train.trial import take
from mmtune.tune.machine import resolve_device

ENOUGH = 1.05


# As many as it takes to leave chance far behind, where all ten trainings of a network take a minute or less.
EPOCHS = {"audio_rnn": 100, "image_cnn": 12, "dual_cnn_fusion": 6, "multihead_fusion": 5, "xflow_cnn_mlp": 8}


def in_precision(config: TrialConfig, precision: str) -> TrialConfig:
    return replace(config, train=replace(config.train, precision=precision))


def speed(config: TrialConfig, rows: Rows, rounds: int) -> dict[str, list[float]]:
    """Seconds of each epoch on the rows in either precision, in turn; an epoch that warms up is not among them."""
    engines = {precision: ready(in_precision(config, precision), rows) for precision in PRECISIONS}
    seconds: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for _ in range(rounds + 1):
        for precision, (step, engine) in engines.items():
            seconds[precision].append(epoch_seconds(step, engine))
    return {precision: own[1:] for precision, own in seconds.items()}


def ready(config: TrialConfig, rows: Rows) -> tuple[Step, Engine]:
    """A fresh model's step as `fit` makes it, and what runs it."""
    torch.manual_seed(0)
    model = prepared(config.model.build(rows.shapes).to(rows.labels.device), rows)
    step = step_of(config.train, model, rows)
    return step, make_engine(step, config.train.batch_size)


def epoch_seconds(step: Step, engine: Engine) -> float:
    """This thread's time on a CPU, which others at work do not lengthen; on a GPU the time until it is done."""
    device = step.rows.labels.device
    order = torch.randperm(len(step.rows), generator=torch.Generator().manual_seed(0)).to(device)
    step.start_epoch()
    if device.type == "cpu":
        before = time.thread_time()
        engine.epoch(order)
        return time.thread_time() - before
    torch.cuda.synchronize(device)
    before = time.perf_counter()
    engine.epoch(order)
    torch.cuda.synchronize(device)
    return time.perf_counter() - before


def best_score(config: TrialConfig, data: Resident, seed: int) -> float:
    """The best epoch's validation macro-F1, on the split of that seed; 0 where the loss stopped being a number."""
    made = split(data.partition, "clip_disjoint", seed)
    rows = data.rows(config.model.reads)
    try:
        found = fit(config, take(rows, made.train), take(rows, made.validation), seed)
    except DivergenceError:
        return 0.0
    return max(epoch["val_macro_f1"] for epoch in found.history)


def quality(name: str, config: TrialConfig, data: Resident, seeds: int) -> dict[str, list[float]]:
    """Both precisions' scores with each seed."""
    scores: dict[str, list[float]] = {precision: [] for precision in PRECISIONS}
    for seed in range(seeds):
        for precision, own in scores.items():
            own.append(best_score(in_precision(config, precision), data, seed))
        say(f"{name}, seed {seed}: " + ", ".join(f"{own[-1]:.4f} in {key}" for key, own in scores.items()))
    return scores


def verdict(seconds: Mapping[str, Sequence[float]], scores: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """The ratio of least times, means and deviations, the paired difference bfloat16 - float32, and what to choose."""
    differences = [half - full for full, half in zip(*(scores[key] for key in PRECISIONS), strict=True)]
    ratio = min(seconds["float32"]) / min(seconds["bfloat16"])
    difference = statistics.fmean(differences)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    return {
        "ratio": ratio,
        **{f"{key}_mean": statistics.fmean(scores[key]) for key in PRECISIONS},
        **{f"{key}_sd": statistics.stdev(scores[key]) for key in PRECISIONS},
        "difference": difference,
        "standard_error": error,
        "choose": "bfloat16" if ratio >= ENOUGH and difference >= -error else "float32",
    }


def measure(name: str, given: argparse.Namespace, device: str) -> dict[str, Any]:
    """Everything about one network, on no more rows than the data set has: a repeated one would be on both sides."""
    config, epochs = CPU[name].configs[0], given.epochs or EPOCHS[name]
    config = replace(config, train=replace(config.train, epochs=epochs, keep_final=False))
    there = len(load(given.data or sample_folder(), verify=False).train)
    with data_set(given.data, min(given.rows, there)) as dataset:
        data = Resident(dataset.train, len(dataset.classes), torch.device(device))
        made = split(dataset.train, "clip_disjoint", 0)
        seconds = speed(config, take(data.rows(config.model.reads), made.train), given.rounds)
        say(f"{name}: an epoch takes " + ", ".join(f"{min(own):.3f} s in {key}" for key, own in seconds.items()))
        scores = quality(name, config, data, given.seeds)
        entry = {"date": today(), "machine": describe(device), "data": dataset.name, "rows": len(dataset.train)}
    made_with = {"network": name, "epochs": epochs, "seeds": given.seeds, "batch_size": config.train.batch_size}
    return {**entry, **made_with, "seconds": seconds, "scores": scores, "verdict": verdict(seconds, scores)}


def table(results: Mapping[str, Any]) -> str:
    """The whole page."""
    head = ["network", "data", "epochs", "batch", "seeds", "epoch in float32, s", "in bfloat16, s", "**ratio**"]
    head += ["macro-F1, float32", "bfloat16", "difference", "choose", "machine", "date", "commit"]
    rows = [head, ["---"] * len(head), *(row(entry) for entry in results.get("networks", {}).values())]
    lines = ["# Training in bfloat16 against float32", "", *(f"| {' | '.join(cells)} |" for cells in rows), ""]
    return "\n".join([*lines, NOTE])


NOTE = """\
Epoch: the least of several epochs of training, in turn, one thread; thread time on a CPU. Macro-F1: best validation
macro-F1, mean ± standard deviation over the seeds. Difference: bfloat16 - float32 with the same seed, mean ± standard
error. bfloat16 is chosen where it is at least 5 % faster and its mean is worse by no more than that error.
"""


def row(entry: Mapping[str, Any]) -> list[str]:
    said, machine = entry["verdict"], entry["machine"]
    return [
        *(f"`{entry['network']}`", f"{entry['data']}, {entry['rows']:,} rows"),
        *(str(entry[name]) for name in ("epochs", "batch_size", "seeds")),
        *(f"{min(entry['seconds'][key]):.4f}" for key in PRECISIONS),
        f"**{said['ratio']:.2f}**",
        *(f"{said[f'{key}_mean']:.4f} ± {said[f'{key}_sd']:.4f}" for key in PRECISIONS),
        f"{said['difference']:+.4f} ± {said['standard_error']:.4f}",
        said["choose"],
        machine["processor"] if machine["device"] == "cpu" else machine["device"],
        *(entry["date"], machine["commit"][:12]),
    ]


def run(given: argparse.Namespace) -> None:
    for name in given.names:
        if name not in EPOCHS:
            raise InputError(f"a network must be one of {', '.join(EPOCHS)}, got {name!r}")
    device, path = resolve_device(given.device), result_path(given.out, "precision")
    prepare_torch(torch.device(device))
    for name in given.names or EPOCHS:
        entry = measure(name, given, device)
        keep(path, "networks", f"{name} {device}", entry, table)
        said = entry["verdict"]
        say(
            f"{name}: bfloat16 is {said['ratio']:.2f} times as fast, {said['difference']:+.4f} ± "
            f"{said['standard_error']:.4f} in macro-F1: {said['choose']}"
        )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.precision", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(EPOCHS)}; all if none is given")
    parser.add_argument("--data", type=Path, help="a data set's folder; the bundled sample if not given")
    parser.add_argument("--seeds", type=whole, default=5, help="how many, from 0; 2 at least")
    parser.add_argument("--rounds", type=whole, default=7, help="epochs timed in either precision")
    parser.add_argument("--device", default="cpu", help="auto, cpu or cuda")
    parser.add_argument("--out", type=Path, help="the .json that results are put into; a dated one if not given")
    parser.add_argument("--rows", type=whole, default=1500, help="for training and validation together")
    parser.add_argument("--epochs", type=whole, help="in place of each network's own number")
    given = parser.parse_args()
    if given.seeds < 2:
        parser.error("--seeds must be 2 or more: one has no standard error")
    return given


def main() -> None:
    command(lambda: run(arguments()))


if __name__ == "__main__":
    main()

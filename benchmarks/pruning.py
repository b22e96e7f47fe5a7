"""A full search against the same search that stops hopeless trials early, over several seeds.

Both draw from the study's space with the same sampler and seeds, or go through the report's grid. The question is what
the second one's best validation macro-F1 is, and for how many of the first one's epochs: it should come within a
standard deviation of the full search's best, over the seeds, in a third of the epochs. Of a grid it is also in how many
seeds both have the same winner.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from benchmarks.cases import data_set
from benchmarks.command import command, whole
from benchmarks.machine import describe
from benchmarks.results import keep, result_path, today
from mmtune.data.dataset import Dataset
from mmtune.study import load_study, parse_fixed
from mmtune.study.options import Options
from mmtune.tracking import COMPLETE, MlflowTracker
from mmtune.tune.run import run_study

KINDS = ("full", "pruned")
GRID = "grid"


def search(given: argparse.Namespace, dataset: Dataset, seed: int, prune: bool) -> dict[str, float]:
    """One search from nothing: the best score of its complete trials, the epochs it trained, trials it ended early."""
    study = load_study(given.study)
    options = Options(
        seed=seed,
        sampler=given.sampler,
        trials=None if given.sampler == GRID else given.trials,
        epochs=given.epochs,
        prune=prune,
        device=given.device,
        workers=given.workers,
        fixed=parse_fixed(given.fix, study.base),
    )
    with tempfile.TemporaryDirectory(prefix="mmtune-bench-") as folder:
        outcome = run_study(study, dataset, options, Path(folder), Console(quiet=True))
        assert outcome is not None
        tracker = MlflowTracker(Path(folder))
        parent = next(run for run in tracker.studies(given.study) if run.key == outcome.key)
        trials = tracker.trials(parent.run_id)
    complete = {trial.number: trial.metrics[outcome.key.objective.name] for trial in trials if trial.state == COMPLETE}
    return {
        "trials": len({trial.number for trial in trials}),
        "best": max(complete.values()),
        "winner": max(complete, key=lambda number: (complete[number], -number)),
        "epochs": sum(trial.metrics["epochs_trained"] for trial in trials),
        "pruned": len(trials) - len(complete),
    }


def compare(given: argparse.Namespace, dataset: Dataset) -> dict[str, list[dict[str, float]]]:
    """Both searches with each seed, in turn."""
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for seed in range(given.seeds):
        for kind in KINDS:
            found[kind].append(search(given, dataset, seed, kind == "pruned"))
            last = found[kind][-1]
            print(f"seed {seed}, {kind}: best {last['best']:.4f}, {last['epochs']:.0f} epochs", flush=True)
    return found


def verdict(found: Mapping[str, list[dict[str, float]]]) -> dict[str, float]:
    """Means and standard deviations of both bests, their difference, and the share of epochs.

    `behind` is how far the pruned search's mean best is behind, in standard deviations of the full search's best.
    """
    means = {kind: statistics.fmean(one["best"] for one in found[kind]) for kind in KINDS}
    deviations = {kind: statistics.stdev(one["best"] for one in found[kind]) for kind in KINDS}
    epochs = {kind: sum(one["epochs"] for one in found[kind]) for kind in KINDS}
    lost = means["full"] - means["pruned"]
    return {
        **{f"{kind}_mean": means[kind] for kind in KINDS},
        **{f"{kind}_sd": deviations[kind] for kind in KINDS},
        "winners": sum(a["winner"] == b["winner"] for a, b in zip(*(found[kind] for kind in KINDS), strict=True)),
        "behind": lost / deviations["full"] if deviations["full"] > 0 else (0.0 if lost <= 0 else float("inf")),
        "share": epochs["pruned"] / epochs["full"],
    }


def table(results: Mapping[str, Any]) -> str:
    """The whole page."""
    lines = ["# A full search, and one that stops hopeless trials early", ""]
    head = ["study", "sampler", "data", "trials x epochs", "seeds", "best macro-F1, full", "pruned", "behind, in sd"]
    head += ["same winner", "epochs, full", "pruned", "share", "date", "commit"]
    rows = [head, ["---"] * len(head), *(row(entry) for entry in results.get("searches", {}).values())]
    lines += [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([*lines, "", "Best validation macro-F1: mean and standard deviation (sd) over the seeds.", ""])


def row(entry: Mapping[str, Any]) -> list[str]:
    found, said, asked = entry["runs"], entry["verdict"], entry["asked"]
    epochs = {kind: statistics.fmean(one["epochs"] for one in found[kind]) for kind in KINDS}
    return [
        *(
            " ".join([f"`{asked['study']}`", *asked["fix"]]),
            asked["sampler"],
            f"{entry['data']}, {entry['rows']:,} rows",
        ),
        *(f"{asked['trials']} x {asked['epochs']}", str(asked["seeds"])),
        *(f"{said[f'{kind}_mean']:.4f} ± {said[f'{kind}_sd']:.4f}" for kind in KINDS),
        f"{said['behind']:.2f}",
        f"{said['winners']} of {asked['seeds']}" if asked["sampler"] == GRID else "",
        *(f"{epochs[kind]:.0f}" for kind in KINDS),
        *(f"{said['share']:.1%}", entry["date"], entry["machine"]["commit"][:12]),
    ]


def run(given: argparse.Namespace) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = result_path(given.out, "pruning")
    with data_set(given.data, given.rows) as dataset:
        found = compare(given, dataset)
        asked = {name: getattr(given, name) for name in ("study", "sampler", "trials", "epochs", "seeds", "fix")}
        made = {"date": today(), "machine": describe(given.device), "data": dataset.name, "rows": len(dataset.train)}
    if given.sampler == GRID:
        asked["trials"] = found["full"][0]["trials"]
    said = verdict(found)
    entry = {**made, "asked": asked, "runs": found, "verdict": said}
    keep(path, "searches", f"{given.study} {given.sampler} {dataset.name}", entry, table)
    print(
        f"{given.study}, {given.sampler}: {said['share']:.1%} of the epochs, "
        f"{said['behind']:.2f} standard deviations behind the full search's best"
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.pruning", description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="audio_rnn")
    parser.add_argument("--sampler", default="random", choices=["random", "tpe", "gp", "cmaes", GRID])
    parser.add_argument("--fix", action="append", metavar="NAME=VALUE", help="fix a choice; if none is, view=step")
    parser.add_argument("--trials", type=whole, default=27)
    parser.add_argument("--epochs", type=whole, default=27)
    parser.add_argument("--seeds", type=whole, default=5, help="how many, from 0; 2 at least")
    parser.add_argument("--rows", type=whole, default=1500)
    parser.add_argument("--data", type=Path, help="a data set's folder; the bundled sample if not given")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=whole)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.fix is None:
        # A clip as 39 steps takes ten times as long, for the same question.
        given.fix = ["view=step"] if given.study == "audio_rnn" else []
    if given.seeds < 2:
        parser.error("--seeds must be 2 or more: one has no deviation")
    return given


def main() -> None:
    # A hopeless network's embeddings have nothing to cluster, which scikit-learn's workers remark upon.
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    command(lambda: run(arguments()))


if __name__ == "__main__":
    main()

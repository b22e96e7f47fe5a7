"""What a searched recipe is worth: the papers' recipe against it, in searches of the same length over the same rows.

Both search their network's own choices with the same sampler, trials, epochs and seeds: one with Adam at a rate of the
papers' range, the other with the whole recipe, augmentation included. What counts is the score on rows that chose
nothing: the test partition, or with folds every row while it is held out. May be interrupted and goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from benchmarks.cases import resized
from benchmarks.command import command, say, whole
from benchmarks.machine import describe
from benchmarks.results import keep, result_path, today
from mmtune.analysis.statistics import summary
from mmtune.data.dataset import Dataset
from mmtune.data.storage.store import load, save
from mmtune.serve.scoring import score_test
from mmtune.study import load_study, parse_fixed
from mmtune.study.key import StudyKey
from mmtune.study.options import Options
from mmtune.tracking import MlflowTracker, TrialRun
from mmtune.tune.run import run_study

ARMS = {
    "image_cnn": {"papers": ("image_cnn", ()), "searched": ("image_cnn_recipe", ())},
    "latent_fusion": {
        "papers": ("latent_fusion", ("encoders=joint", "embedding=64")),
        "searched": ("latent_fusion_recipe", ()),
    },
}
PROTOCOLS = {"clip_disjoint": 0, "speaker_disjoint": 6}
"""And on how many folds; without folds the test partition is scored."""
TOLD = """Macro-F1 in percent on rows that chose nothing (the test partition, or held-out speakers): mean and deviation
over the seeds, and the paired difference; validation: the best trials of both."""


def cut(folder: Path, rows: int, out: Path) -> Dataset:
    """The data set in `folder` with so many training rows, kept at `out`."""
    if not out.exists():
        whole = load(folder)
        train = resized(whole.train, min(rows, len(whole.train)))
        test = replace(whole.require_test(), banks={name: whole.require_test().banks[name] for name in train.banks})
        forms = {name: whole.forms[name] for name in train.banks}
        save(replace(whole, train=train, test=test, forms=forms), out)
    return load(out)


def search(
    given: argparse.Namespace, dataset: Dataset, arm: tuple[str, tuple[str, ...]], seed: int, protocol: str
) -> dict[str, Any]:
    """The best trial of one search: its score by validation, and on rows that chose nothing."""
    study = load_study(arm[0])
    options = Options(
        seed=seed,
        sampler="tpe",
        trials=given.trials,
        epochs=given.epochs,
        protocol=protocol,
        folds=PROTOCOLS[protocol],
        device=given.device,
        workers=given.workers,
        fixed=parse_fixed(list(arm[1]), study.base),
    )
    outcome = run_study(study, dataset, options, given.store, Console())
    assert outcome is not None
    assert outcome.best is not None, f"all trials of {arm[0]} failed"
    held = score_of(MlflowTracker(given.store), outcome.key, outcome.best, dataset, bool(options.folds))
    values = {path: outcome.best.params[path] for path in outcome.best.params if path.startswith("train.")}
    return {
        "validation": outcome.best.metrics["best_val_macro_f1"],
        "unseen": held,
        "failed": outcome.failed,
        "recipe": values,
    }


def score_of(tracker: MlflowTracker, key: StudyKey, best: TrialRun, dataset: Dataset, folds: bool) -> float:
    """Macro-F1 on the rows that chose nothing."""
    if folds:
        return best.metrics["held_macro_f1"]
    predicted = score_test(tracker, key, best, dataset)
    from sklearn.metrics import f1_score

    return float(f1_score(dataset.require_test().labels, predicted, average="macro"))


def verdict(runs: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Mean and 95 % interval over seeds of either arm's unseen score, and of their paired difference."""
    scores = {arm: [run["unseen"] for run in own] for arm, own in runs.items()}
    difference = [after - before for before, after in zip(scores["papers"], scores["searched"], strict=True)]
    told = {**scores, "difference": difference}
    return {name: vars(summary(values)) for name, values in told.items()}


def table(results: Mapping[str, Any]) -> str:
    """The whole page."""
    head = [
        "network",
        "protocol",
        "rows",
        "trials x epochs",
        "seeds",
        "papers' recipe",
        "searched",
        "difference (95 %)",
        "validation",
        "date",
        "commit",
    ]
    rows = [head, ["---"] * len(head), *(row(entry) for entry in results.get("searches", {}).values())]
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join(["# What a searched recipe is worth", "", *lines, "", TOLD, ""])


def row(entry: Mapping[str, Any]) -> list[str]:
    asked, said, runs = entry["asked"], entry["verdict"], entry["runs"]
    gain = said["difference"]
    best = [100 * sum(run["validation"] for run in own) / len(own) for own in runs.values()]
    return [
        f"`{asked['network']}`",
        f"`{asked['protocol']}`" + (f", {PROTOCOLS[asked['protocol']]} folds" if PROTOCOLS[asked["protocol"]] else ""),
        f"{entry['rows']:,} of {entry['data']}",
        f"{asked['trials']} x {asked['epochs']}",
        str(asked["seeds"]),
        *(f"{100 * said[arm]['mean']:.2f} ± {100 * said[arm]['deviation']:.2f}" for arm in ("papers", "searched")),
        f"{100 * gain['mean']:+.2f} ({100 * gain['low']:+.2f} to {100 * gain['high']:+.2f})",
        " / ".join(f"{own:.2f}" for own in best),
        entry["date"],
        entry["machine"]["commit"][:12],
    ]


def run(given: argparse.Namespace) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = result_path(given.out, "recipes")
    dataset = cut(given.data, given.rows, given.store / f"data-{given.rows}")
    for network in given.networks:
        for protocol in given.protocols:
            runs: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS[network]}
            for seed in range(given.seeds):
                for arm, told in ARMS[network].items():
                    runs[arm].append(search(given, dataset, told, seed, protocol))
                    say(f"{network}, {protocol}, seed {seed}, {arm}: {runs[arm][-1]}")
            asked = {
                "network": network,
                "protocol": protocol,
                **{name: getattr(given, name) for name in ("trials", "epochs", "seeds")},
            }
            made = {
                "date": today(),
                "machine": describe(given.device),
                "data": dataset.name,
                "rows": len(dataset.train),
            }
            entry = {**made, "asked": asked, "runs": runs, "verdict": verdict(runs)}
            keep(path, "searches", f"{network} {protocol} {given.rows}", entry, table)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.recipes", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="a data set's folder, with image, audio and a test")
    parser.add_argument("--store", type=Path, required=True, help="where runs are kept, and gone on with")
    parser.add_argument("--networks", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--protocols", nargs="+", choices=PROTOCOLS, default=list(PROTOCOLS))
    parser.add_argument("--trials", type=whole, default=30)
    parser.add_argument("--epochs", type=whole, default=10)
    parser.add_argument("--seeds", type=whole, default=3, help="how many, from 0; 2 at least")
    parser.add_argument("--rows", type=whole, default=6000)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=whole)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.seeds < 2:
        parser.error("--seeds must be 2 or more: one has no interval")
    return given


def main() -> None:
    command(lambda: run(arguments()))


if __name__ == "__main__":
    main()

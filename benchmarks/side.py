"""One side of a comparison, in a process of its own: `python -m benchmarks.side plain|mmtune ...`.

What it took is seen from outside, by `benchmarks.measure`; its last line is what only it can know, as JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.cases import Case
from mmtune.data.dataset import Dataset
from mmtune.data.storage.store import load


def plain(case: Case, dataset: Dataset, root: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Everything by the plain loop."""
    from benchmarks.plain import plain_study
    from mmtune.data.protocols import split

    made = split(dataset.train, "clip_disjoint", 0)
    return {"best": plain_study(case.configs, dataset.train, made, root, given.device)}


def mmtune(case: Case, dataset: Dataset, root: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Everything by `mmtune study`."""
    from rich.console import Console

    from mmtune.study.options import Options
    from mmtune.tune.run import run_study

    options = Options(trials=case.trials, epochs=case.epochs, device=given.device, workers=given.workers, prune=False)
    outcome = run_study(case.made, dataset, options, root, Console(quiet=True))
    assert outcome is not None
    assert outcome.best is not None
    spent = {name: getattr(outcome, f"{name}_seconds", None) for name in ("tracking", "tuning")}
    return {"best": outcome.best.metrics[outcome.key.objective.name], **spent}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("side", choices=["plain", "mmtune"])
    parser.add_argument("--case", required=True, help="a Case as JSON")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True, help="an empty folder for the store")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, help="of mmtune's; as many as it takes by itself if not given")
    given = parser.parse_args()
    case = Case(**json.loads(given.case))
    run = plain if given.side == "plain" else mmtune
    print(json.dumps(run(case, load(given.data), given.root, given)))


if __name__ == "__main__":
    main()

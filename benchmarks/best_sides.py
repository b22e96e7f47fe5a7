"""`mmtune best` beside AutoGluon, which many take who want the best model in a given time.

The same data, the same time, all cores, one after the other; each is scored once on the test partition, with intervals
over what is independent in it. AutoGluon has no encoder for sounds, so its tables have pixels and MFCCs, all training
rows, and it validates as its presets do. It runs in an environment of its own, as it needs other versions:

    python -m venv E && E/bin/pip install 'autogluon.tabular[lightgbm,xgboost,catboost]'
    python -m benchmarks.best_sides --autogluon E/bin/python --hours .2
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.command import IncompleteError, command, say
from benchmarks.machine import describe
from benchmarks.measure import REPOSITORY
from benchmarks.results import keep, result_path, today
from benchmarks.scale import describe_entry
from mmtune.base.errors import InputError
from mmtune.best.held_out import told_of
from mmtune.data.bundled.sample import sample_folder
from mmtune.data.dataset import Dataset, Partition
from mmtune.data.protocols import usual_protocol
from mmtune.data.storage.store import load
from mmtune.serve.answer.predictor import Predictor
from mmtune.serve.scoring import predicted_labels
from mmtune.serve.versions import champion_folder

CHILD = Path(__file__).parent / "rivals" / "autogluon_tables.py"
LATE = 3
"""A side that takes so many times as long as it was given is ended."""


def ours(dataset: Dataset, hours: float, folder: Path) -> dict[str, Any]:
    """What `mmtune best` comes to, in a store of its own."""
    kept = ["--store", str(folder / "mlruns"), "--studies", str(folder)]
    words = ["best", "--data", str(dataset.folder), "--hours", f"{hours:g}", "--device", "cpu", *kept]
    took = ended([sys.executable, "-m", "mmtune.cli", *words], hours)
    (study,) = folder.glob("best_*.py")
    predictor = Predictor.load(champion_folder(folder / "mlruns", study.stem))
    said = scores(dataset, predicted_labels(predictor, dataset))
    return {"seconds": took, "what": type(predictor.loaded.config).__name__} | said


def theirs(
    dataset: Dataset, hours: float, folder: Path, python: Path, presets: str, banks: Sequence[str]
) -> dict[str, Any]:
    """What AutoGluon comes to, of banks as columns of a table."""
    sides = {"train": table(dataset.train, banks), "test": table(dataset.require_test(), banks)}
    np.savez(folder / "rows.npz", labels=dataset.train.labels, **sides)
    seconds = str(3600 * hours)
    took = ended([str(python), str(CHILD), str(folder / "rows.npz"), seconds, presets, str(folder)], hours)
    said = np.load(folder / "said.npz")
    what = f"{said['model']} of {said['models']} models"
    return {"seconds": took, "what": what} | scores(dataset, said["prediction"])


def table(part: Partition, banks: Sequence[str]) -> NDArray[np.float32]:
    """The values of banks side by side, (N, F)."""
    rows = np.arange(len(part))
    wide = [part.banks[bank].of_rows(rows).reshape(len(part), -1) for bank in banks]
    return np.concatenate(wide, axis=1, dtype=np.float32)


def ended(words: Sequence[str], hours: float) -> float:
    """The seconds that a program took, which may say what it likes; IncompleteError where it failed."""
    began = time.monotonic()
    try:
        done = subprocess.run(words, cwd=REPOSITORY, timeout=LATE * 3600 * hours)
    except subprocess.TimeoutExpired as error:
        raise IncompleteError(f"{words[1]} must end within {LATE} times its {hours:g} hours, it did not") from error
    if done.returncode:
        raise IncompleteError(f"{words[1]} must end well, it ended with code {done.returncode}")
    return time.monotonic() - began


def scores(dataset: Dataset, prediction: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracy and macro-F1 on the test partition, each with its interval."""
    # Both are numbers of this process's own: those of a data set's file may not be written, which torch complains of.
    label = np.array(dataset.require_test().labels)
    found = told_of(label, np.array(prediction), dataset, usual_protocol(dataset), 0)
    return {"unit": found.unit, "accuracy": list(found.accuracy), "macro_f1": list(found.macro_f1)}


def require_side(dataset: Dataset, python: Path, banks: Sequence[str]) -> None:
    """Raise InputError unless AutoGluon can be asked, before anybody has trained for hours."""
    for bank in banks:
        if bank not in dataset.train.banks:
            raise InputError(f"--banks must be of {', '.join(dataset.train.banks)}, got {bank}")
    done = (
        subprocess.run([str(python), "-c", "import autogluon.tabular"], capture_output=True, text=True, check=False)
        if shutil.which(python)
        else None
    )
    if done is None or done.returncode:
        raise InputError(f"--autogluon must be a python that has autogluon.tabular, {python} is none")


def report(results: dict[str, Any]) -> str:
    """The results as a page."""
    lines = ["# `mmtune best` beside AutoGluon", ""]
    for name, entry in results["best"].items():
        lines += [f"## {name}", "", describe_entry(entry), ""]
        lines += [
            f"{entry['rows']:,} rows to train, {entry['test']:,} to test, {entry['hours']:g} hours each, seed 0; 95 % "
            f"intervals over what is independent in the test ({entry['sides'][0]['unit']}).",
            "",
            "| side | seconds | test macro-F1 | test accuracy | what it chose |",
            "|---|---|---|---|---|",
        ]
        for own in entry["sides"]:
            f1, right = (in_percent(own[name]) for name in ("macro_f1", "accuracy"))
            lines.append(f"| {own['side']} | {own['seconds']:.0f} | {f1} | {right} | {own['what']} |")
        lines.append("")
    return "\n".join(lines)


def in_percent(told: Sequence[float]) -> str:
    """A share and its interval."""
    share, low, high = (100 * own for own in told)
    return f"{share:.2f} ({low:.2f} to {high:.2f})"


def run(given: argparse.Namespace) -> None:
    path = result_path(given.out, "best")
    dataset = load(given.data or sample_folder())
    if "autogluon" in given.sides:
        require_side(dataset, given.autogluon, given.banks)
    test = dataset.require_test()
    entry = {"date": today(), "machine": describe("cpu"), "hours": given.hours, "rows": len(dataset.train)}
    sides: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for side in given.sides:
            folder = Path(name) / side
            folder.mkdir()
            say(f"{side}: {given.hours:g} hours")
            if side == "mmtune":
                found = ours(dataset, given.hours, folder)
            else:
                found = theirs(dataset, given.hours, folder, given.autogluon, given.presets, given.banks)
            sides.append({"side": side} | found)
            say(f"{sides[-1]}")
            keep(path, "best", dataset.name, entry | {"test": len(test), "sides": sides}, report)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.best_sides", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="the bundled sample if not given")
    parser.add_argument("--hours", type=float, default=0.2)
    parser.add_argument("--sides", nargs="+", choices=("mmtune", "autogluon"), default=["mmtune", "autogluon"])
    parser.add_argument("--autogluon", type=Path, default=Path("python"), help="the python of its environment")
    parser.add_argument("--presets", default="best_quality")
    parser.add_argument("--banks", nargs="+", default=["image", "audio"], help="the columns of AutoGluon's table")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> None:
    command(lambda: run(arguments()))


if __name__ == "__main__":
    main()

"""Time to an answer: a whole search by mmtune and by what people would use instead, in turn, in fresh processes.

Each run is kept as soon as it is there, by side and seed; a benchmark that is broken off is gone on with by naming the
sides and seeds that are left, for `--out` keeps what it holds. A side whose package is missing is left out.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.bench import disturbance, shown
from benchmarks.cases import data_set
from benchmarks.command import IncompleteError, command, say, whole
from benchmarks.machine import describe
from benchmarks.results import keep, result_path, today
from benchmarks.rivals.__main__ import SIDES
from benchmarks.rivals.asked import Asked
from benchmarks.search_run import interrupted, measured, without_folders
from benchmarks.search_table import table
from mmtune.base.files import read_json
from mmtune.base.provenance import installed
from mmtune.data.dataset import Dataset

PACKAGES = ("ray", "syne-tune")
"""Whose versions count beside those of every benchmark."""


def sides(text: str) -> tuple[str, ...]:
    """Sides by name, in the order given."""
    found = tuple(re.split(r"[\s,]+", text.strip()))
    unknown = [name for name in found if name not in SIDES]
    if unknown:
        raise argparse.ArgumentTypeError(f"must be of {', '.join(SIDES)}, got {unknown[0]!r}")
    return found


def seeds(text: str) -> tuple[int, ...]:
    """How many seeds from 0, as "3", or which, as "1,2" or "2,"."""
    if text.isdecimal() and int(text):
        return tuple(range(int(text)))
    found = [part for part in re.split(r"[\s,]+", text) if part]
    if text.isdecimal() or not found or not all(part.isdecimal() for part in found):
        raise argparse.ArgumentTypeError(f"must be how many, or which as 1,2, got {text!r}")
    return tuple(map(int, found))


def present(wanted: tuple[str, ...]) -> list[str]:
    """The sides whose packages are there; what is left out is said."""
    found = []
    for side in wanted:
        missing = [package for package in SIDES[side] if find_spec(package) is None]
        if missing:
            say(f"{side} is left out: {', '.join(missing)} is not installed (pip install -e '.[rivals]')")
        else:
            found.append(side)
    return found


def made(dataset: Dataset) -> dict[str, Any]:
    """What a run was made with."""
    machine = describe("cpu")
    machine["versions"] |= {package: installed(package) for package in PACKAGES}
    return {"date": today(), "machine": machine, "data": dataset.name, "rows": len(dataset.train)}


def search(given: argparse.Namespace, dataset: Dataset, side: str, seed: int, path: Path) -> None:
    """One side with one seed from nothing, kept."""
    say(f"{side}, seed {seed}: {given.trials} trials of {given.epochs} epochs")
    with tempfile.TemporaryDirectory(prefix="mmtune-bench-") as root:
        found = measured(side, asked_of(given, dataset, seed, root))
    keep(path, "runs", f"{side} {seed}", {**made(dataset), **found}, table)
    say(
        f"{side}, seed {seed}: {found['seconds']:.1f} s, {len(found['trials'])} trials, {found['epochs']} epochs, best "
        f"{found['best']:.4f}, held out {found['held_out']:.4f}{disturbance(found['others'])}"
    )


def kill(given: argparse.Namespace, dataset: Dataset, side: str, path: Path) -> None:
    """One side with seed 0, killed half way and started again, kept; IncompleteError where no whole run is kept."""
    with tempfile.TemporaryDirectory(prefix="mmtune-bench-") as root:
        asked = asked_of(given, dataset, 0, root)
        full = (read_json(path) if path.exists() else {}).get("runs", {}).get(f"{side} 0")
        same = full and (full["data"], full["rows"]) == (dataset.name, len(dataset.train))
        if not same or {**full["asked"], "fix": tuple(full["asked"]["fix"])} != without_folders(asked):
            raise IncompleteError(f"{side} must first be run with seed 0 into {shown(path)}, to know when to kill it")
        say(f"{side}: to be killed after {full['seconds'] / 2:.0f} s and started again")
        found = interrupted(side, asked, full["seconds"])
    keep(path, "kills", side, {**made(dataset), **found}, table)
    say(f"{side}: the kill cost {found['cost']:.1f} s and {found['wasted']} epochs")


def asked_of(given: argparse.Namespace, dataset: Dataset, seed: int, root: str) -> Asked:
    return Asked(
        study=given.study,
        fix=tuple(given.fix),
        data=str(dataset.folder),
        root=root,
        trials=given.trials,
        epochs=given.epochs,
        seed=seed,
    )


def run(given: argparse.Namespace) -> bool:
    """Measure and keep what is asked for; whether all of it could be."""
    path, failed = result_path(given.out, "search"), 0
    wanted = present(given.sides)
    tasks = [(side, seed) for seed in ((0,) if given.kill else given.seeds) for side in wanted]
    with data_set(given.data, given.rows, held_out=True) as dataset:
        for side, seed in tasks:
            try:
                if given.kill:
                    kill(given, dataset, side, path)
                else:
                    search(given, dataset, side, seed, path)
            except IncompleteError as error:
                failed += 1
                say(f"error: {error}")
    say(f"{len(tasks) - failed} of {len(tasks)} done; {shown(path)}, and .md beside it")
    return not failed


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.search", description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="audio_rnn", help="one whose network benchmarks.printed has")
    parser.add_argument("--fix", action="append", metavar="NAME=VALUE", help="fix a choice; if none is, view=step")
    parser.add_argument("--sides", type=sides, default=tuple(SIDES), help=f"of {', '.join(SIDES)}; all if not given")
    parser.add_argument("--seeds", type=seeds, default=(0, 1, 2), help="how many, from 0, or which, as 1,2; 3")
    parser.add_argument("--trials", type=whole, default=27)
    parser.add_argument("--epochs", type=whole, default=27)
    parser.add_argument("--rows", type=whole, default=20_000)
    parser.add_argument("--data", type=Path, help="a data set's folder; the bundled sample if not given")
    parser.add_argument("--kill", action="store_true", help="kill each side half way, after a whole run with seed 0")
    parser.add_argument("--out", type=Path, help="the .json that results are put into; a dated one if not given")
    given = parser.parse_args()
    if given.fix is None:
        # A clip as 39 steps takes ten times as long, for the same question.
        given.fix = ["view=step"] if given.study == "audio_rnn" else []
    return given


def main() -> None:
    command(lambda: run(arguments()))


if __name__ == "__main__":
    main()

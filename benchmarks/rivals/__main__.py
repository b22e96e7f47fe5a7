"""One side of a search in this process: `python -m benchmarks.rivals SIDE JSON`."""

from __future__ import annotations

import argparse

from benchmarks.rivals.asked import Asked, cores

SIDES = {
    "mmtune": (),
    "ray": ("ray",),
    "optuna": (),
    "optuna-2": (),
    "syne": ("syne_tune",),
    "plain": (),
}
"""By side, the packages that it needs beside those of mmtune's own."""


def search(side: str, asked: Asked) -> None:
    """Everything by one side. What a side needs is imported when it runs, as its own script would."""
    match side:
        case "mmtune":
            from benchmarks.rivals.ours import search as run
        case "ray":
            from benchmarks.rivals.ray_tune import search as run
        case "optuna":
            from benchmarks.rivals.optuna_loop import search as run
        case "optuna-2":
            from benchmarks.rivals.optuna_loop import search as several

            return several(asked, cores())
        case "syne":
            from benchmarks.rivals.syne import search as run
        case _:
            from benchmarks.rivals.plain_tpe import search as run
    return run(asked)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="benchmarks.rivals", description=__doc__.splitlines()[0])
    parser.add_argument("side", choices=SIDES)
    parser.add_argument("asked", type=Asked.read, help="an Asked as JSON")
    given = parser.parse_args()
    search(given.side, given.asked)

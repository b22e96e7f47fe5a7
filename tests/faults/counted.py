"""The command line, whose workers write down what they train: `python counted.py study ...`, with the log in COUNTED.

A line is a word and the training's seed, which no other one of the study has: `begin SEED`, `epoch SEED NUMBER`, and
`end SEED` once its result is in staging. The file HOLD names an epoch, at which a training waits the first time that it
comes to it, for as long as the file says so.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

LOG, HOLD = "COUNTED", "HOLD"


def note(*words: object) -> None:
    """A line, all of it or nothing."""
    with Path(os.environ[LOG]).open("ab", buffering=0) as file:
        file.write(" ".join(map(str, words)).encode() + b"\n")


def hold(seed: int, epoch: int) -> None:
    """Wait at the epoch that the file HOLD names, until it is gone or names another one."""
    path = Path(os.environ.get(HOLD, os.devnull))
    first = lines(Path(os.environ[LOG])).count(["epoch", str(seed), str(epoch)]) == 1
    while first and path.is_file() and path.read_text() == str(epoch):
        time.sleep(0.02)


def count() -> None:
    """From now on write down what this process trains."""
    from mmtune.train import trial

    whole = trial.run_trial

    def counted(*given: Any, **named: Any) -> Any:
        seed, on_epoch = given[3], given[5]

        def noted(epoch: int, metrics: Mapping[str, float]) -> bool:
            note("epoch", seed, epoch)
            go_on = on_epoch(epoch, metrics)
            hold(seed, epoch)
            return bool(go_on)

        note("begin", seed)
        result = whole(*given[:5], noted, *given[6:], **named)
        note("end", seed)
        return result

    trial.run_trial = counted


def lines(log: Path) -> list[list[str]]:
    """What was written down so far."""
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def epochs(log: Path) -> int:
    """How many epochs were trained."""
    return sum(words[0] == "epoch" for words in lines(log))


def again(log: Path) -> Counter[str]:
    """By seed, how often a training began although it had ended."""
    ended: set[str] = set()
    found: Counter[str] = Counter()
    for word, seed, *_ in lines(log):
        ended |= {seed} if word == "end" else set()
        found.update([seed] if word == "begin" and seed in ended else [])
    return found


def let_workers_run_main() -> None:
    """Let the workers of this process run its main file too, which mmtune keeps them from."""
    from mmtune.pool import local

    local.without_main = nullcontext


if __name__ == "__main__":
    from mmtune.cli import main

    let_workers_run_main()
    main()
elif __name__ == "__mp_main__":
    count()

"""How long trainings may be, and which kinds of networks there is time for."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from mmtune.base.errors import first_line
from mmtune.base.fields import flatten, replace_paths
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import Split
from mmtune.study import Study
from mmtune.study.space import Categorical
from mmtune.train.batches import Resident, Rows
from mmtune.train.fit import fit
from mmtune.train.recipe import TrialConfig
from mmtune.train.trial import take

PROBED, EPOCHS, TELLING, MORE = 64, 3, 0.3, 4
"""Rows, and epochs over them, the first to warm up; where one takes fewer seconds, so many times more rows."""
TOLD = 0.25
"""Of an epoch's time: what is cheaper or dearer by less is not told apart by so few rows."""
TRAININGS = 6
"""Whole trainings of the base that the time of a search has room for; halving makes three to four times as many."""
FEWEST, MOST, STEPS = 3, 60, 200
"""Epochs of a training, at least and at most; and steps without which a cheaper kind of network is preferred."""
BESIDE = 1.3
"""How much longer a training takes while others train beside it."""
DEARER = 1.5
"""So many times as long as there is time for may an option of the space take an epoch for."""
GPU_AT_ONCE = 2.5
SURE = 0.9
"""Of the time that is left: what is planned takes no more, as a training that is cut off is lost."""
CHOSEN = ".chosen"
NO_TIME = "there is no time for it"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What there is time for. seconds: of an epoch of the base; epochs: of a training.

    chosen: by path, the option of a OneOf that the base has instead of its own; left_out: by path, the options that
    would take too long or do not train on these data, and why.
    """

    seconds: float
    epochs: int
    chosen: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def narrowed(self, study: Study) -> Study:
        """The study with what there is time for."""
        base = replace_paths(study.base, {f"{path}{CHOSEN}": option for path, option in self.chosen.items()})
        gone = {(f"{path}{CHOSEN}", option) for path, own in self.left_out.items() for option in own}
        space = [
            replace(own, values=tuple(value for value in own.values if (own.path, value) not in gone))
            if isinstance(own, Categorical)
            else own
            for own in study.space
            if own.when not in gone
        ]
        return replace(study, base=base, space=tuple(space))


def options_of(study: Study) -> dict[str, tuple[str, ...]]:
    """By path the options of each OneOf among which the study chooses."""
    return {
        own.path.removesuffix(CHOSEN): tuple(map(str, own.values))
        for own in study.space
        if isinstance(own, Categorical) and own.path.endswith(CHOSEN)
    }


def enough_epochs(study: Study, rows: int) -> int:
    """In how many epochs over so many rows the base makes STEPS steps."""
    return int(np.clip(math.ceil(STEPS * study.base.train.batch_size / rows), FEWEST, MOST))


def paced(study: Study, seconds: float, workers: float, enough: int, of_one: Callable[[TrialConfig], float]) -> Pace:
    """What there is time for in the seconds of a search. of_one: how long an epoch of a configuration takes.

    Where the base has not `enough` epochs, all options are asked: its dearest parts make room for the cheapest option
    each, one after the other, and what is too dear for that time is left out.
    """
    limit = seconds * workers / (TRAININGS * enough)
    base, known = study.base, options_of(study)
    has = {path: str(flatten(base)[f"{path}{CHOSEN}"]) for path in known}
    now = of_one(base)
    if now <= limit:
        return Pace(seconds=now, epochs=epochs_for(seconds, workers, now))
    # Beside the cheapest of what was asked before: a dear neighbour would be paid for with every option.
    more: dict[str, dict[str, float]] = {}
    unfit: dict[tuple[str, str], str] = {}
    beside, without = base, now
    for path, options in known.items():
        others = {one: of_option(of_one, with_option(beside, path, one)) for one in options if one != has[path]}
        unfit |= {(path, one): own for one, own in others.items() if isinstance(own, str)}
        took = {has[path]: without} | {one: math.inf if isinstance(own, str) else own for one, own in others.items()}
        more[path] = {one: value - without for one, value in took.items()}
        cheapest = min(took, key=lambda one: took[one])
        beside, without = with_option(beside, path, cheapest), took[cheapest]
    chosen: dict[str, str] = {}
    for path in sorted(more, key=lambda one: min(more[one].values())):
        saved = min(more[path].values())
        if now <= limit or saved > -TOLD * now:
            break
        chosen[path], now = min(more[path], key=lambda one: more[path][one]), now + saved
    most = max(DEARER * limit, (1 + TOLD) * now)
    left_out = {
        path: {
            one: unfit.get((path, one), NO_TIME)
            for one, own in took.items()
            if now + own - took[{**has, **chosen}[path]] > most
        }
        for path, took in more.items()
    }
    return Pace(
        seconds=now,
        epochs=epochs_for(seconds, workers, now),
        chosen=chosen,
        left_out={path: own for path, own in left_out.items() if own},
    )


def of_option(of_one: Callable[[TrialConfig], float], config: TrialConfig) -> float | str:
    """How long an epoch takes with an option, or why it cannot be trained, as it may not fit the data."""
    try:
        return of_one(config)
    except Exception as error:  # what a network raises that does not fit, anybody may have written
        return f"it does not train on these data: {first_line(error)}"


def at_once(workers: int, device: str) -> float:
    """How many trainings' worth workers make: those of a GPU share it (benchmarks/results/2026-11-27-gpu.md)."""
    return min(workers, GPU_AT_ONCE) if device.startswith("cuda") else workers


def with_option(base: TrialConfig, path: str, option: str) -> TrialConfig:
    """The base with another option of a OneOf."""
    changed: TrialConfig = replace_paths(base, {f"{path}{CHOSEN}": option})
    return changed


def epochs_for(seconds: float, workers: float, of_one: float) -> int:
    """How many epochs a training may have, of which one takes so long, in the seconds of a search."""
    return int(np.clip(seconds * workers / (TRAININGS * max(of_one, 1e-6)), FEWEST, MOST))


def longer(epochs: int, of_one: float, seconds: float, workers: float, most: int) -> int:
    """For how many epochs, `epochs` or more, at most `most` trainings are made of which an epoch takes so long.

    As many rounds of them as there is time for in the seconds; what is left of the time makes them longer, for a
    training that is too short for another one to begin beside it is worth more than a machine that waits.
    """
    known = max(of_one, 1e-6)
    rounds = max(1, min(int(SURE * seconds / (epochs * known)), math.ceil(most / workers)))
    return int(np.clip(SURE * seconds / (rounds * known), epochs, max(epochs, MOST)))


def epoch_seconds(config: TrialConfig, dataset: Dataset, split: Split, device: str, threads: int = 1) -> float:
    """About how long an epoch takes a worker of so many threads, told by as few of its rows as tell it."""
    resident = Resident(dataset.train, len(dataset.classes), torch.device(device), config.model.reads)
    rows, before = resident.rows(config.model.reads), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        count, took = PROBED, 0.0
        while True:
            share = min(1.0, count / len(split.train))
            took = one_epoch(config, rows, split, share)
            if took >= TELLING or share == 1:
                return BESIDE * took / share
            count *= MORE
    finally:
        torch.set_num_threads(before)
        if device.startswith("cuda"):
            # Workers are other processes.
            torch.cuda.empty_cache()


def one_epoch(config: TrialConfig, rows: Rows, split: Split, share: float) -> float:
    """How long an epoch takes over a share of both sides of a split: the shortest but the first."""
    rng, ends = np.random.default_rng(0), list[float]()
    train, validation = (
        take(rows, np.sort(rng.permutation(own)[: max(2, round(share * len(own)))]))
        for own in (split.train, split.validation)
    )

    def note(epoch: int, metrics: Mapping[str, float]) -> bool:
        ends.append(time.perf_counter())
        return True

    short = replace_paths(config, {"train.epochs": EPOCHS, "train.seconds": 0.0, "train.patience": 0})
    fit(short, train, validation, 0, note)
    return float(np.diff(ends).min())

"""Learning rates from step to step, as shares of the highest one."""

from __future__ import annotations

import math

from mmtune.train.recipe import Train

RISE, START, END = 0.3, 1 / 25, 1 / 25e4
"""Of one-cycle: the share of its steps that rise, and where it starts and ends; as torch's OneCycleLR."""
DROPS, DROP = (0.5, 0.75), 0.1


def share(recipe: Train, step: float, steps: int) -> float:
    """The rate's share at a step from 0 to `steps` - 1."""
    if recipe.schedule == "one-cycle":
        return one_cycle(step, steps, recipe.warmup or RISE)
    rising = round(recipe.warmup * steps)
    if step < rising:
        return (math.floor(step) + 1) / rising
    gone = (step - rising) / max(steps - rising, 1)
    match recipe.schedule:
        case "cosine":
            return (1 + math.cos(math.pi * gone)) / 2
        case "step":
            return DROP ** sum(gone >= drop for drop in DROPS)
        case _:
            return 1.0


def one_cycle(step: float, steps: int, rise: float) -> float:
    """From START to 1 and down to END, both by a half cosine."""
    top = max(rise * steps - 1, 0.0)
    if step <= top and top > 0:
        return between(START, 1.0, step / top)
    return between(1.0, END, (step - top) / max(steps - 1 - top, 1))


def between(start: float, end: float, gone: float) -> float:
    """A half cosine from `start` to `end`."""
    return end + (start - end) * (1 + math.cos(math.pi * min(gone, 1.0))) / 2

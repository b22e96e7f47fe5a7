"""Training as a function: a configuration and rows in, the best weights and their scores out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from mmtune.train.augment import change_of
from mmtune.train.balance import Balance
from mmtune.train.batches import Resident, Rows
from mmtune.train.checkpoint import Checkpoint, Moment
from mmtune.train.device import require_bfloat16
from mmtune.train.learner import Learner
from mmtune.train.objective import MACRO_F1, Metric
from mmtune.train.recipe import TrialConfig

LEAST_PAUSE = 50
"""So many times longer than a checkpoint takes is the time to the next one, unless there is one after each epoch."""
OnEpoch = Callable[[int, Mapping[str, float]], bool]
OnMoment = Callable[[Moment], None]
Encoders = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True, kw_only=True, eq=False)
class FitResult:
    """The model with the weights of its best epoch by validation, and how it came about.

    history: one dict of metrics per epoch. final: where the last epoch left it, if the configuration keeps that.
    pruned: whether `on_epoch` ended the training early.
    """

    model: nn.Module
    best_epoch: int
    history: list[dict[str, float]]
    final: Checkpoint | None
    pruned: bool
    seconds: float


def fit(
    config: TrialConfig,
    train: Rows,
    validation: Rows,
    seed: int,
    on_epoch: OnEpoch = lambda epoch, metrics: True,
    encoders: Encoders | None = None,
    start: Checkpoint | None = None,
    moment: Moment | None = None,
    on_moment: OnMoment | None = None,
    every: float = math.inf,
    metric: Metric = MACRO_F1.first,
) -> FitResult:
    """Train on the rows' device; the same seed on the same machine gives the same result.

    on_epoch: called after every epoch (from 1) with its metrics; False ends the training.
    encoders: state dicts by bank for a fusion model. start: where an earlier training stopped, to go on from.
    moment: where this very training stood when it was cut short. on_moment: is given one every so many seconds, less
        often where that takes long, and after each epoch for 0.
    metric: what picks the best epoch.
    Raises DivergenceError on a loss or a metric that is not finite, InputError where this machine has not the
    precision, and DamagedError where it cannot go on from `moment`.
    """
    saved, pause = time.perf_counter(), every
    learner = Learner(config, train, validation, seed, metric, encoders=encoders or {}, start=start)
    if moment is not None:
        learner.go_on(moment)
    go_on = True
    while go_on and learner.has_budget():
        metrics = learner.epoch()
        go_on = on_epoch(len(learner.history), metrics)
        if on_moment is not None and go_on and learner.has_budget() and time.perf_counter() - saved >= pause:
            began = time.perf_counter()
            on_moment(learner.moment())
            saved = time.perf_counter()
            pause = max(every, LEAST_PAUSE * (saved - began)) if every else every
    final = learner.checkpoint() if config.train.keep_final else None
    return FitResult(
        model=learner.best(),
        best_epoch=learner.best_epoch,
        history=learner.history,
        final=final,
        pruned=not go_on and len(learner.history) < config.train.epochs,
        seconds=learner.seconds(),
    )


def require_trainable(config: TrialConfig, data: Resident) -> None:
    """Raise InputError where this machine has not the precision that a configuration asks for, the data are none that
    it can augment, or its network is none that can be balanced."""
    rows = data.rows(config.model.reads)
    change_of(config.train, rows)
    if config.train.balance:
        Balance(config.model.build(data.shapes), config.train.balance)
    if config.train.precision == "bfloat16":
        require_bfloat16(config.model.build(data.shapes).to(data.device), rows)

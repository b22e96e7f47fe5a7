"""Training as a function: a configuration and rows in, the best weights and their scores out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mmtune.train.augment import change_of
from mmtune.train.average import Average
from mmtune.train.batches import Held, Resident, Rows, Training, as_input, batch_sizes
from mmtune.train.checkpoint import (
    Checkpoint,
    Moment,
    checkpoint_of,
    copied,
    generators_of,
    going_on,
    restore,
    set_generators,
)
from mmtune.train.device import evaluation_batch, require_bfloat16
from mmtune.train.evaluate import evaluate
from mmtune.train.objective import MACRO_F1, Metric
from mmtune.train.optimizers import make_optimizer
from mmtune.train.rates import share
from mmtune.train.recipe import Train, TrialConfig
from mmtune.train.step import DivergenceError, Engine, Step, make_engine

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
    moment: where this very training stood when it was cut short. on_moment: is given one every so many seconds.
    metric: what picks the best epoch.
    Raises DivergenceError on a loss or a metric that is not finite, InputError where this machine has not the
    precision, and DamagedError where it cannot go on from `moment`.
    """
    started = saved = time.perf_counter()
    device = train.labels.device
    torch.manual_seed(seed)
    model = prepared(config.model.build(train.shapes).to(device), train)
    for bank, weights in (encoders or {}).items():
        model.get_submodule(bank).load_state_dict(weights)
    trained, train, validation = without_frozen(config, model, train, validation)
    recipe = config.train
    step = step_of(recipe, trained, train, lambda: time.perf_counter() - started)
    if start is not None:
        restore(start, model, step.optimizer)
    step.average = Average(trained, recipe.ema) if recipe.ema else None
    engine = make_engine(step, recipe.batch_size)
    generator = torch.Generator().manual_seed(seed)
    history: list[dict[str, float]] = []
    best_epoch, best_weights, go_on = 0, {}, True
    if moment is not None:
        with going_on():
            restore(moment.checkpoint, model, step.optimizer)
            set_generators(moment.generators, generator, device)
            history, best_epoch = [dict(own) for own in moment.story["history"]], moment.story["best_epoch"]
            best_weights = {name: value.to(device) for name, value in moment.best.items()}
            step.number = moment.story["steps"]
            if step.average is not None:
                step.average.load(moment.average)
            started -= moment.story["seconds"]
    best = history[best_epoch - 1][metric.curve] if best_epoch else None
    while go_on and has_budget(recipe, len(history), best_epoch, time.perf_counter() - started):
        metrics = epoch_of(engine, step, torch.randperm(len(train), generator=generator).to(device), validation, metric)
        history.append(metrics)
        if metric.better(metrics[metric.curve], best):
            best, best_epoch, best_weights = metrics[metric.curve], len(history), copied(step.evaluated.state_dict())
        go_on = on_epoch(len(history), metrics)
        spent = time.perf_counter() - started
        more = go_on and has_budget(recipe, len(history), best_epoch, spent)
        if on_moment is not None and more and time.perf_counter() - saved >= every:
            story = {"history": [*history], "best_epoch": best_epoch, "steps": step.number, "seconds": spent}
            states, whole = generators_of(generator, device), checkpoint_of(model, step.optimizer)
            average = {} if step.average is None else copied(step.average.named())
            on_moment(Moment(checkpoint=whole, best=best_weights, generators=states, average=average, story=story))
            saved = time.perf_counter()
    final = checkpoint_of(model, step.optimizer) if recipe.keep_final else None
    trained.load_state_dict(best_weights)
    return FitResult(
        model=model.eval(),
        best_epoch=best_epoch,
        history=history,
        final=final,
        pruned=not go_on and len(history) < recipe.epochs,
        seconds=time.perf_counter() - started,
    )


def has_budget(recipe: Train, epochs: int, best_epoch: int, seconds: float) -> bool:
    """Whether another epoch is to come after so many epochs and seconds."""
    patient = not recipe.patience or epochs - best_epoch < recipe.patience
    return epochs < recipe.epochs and patient and (not recipe.seconds or seconds < recipe.seconds)


def epoch_of(engine: Engine, step: Step, order: Tensor, validation: Rows, metric: Metric) -> dict[str, float]:
    """Train on all rows in that order; scores while training, then of the validation rows, and the seconds."""
    before = time.perf_counter()
    step.start_epoch()
    engine.epoch(order)
    metrics = step.scores() | evaluate(step.evaluated, validation).scores("val", metric)
    if not math.isfinite(metrics[metric.curve]):
        raise DivergenceError(f"{metric.curve} must be finite, got {metrics[metric.curve]}")
    return {**metrics, "epoch_seconds": time.perf_counter() - before}


def require_trainable(config: TrialConfig, data: Resident) -> None:
    """Raise InputError where this machine has not the precision that a configuration asks for, or the data are none
    that it can augment."""
    rows = data.rows(config.model.reads)
    change_of(config.train, rows)
    if config.train.precision == "bfloat16":
        require_bfloat16(config.model.build(data.shapes).to(data.device), rows)


def step_of(recipe: Train, model: nn.Module, rows: Rows, elapsed: Callable[[], float] = lambda: 0.0) -> Step:
    """The step that a recipe asks for: a model and a fresh optimiser on rows.

    elapsed: the seconds since the training began. Raises InputError where this machine has not the precision, or an
    augmentation does not fit the rows.
    """
    if recipe.precision == "bfloat16":
        require_bfloat16(model, rows)
    weights = class_weights(rows.labels, rows.shapes.classes) if recipe.class_weights else None
    steps = recipe.epochs * len(batch_sizes(len(rows), recipe.batch_size))

    def rate(number: int) -> float:
        gone = max(number, steps * min(elapsed() / recipe.seconds, 1.0)) if recipe.seconds else number
        return recipe.learning_rate * share(recipe, gone, steps)

    varies = recipe.schedule != "constant" or recipe.warmup
    optimizer = make_optimizer(recipe, model.parameters())
    change = change_of(recipe, rows)
    return Step(model, optimizer, rows, recipe, weights=weights, change=change, rate=rate if varies else None)


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """(C,) float32: N / (C n_c), so that every class weighs the same in sum; 0 for a class without rows.

    Venkatachalam, section 2.1; Subrahmanya, section 2.3. Equal to scikit-learn's "balanced".
    """
    counts = torch.bincount(labels, minlength=classes)
    return torch.where(counts > 0, len(labels) / (classes * counts.clamp(min=1)), 0.0).float()


def prepared(model: nn.Module, train: Rows) -> nn.Module:
    """The model, with whatever it takes from the training rows before it learns: a mean, a maximum."""
    prepare = getattr(model, "prepare", None)
    if prepare is not None:
        prepare(Training(train))
    return model


def without_frozen(
    config: TrialConfig, model: nn.Module, train: Rows, validation: Rows
) -> tuple[nn.Module, Rows, Rows]:
    """The part of the model that is trained, and the rows as that part sees them.

    Frozen encoders say the same of a picture or clip in every epoch, so they are asked once.
    """
    if not getattr(config.model, "frozen", False):
        return model, train, validation
    model.eval()
    encoders: Mapping[str, Callable[[Tensor], Tensor]] = model.encoders  # type: ignore[assignment]
    made = {bank: encoded(train.banks[bank], encode) for bank, encode in encoders.items()}

    def seen(rows: Rows) -> Rows:
        banks = {bank: replace(rows.banks[bank], values=values, gaps=False) for bank, values in made.items()}
        return replace(rows, banks=banks)

    return model.get_submodule("head"), seen(train), seen(validation)


@torch.no_grad()
def encoded(bank: Held, encode: Callable[[Tensor], Tensor]) -> Tensor:
    """Everything in a bank, encoded: (M, E) float32; (M + 1, E) where it has gaps, whose index -1 is the last place."""
    values = bank.values
    parts = [*values.split(evaluation_batch(values.device)), *([torch.zeros_like(values[:1])] if bank.gaps else [])]
    return torch.cat([encode(as_input(part)) for part in parts])

"""A model in training: what it is made of, what an epoch changes, and where it goes on from after an interruption."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from mmtune.networks.randomness import Randomness
from mmtune.train.augment import change_of
from mmtune.train.average import Average
from mmtune.train.batches import Held, Rows, Training, as_input, batch_sizes
from mmtune.train.checkpoint import (
    Checkpoint,
    Moment,
    checkpoint_of,
    copied,
    going_on,
    restore,
)
from mmtune.train.device import evaluation_batch, require_bfloat16
from mmtune.train.evaluate import evaluate
from mmtune.train.objective import Metric
from mmtune.train.optimizers import make_optimizer
from mmtune.train.rates import share
from mmtune.train.recipe import Train, TrialConfig
from mmtune.train.reliance import reliance
from mmtune.train.statistics import renew
from mmtune.train.step import DivergenceError, Step, make_engine


class Learner:
    """Trains a configuration's network on rows, an epoch at a time; everything random follows from the seed.

    encoders: state dicts by bank for a fusion model. start: where an earlier training stopped, to go on from.
    history: the metrics of each epoch so far; best_epoch: the one whose weights count, from 1, 0 before the first: that
    which `metric` likes best, or the last.
    """

    def __init__(
        self,
        config: TrialConfig,
        train: Rows,
        validation: Rows,
        seed: int,
        metric: Metric,
        *,
        encoders: Mapping[str, Mapping[str, Tensor]],
        start: Checkpoint | None = None,
    ) -> None:
        self.started = time.perf_counter()
        self.recipe, self.metric, self.device = config.train, metric, train.labels.device
        self.random = Randomness(seed, self.device)
        with self.random:
            self.model = prepared(config.model.build(train.shapes).to(self.device), train)
            for bank, weights in encoders.items():
                self.model.get_submodule(bank).load_state_dict(weights)
            self.trained, train, self.validation = without_frozen(config, self.model, train, validation)
            self.step = step_of(self.recipe, self.trained, train, self.seconds, self.model)
        if start is not None:
            restore(start, self.model, self.step.optimizer)
        self.step.average = Average(self.trained, self.recipe.ema) if self.recipe.ema else None
        self.engine = make_engine(self.step, self.recipe.batch_size, self.random)
        self.history: list[dict[str, float]] = []
        self.best_epoch, self.best_weights = 0, dict[str, Tensor]()

    def seconds(self) -> float:
        """How long it has been trained, before an interruption too."""
        return time.perf_counter() - self.started

    def has_budget(self) -> bool:
        """Whether another epoch is to come; the first one always is."""
        recipe, epochs = self.recipe, len(self.history)
        patient = not recipe.patience or epochs - self.best_epoch < recipe.patience
        in_time = not epochs or not recipe.seconds or self.seconds() < recipe.seconds
        return epochs < recipe.epochs and patient and in_time

    def epoch(self) -> dict[str, float]:
        """Train on all rows; scores while training, then of the validation rows, and the seconds.

        Raises DivergenceError where a loss, or the metric that picks the best epoch, is no number.
        """
        before = time.perf_counter()
        self.step.start_epoch()
        self.engine.epoch(torch.randperm(len(self.step.rows), generator=self.random.order).to(self.device))
        with self.random:
            model, asked = self.step.evaluated, self.recipe.reliance
            if self.recipe.statistics == "anew":
                renew(model, self.step.rows, self.recipe.batch_size)
            evaluation = evaluate(model, self.validation)
            relied = reliance(model, self.validation, asked) if asked else {}
        trained = self.step.scores()
        if not bool(torch.isfinite(evaluation.logits).all()):
            # Before a metric of the user's own is asked about it.
            raise DivergenceError("val_loss must be a number, got nan")
        scores = trained | evaluation.scores("val", self.metric)
        scores |= {f"val_reliance_{bank}": value for bank, value in relied.items()}
        found = scores[self.metric.curve]
        if not math.isfinite(found) or math.isnan(scores["val_loss"]):
            name = "val_loss" if math.isfinite(found) else self.metric.curve
            raise DivergenceError(f"{name} must be a number, got {scores[name]}")
        self.history.append({**scores, "epoch_seconds": time.perf_counter() - before})
        best = self.history[self.best_epoch - 1][self.metric.curve] if self.best_epoch else None
        if self.recipe.weights == "last" or self.metric.better(found, best):
            self.best_epoch, self.best_weights = len(self.history), copied(model.state_dict())
        return self.history[-1]

    def checkpoint(self) -> Checkpoint:
        """Its weights and its optimiser, as the last step left them."""
        return checkpoint_of(self.model, self.step.optimizer)

    def best(self) -> nn.Module:
        """The model with the weights that count; it is trained no further."""
        self.trained.load_state_dict(self.best_weights)
        return self.model.eval()

    def moment(self) -> Moment:
        """Where it stands, whole."""
        story = {"history": [*self.history], "best_epoch": self.best_epoch, "steps": self.step.number}
        average = {} if self.step.average is None else copied(self.step.average.named())
        return Moment(
            checkpoint=self.checkpoint(),
            best=self.best_weights,
            generators=self.random.named(),
            average=average,
            story={**story, "seconds": self.seconds()},
        )

    def go_on(self, moment: Moment) -> None:
        """Stand where this very training stood; DamagedError where it cannot."""
        with going_on():
            restore(moment.checkpoint, self.model, self.step.optimizer)
            self.random.load(moment.generators)
            story = moment.story
            self.history, self.best_epoch = [dict(own) for own in story["history"]], story["best_epoch"]
            self.best_weights = {name: value.to(self.device) for name, value in moment.best.items()}
            self.step.number = story["steps"]
            if self.step.average is not None:
                self.step.average.load(moment.average)
            self.started -= story["seconds"]


def step_of(
    recipe: Train,
    model: nn.Module,
    rows: Rows,
    elapsed: Callable[[], float] = lambda: 0.0,
    whole: nn.Module | None = None,
) -> Step:
    """The step that a recipe asks for: a model and a fresh optimiser on rows.

    elapsed: the seconds since the training began. whole: what the model is part of, whose weights a checkpoint counts
    through, those that are frozen too. Raises InputError where this machine has not the precision, or an
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
    optimizer = make_optimizer(recipe, (whole or model).parameters())
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
        banks = {
            bank: replace(rows.banks[bank], values=values, gaps=False, nothing=values[-1:])
            for bank, values in made.items()
        }
        return replace(rows, banks=banks)

    return model.get_submodule("head"), seen(train), seen(validation)


@torch.no_grad()
def encoded(bank: Held, encode: Callable[[Tensor], Tensor]) -> Tensor:
    """Everything in a bank, encoded, and last what it is to have nothing, (M + 1, E) float32: a gap's index is -1."""
    values = bank.values
    parts = [*values.split(evaluation_batch(values.device)), torch.zeros_like(values[:1])]
    return torch.cat([encode(as_input(part)) for part in parts])

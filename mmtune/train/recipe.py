"""One trial, whole: which model, and how it is trained. Free of torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmtune.base.errors import InputError
from mmtune.networks.config.base import Checked, choice, count, number
from mmtune.networks.config.ensemble import every_bank
from mmtune.train.augmentations import Augmentation

PRECISIONS = ("float32", "bfloat16")
OPTIMIZERS = ("adam", "adamw", "nadam", "radam", "adamax", "adagrad", "adadelta", "rmsprop", "sgd", "muon")
MOST_RELIED = 6
"""Every set of banks is asked: twice as many evaluations for each bank more."""
SCHEDULES = ("constant", "cosine", "one-cycle", "step")


def require_banks(name: str, value: object) -> None:
    """Raise InputError unless `value` says something by bank."""
    if not isinstance(value, Mapping):
        raise InputError(f"{name} must be by bank, such as {{'image': PictureAugmentation()}}, got {value!r:.80}")


@dataclass(frozen=True, kw_only=True)
class Train(Checked):
    """How a model is trained: the recipe. 0 stands for "without it".

    epochs: how many at most. seconds: after so many no epoch begins; such a training cannot be repeated to the digit.
    patience: it also ends after so many epochs in a row that were no better than the best.
    weights: those that count are of the "best" epoch by validation, or of the "last". Where a rate falls to nothing the
        last is the better choice as soon as validation tells its epochs apart by a few rows.
    optimizer: its name in torch.optim, in small letters. momentum: of sgd and muon. muon trains matrices, and leaves
        everything else to adamw (Jordan et al., 2024; its rates are adamw's).
    learning_rate: the highest one; schedule: how it goes on from there, by steps: "cosine" to nothing (Loshchilov and
        Hutter, 2017), "one-cycle" up and down (Smith and Topin, 2018), "step" to a tenth after half and again after
        three quarters (He et al., 2016). warmup: the share of steps in which it first rises.
    weight_decay: as the optimiser has it: with sgd, adam and most others L2, with adamw and muon decoupled.
    l1: times the sum of all magnitudes, added to the loss. clip: the largest norm of a step's gradient.
    label_smoothing: as in torch's cross-entropy (Szegedy et al., 2016); scores are of the plain loss.
    ema: how slowly an average follows the weights, as .999; it is the average that is evaluated and kept.
    mixup: rows are mixed with others, in shares of Beta(mixup, mixup) (Zhang et al., 2018).
    modality_dropout: each row loses each bank so often, but never all of them (Neverova et al., 2016).
    outliers: each bank has in so many rows a value of no class, made of the batch's; a row of nothing else is to be of
        each class alike (Hendrycks et al., "Outlier exposure", 2019).
    balance: how strongly the encoder of a bank that answers better than the others is held back, so that theirs learn
        too (Peng et al., "On-the-fly gradient modulation", 2022).
    augment: by bank, how its values are changed at random.
    class_weights: whether the loss weights each class by the inverse of its frequency in the training rows.
    keep_final: whether the weights are evaluated and kept too as the last step left them, which `ema` averages, beside
        those that count.
    statistics: of batch norms, where it is evaluated: "running" ones, as training has them, or made "anew" over the
        training rows before each evaluation (Wu and Johnson, 2021), which takes a quarter longer. With few batches an
        epoch running ones lag behind the weights.
    precision: of products and convolutions while training; weights, and all that is evaluated, are float32.
    reliance: on how many validation rows each epoch measures how much of the accuracy each bank makes.
    """

    epochs: int = count(10, 1, 100_000)
    seconds: float = number(0.0, 0.0, 1e7)
    patience: int = count(0, 0, 100_000)
    weights: str = choice("best", ("best", "last"))
    batch_size: int = count(64, 2, 65_536)
    optimizer: str = choice("adam", OPTIMIZERS)
    learning_rate: float = number(1e-3, 1e-8, 10.0)
    momentum: float = number(0.9, 0.0, 0.9999)
    schedule: str = choice("constant", SCHEDULES)
    warmup: float = number(0.0, 0.0, 0.9)
    weight_decay: float = number(0.0, 0.0, 10.0)
    l1: float = number(0.0, 0.0, 10.0)
    clip: float = number(0.0, 0.0, 1e6)
    label_smoothing: float = number(0.0, 0.0, 0.99)
    ema: float = number(0.0, 0.0, 0.999999)
    mixup: float = number(0.0, 0.0, 100.0)
    modality_dropout: float = number(0.0, 0.0, 0.95)
    outliers: float = number(0.0, 0.0, 0.9)
    balance: float = number(0.0, 0.0, 10.0)
    augment: Mapping[str, Augmentation] = field(default_factory=dict, metadata={"rule": require_banks})
    class_weights: bool = choice(False, (True, False))
    keep_final: bool = choice(False, (True, False))
    statistics: str = choice("running", ("running", "anew"))
    precision: str = choice("float32", PRECISIONS)
    reliance: int = count(0, 0, 1_000_000)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights == "last" and self.patience:
            raise InputError(f"patience must be 0 where the weights of the last epoch count, got {self.patience}")


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """One trial, whole; model: a configuration that builds its network.

    Fields are addressed by dotted paths such as `model.kernel` or `train.learning_rate`.
    """

    model: Any
    train: Train = field(default_factory=Train)

    def __post_init__(self) -> None:
        own = self.train
        if own.augment or own.modality_dropout or own.outliers or own.balance or own.reliance:
            require_changes(own, every_bank(self.model), getattr(self.model, "frozen", False))


def require_changes(recipe: Train, banks: tuple[str, ...], frozen: bool) -> None:
    """Raise InputError unless what a recipe asks for can be done for a network that reads these banks."""
    for name, nothing in (("augment", "empty"), ("outliers", "0"), ("balance", "0"), ("reliance", "0")):
        if getattr(recipe, name) and frozen:
            why = "where encoders stay as they are, which are asked once: train them too"
            raise InputError(f"{name} must be {nothing} {why}")
    for bank, own in recipe.augment.items():
        if not callable(getattr(own, "build", None)):
            raise InputError(f"augment of {bank} must have a build, such as PictureAugmentation(), got {own!r:.80}")
        require_read(bank, banks)
    for name in ("modality_dropout", "balance", "reliance"):
        value = getattr(recipe, name)
        if value and len(banks) == 1:
            raise InputError(f"{name} must be 0 for a network that reads {banks[0]} alone, got {value:g}")
    if recipe.balance and recipe.modality_dropout:
        rule = "balance must be 0 where modality_dropout takes banks away, which then look behind"
        raise InputError(f"{rule}, got {recipe.balance:g}")
    if recipe.reliance and len(banks) > MOST_RELIED:
        raise InputError(f"reliance must be 0 for a network that reads more than {MOST_RELIED} banks, got {len(banks)}")


def require_read(bank: str, banks: Collection[str]) -> None:
    """Raise InputError unless a bank that is to be augmented is one of those that the network reads."""
    if bank not in banks:
        raise InputError(f"augment must name banks that the network reads, {', '.join(banks)}, got {bank!r}")

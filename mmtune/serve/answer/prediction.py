"""What a model says of rows, how sure it is, and where it would rather not say."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmtune.base.errors import InputError
from mmtune.train.calibration import Calibration, agreement
from mmtune.train.scale import Scale

SHOWN = 8
FAR = 1e30
AS_GREAT = 1 - 1e-4
"""A probability of so much of a threshold reaches it: the same row in another batch, or as float32, differs by less."""


@dataclass(frozen=True, kw_only=True)
class Caution:
    """What a user asks of answers.

    abstain_at: the share of answers that may be wrong; where a row's answer would not keep to it, none is given.
    coverage: how often the set of classes is to hold the true one.
    """

    abstain_at: float | None = None
    coverage: float = 0.95

    def __post_init__(self) -> None:
        for name, share in (("abstain_at", self.abstain_at), ("coverage", self.coverage)):
            fits = isinstance(share, int | float) and not isinstance(share, bool) and 0 < share < 1
            if not fits and (share is not None or name == "coverage"):
                raise InputError(f"{name} must be a share between 0 and 1 such as 0.05, got {share!r}")


def read_share(name: str, text: str) -> float:
    """A share as it is given to a command, 1% or 0.01; InputError where it is none."""
    number = text.strip().removesuffix("%")
    try:
        return float(number) / (100 if number != text.strip() else 1)
    except ValueError as error:
        raise InputError(f"{name} must be a share such as 1% or 0.01, got {text!r}") from error


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Prediction:
    """What a model says of B rows; `alone`, for a fusion model, what each bank that was given says without the others.

    label (B,) int64, the number of the class; probability (B,) float32, of that class, and probabilities (B, C)
    float32, by the temperature that validation gave. classes: their names.
    members (B, C) bool: the classes of the set that holds the true one as often as was asked for, at least `label`'s.
    agree (B,) bool: False where two banks alone name different classes and contradict each other more than all but
    .75 % of validation rows do; True too where fewer than two banks have answers of their own (`comparable`).
    opposed (B,) bool: by bank, whether it is one of those. decider: the bank whose answer then counts, as its value is
    more like training, "" where the fusion's does.
    abstained (B,) bool: the row is better not answered, as its banks contradict each other, one of them is strange, or
    its probability is less than `threshold`: 0 where no error was asked for, infinity where no probability keeps to it.
    strange: by bank that was given, why its value in each row is like nothing in training, "" where it is not; what a
    network does not tell apart by bank has the name TOGETHER (`mmtune.networks.vectors`).
    trained (B,): by bank that was given, whether its value is one that the model was trained or chosen on; of TOGETHER
    for one that reads few numbers and nothing else; {} where that is not known.
    missing: the banks that were not given; by: the one whose own answer stands for all, "" where the fusion's does.
    """

    label: NDArray[np.int64]
    probability: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]
    alone: Mapping[str, Prediction]
    members: NDArray[np.bool_]
    agree: NDArray[np.bool_]
    abstained: NDArray[np.bool_]
    threshold: float = 0.0
    opposed: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    decider: list[str] = field(default_factory=list)
    strange: Mapping[str, list[str]] = field(default_factory=dict)
    trained: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    by: str = ""

    @property
    def names(self) -> list[str]:
        """The name of each row's class."""
        return [self.classes[number] for number in self.label]

    @property
    def set(self) -> list[tuple[str, ...]]:
        """The names of each row's `members`, the most probable first."""
        return [
            tuple(self.classes[number] for number in np.argsort(-shares, kind="stable") if own[number])
            for shares, own in zip(self.probabilities, self.members, strict=True)
        ]

    @property
    def familiar(self) -> NDArray[np.bool_]:
        """Whether all that was given in a row is like what the model was trained on, as far as it can tell, (B,)."""
        return np.array(
            [not any(why) for why in zip(*self.strange.values(), strict=True)] or [True] * len(self), np.bool_
        )

    def doubted(self, strange: Mapping[str, list[str]]) -> Prediction:
        """The same, abstaining where something is strange."""
        found = replace(self, strange=strange)
        return replace(found, abstained=found.abstained | ~found.familiar)

    def decided(self, remote: Mapping[str, NDArray[np.float32]]) -> Prediction:
        """The same, where banks contradict each other with the answer of that one of them which is most like training.

        remote (B,): by bank, how far its value lies from training; where that is not known of all, the row stays.
        """
        banks = list(self.alone)
        if self.agree.all() or not remote.keys() >= self.alone.keys():
            return self
        # Those that contradict nobody come last, also where all others are infinitely far.
        far = [np.where(self.opposed[bank], np.minimum(remote[bank], FAR), np.inf) for bank in banks]
        nearest = np.argmin(far, axis=0)
        found = replace(self, decider=["" if agree else banks[n] for agree, n in zip(self.agree, nearest, strict=True)])
        for place, bank in enumerate(banks):
            own, rows = self.alone[bank], ~self.agree & (nearest == place)
            found = replace(
                found,
                label=np.where(rows, own.label, found.label),
                probability=np.where(rows, own.probability, found.probability),
                probabilities=np.where(rows[:, None], own.probabilities, found.probabilities),
                members=np.where(rows[:, None], own.members, found.members),
            )
        return found

    def at(self, row: int) -> Prediction:
        """One row of it; what is asked of one row of many would else be made for all of them, each time."""
        own = slice(row, row + 1)
        return replace(
            self,
            label=self.label[own],
            probability=self.probability[own],
            probabilities=self.probabilities[own],
            alone={bank: said.at(row) for bank, said in self.alone.items()},
            members=self.members[own],
            agree=self.agree[own],
            opposed={bank: rows[own] for bank, rows in self.opposed.items()},
            decider=self.decider[own],
            abstained=self.abstained[own],
            strange={bank: why[own] for bank, why in self.strange.items()},
            trained={bank: rows[own] for bank, rows in self.trained.items()},
        )

    @property
    def comparable(self) -> bool:
        """Whether at least two banks have answers of their own, so that `agree` says something."""
        return len(self.alone) > 1

    def __len__(self) -> int:
        return len(self.label)

    def __repr__(self) -> str:
        first = [f"{name} {share:.4f}" for name, share in zip(self.names[:SHOWN], self.probability, strict=False)]
        return f"Prediction({', '.join(first)}{f', ... {len(self)} rows' if len(self) > SHOWN else ''})"


def as_prediction(
    logits: Tensor,
    alone: Mapping[str, Tensor],
    classes: tuple[str, ...],
    calibration: Calibration,
    caution: Caution,
    present: Mapping[str, NDArray[np.bool_]] = {},
) -> Prediction:
    """A Prediction from logits (B, C) and those of each bank alone, of the banks that a calibration knows.

    present (B,): by bank, which rows have a value in it, all if not given; what is said of no value contradicts none.
    Raises InputError where logits are not finite, as inputs of absurd size can make them.
    """
    known = {bank: scale for bank, scale in calibration.alone.items() if bank in alone}
    said = {bank: scaled(alone[bank], scale, classes, caution) for bank, scale in known.items()}
    found = scaled(logits, calibration.fused, classes, caution)
    opposed = contradicting(said, calibration.agreement or 0.0, present)
    apart = np.logical_or.reduce([np.zeros(len(found), np.bool_), *opposed.values()])
    return replace(found, alone=said, agree=~apart, opposed=opposed, abstained=found.abstained | apart)


def contradicting(
    said: Mapping[str, Prediction], least: float, present: Mapping[str, NDArray[np.bool_]]
) -> dict[str, NDArray[np.bool_]]:
    """By bank, in which rows (B,) it and another one, which both have a value, name different classes and agree less
    than that."""
    found = {bank: np.zeros(len(own), np.bool_) for bank, own in said.items()}
    for one, other in itertools.combinations(said, 2):
        both = [torch.from_numpy(said[bank].probabilities).double() for bank in (one, other)]
        apart = (said[one].label != said[other].label) & (agreement(both) < AS_GREAT * least).numpy()
        for bank in (one, other):
            found[bank] |= apart & present.get(one, True) & present.get(other, True)
    return found


def scaled(logits: Tensor, scale: Scale, classes: tuple[str, ...], caution: Caution) -> Prediction:
    """A Prediction of one scale: the class is that of the greatest logit, also where probabilities are equal."""
    if not bool(torch.isfinite(logits).all()):
        raise InputError("the model's scores must be finite, got NaN or infinity: an input is absurdly large")
    label = logits.argmax(1, keepdim=True)
    shares = (logits.double() / scale.temperature).softmax(1)
    sure = shares.gather(1, label)[:, 0].float().numpy()
    threshold = 0.0 if caution.abstain_at is None else scale.risk.threshold(caution.abstain_at)
    members = (shares >= AS_GREAT * scale.least(caution.coverage)).scatter(1, label, True)
    return Prediction(
        label=label[:, 0].numpy(),
        probability=sure,
        probabilities=shares.float().numpy(),
        classes=classes,
        alone={},
        members=members.numpy(),
        agree=np.ones(len(label), np.bool_),
        abstained=sure < threshold,
        threshold=threshold,
    )

"""One number that logits are divided by, so that a probability is the share of answers that are right.

Guo et al., "On Calibration of Modern Neural Networks" (2017), section 4.2. No answer becomes another one by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from mmtune.train.metrics import confidence_of

LIMIT = 3.0
"""The natural logarithm of a temperature lies in [-LIMIT, LIMIT]."""
CELLS = 2**20
"""Of so many logits at once probabilities are made."""
PRECISION = 1e-4


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the least cross-entropy of logits (N, C) / temperature against labels (N,) int64.

    Where no row is wrong any sharper answer has less: there a label counts for (N + 1) / (N + 2) and the other classes
    for the rest (Platt, "Probabilistic outputs for support vector machines", 1999, section 2.2). 1 where there is no
    row. Beyond the limits the nearer one (`at_limit`).
    """
    if not len(logits):
        return 1.0
    from scipy.optimize import brentq

    own = logits.gather(1, labels[:, None])[:, 0].double()
    if bool((logits.argmax(1) == labels).all()):
        rest = (logits.sum(1, dtype=torch.float64) - own) / (logits.shape[1] - 1)
        own = own + (rest - own) / (len(logits) + 2)
    # The cross-entropy is convex in 1 / temperature: its slope rises, and is 0 once.
    ends = {end: slope(logits, own, math.exp(end)) for end in (-LIMIT, LIMIT)}
    if ends[-LIMIT] >= 0:
        return math.exp(LIMIT)
    if ends[LIMIT] <= 0:
        return math.exp(-LIMIT)
    found = brentq(lambda sharpness: slope(logits, own, math.exp(sharpness)), -LIMIT, LIMIT, xtol=PRECISION)
    return math.exp(-float(found))


def at_limit(temperature: float) -> bool:
    """Whether a temperature is as far as it may go, so that another one might have been better."""
    return abs(math.log(temperature)) > LIMIT - PRECISION


def slope(logits: Tensor, own: Tensor, sharpness: float) -> float:
    """The slope of the summed cross-entropy of sharpness * logits (N, C) over the sharpness, 1 / temperature.

    own (N,) float64: of each row the logit of its label.
    """

    def of_rows(part: Tensor) -> Tensor:
        exact = part.double()
        return (exact * (sharpness * exact).softmax(1)).sum(1)

    return float((by_rows(of_rows, logits) - own).sum())


def by_rows(function: Callable[..., Tensor], logits: Tensor, *others: Tensor) -> Tensor:
    """What a function (B, C), ... -> (B,) makes of N rows, asked for so many at a time that its copies stay small."""
    rows = max(1, CELLS // logits.shape[1])
    return torch.cat([function(*part) for part in zip(*(own.split(rows) for own in (logits, *others)), strict=True)])


def scaled_confidence(logits: Tensor, temperature: float) -> Tensor:
    """The probability of the class that is predicted from logits / temperature, (N,) float64."""
    return by_rows(lambda part: confidence_of(part.double() / temperature), logits)


def cross_fitted(logits: Tensor, labels: Tensor, units: Tensor) -> Tensor | None:
    """The confidence (N,) float64 of rows by a temperature that was fitted on others; None where all are one unit.

    units (N,) int64: rows of one unit are not independent. Half of them by chance, of each class alike, are measured by
    the temperature of the others, and these by theirs.
    """
    kinds, number = torch.unique(units, return_inverse=True)
    if len(kinds) < 2:
        return None
    label_of = labels.new_zeros(len(kinds)).scatter_reduce(0, number, labels, "amax").cpu()
    order = torch.randperm(len(kinds), generator=torch.Generator().manual_seed(0))
    half = torch.empty(len(kinds), dtype=torch.bool)
    half[order[label_of[order].argsort(stable=True)]] = torch.arange(len(kinds)) % 2 == 1
    second = half.to(number.device)[number]
    found = torch.empty(len(logits), dtype=torch.float64, device=logits.device)
    for own in (second, ~second):
        found[own] = scaled_confidence(logits[own], fit_temperature(logits[~own], labels[~own]))
    return found

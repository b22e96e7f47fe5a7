"""What validation rows say of a trained model's confidence, measured once at the end of a trial and kept beside it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmtune.train.evaluate import SCALED, Evaluation
from mmtune.train.metrics import probable
from mmtune.train.scale import Scale, bins_of, ranks_of, risk_of
from mmtune.train.temperature import by_rows, cross_fitted, fit_temperature, scaled_confidence

FALSE_ALARMS = 0.0075
"""The share of validation rows whose banks would be said to contradict one another; of new recordings it is more."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How the answers of a model are to be taken, and those of each bank by itself.

    agreement: the least probability that two banks name the same class, as independent witnesses, below which they
    contradict one another; None where fewer than two have answers of their own.
    """

    fused: Scale
    alone: Mapping[str, Scale]
    agreement: float | None

    def metrics(self) -> dict[str, float]:
        """temperature, val_calibration_error_scaled; of each bank its temperature and both errors, as val_..._alone."""
        found = {"temperature": self.fused.temperature}
        if self.fused.after is not None:
            found[f"val_{SCALED}"] = self.fused.after.error
        for bank, scale in self.alone.items():
            found |= {f"temperature_{bank}": scale.temperature, f"val_calibration_error_{bank}": scale.before.error}
            if scale.after is not None:
                found[f"val_{SCALED}_{bank}"] = scale.after.error
        return found

    def of(self, bank: str) -> Calibration:
        """That of a bank's own answers."""
        return Calibration(fused=self.alone[bank], alone={}, agreement=None)

    def told(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)


def calibrate(found: Evaluation, units: NDArray[np.int64], there: Mapping[str, NDArray[np.bool_]]) -> Calibration:
    """A Calibration from what a model says of N validation rows; units (N,): of what is not independent.

    there (N,): by bank, which rows have a value in it; what a bank says of no value counts for nothing.
    """
    of_row = torch.from_numpy(units).to(found.labels.device)
    spoken = [bank for bank in found.alone if bank in there and there[bank].any()]
    given = {bank: torch.from_numpy(there[bank]).to(found.labels.device) for bank in spoken}
    scales = {bank: scale_of(found.alone[bank][own], found.labels[own], of_row[own]) for bank, own in given.items()}
    return Calibration(
        fused=scale_of(found.logits, found.labels, of_row),
        alone=scales,
        agreement=least_agreement(found, units, given, scales),
    )


def scale_of(logits: Tensor, labels: Tensor, units: Tensor) -> Scale:
    """The Scale of logits (N, C) against labels (N,)."""
    temperature = fit_temperature(logits, labels)
    right, own = (logits.argmax(1) == labels).cpu().numpy(), units.cpu().numpy()
    true = by_rows(
        lambda part, label: probable(part.double() / temperature).gather(1, label[:, None])[:, 0], logits, labels
    )
    apart = cross_fitted(logits, labels, units)
    return Scale(
        temperature=temperature,
        units=len(np.unique(own)),
        risk=risk_of(scaled_confidence(logits, temperature).cpu().numpy(), right, own),
        ranks=ranks_of((1 - true).clamp(min=0).cpu().numpy()),
        before=bins_of(scaled_confidence(logits, 1.0).cpu().numpy(), right),
        after=None if apart is None else bins_of(apart.cpu().numpy(), right),
    )


def least_agreement(
    found: Evaluation, units: NDArray[np.int64], given: Mapping[str, Tensor], scales: Mapping[str, Scale]
) -> float | None:
    """The agreement that all but FALSE_ALARMS of the rows reach which have a value in all of `given`."""
    if len(given) < 2:
        return None
    whole = torch.stack(list(given.values())).all(0)
    if not bool(whole.any()):
        return None
    temperatures = [scales[bank].temperature for bank in given]

    def of_rows(*logits: Tensor) -> Tensor:
        return agreement([probable(own.double() / by) for own, by in zip(logits, temperatures, strict=True)])

    reached = by_rows(of_rows, *(found.alone[bank][whole] for bank in given)).sort().values
    count = len(np.unique(units[whole.cpu().numpy()]))
    # As of a conformal quantile: of too few units even the least agreement is no alarm.
    return float(reached[len(reached) * int((count + 1) * FALSE_ALARMS) // count])


def agreement(said: Sequence[Tensor]) -> Tensor:
    """From the probabilities (B, C) of each bank alone, how probable it is that two of them mean the same class, (B,).

    They count as independent; of more than two banks it is that of the two which agree least.
    """
    pairs = [(one * other).sum(1) for one, other in itertools.combinations(said, 2)]
    return torch.stack(pairs).amin(0)

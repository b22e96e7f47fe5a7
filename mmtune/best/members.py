"""Which trained networks answer together, chosen by validation rows.

Greedy selection with replacement (Caruana et al., "Ensemble selection from libraries of models", 2004) by the log loss,
which still tells models apart where all have the same few rows wrong; over many samples of the rows, as one selection
by all of them goes by what is chance in them (Caruana et al., "Getting the most out of ensemble selection", 2006). A
soup (Wortsman et al., 2022) is the mean of the weights of several trainings of one configuration.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmtune.networks.config.ensemble import Ensemble
from mmtune.networks.storage import Loaded, filled, load_model
from mmtune.tracking import TrialRun
from mmtune.train.batches import Resident, Rows
from mmtune.train.evaluate import evaluate
from mmtune.train.temperature import fit_temperature
from mmtune.train.trial import take

MOST_DRAWN, MOST_MEMBERS = 12, 5
"""So often a member is drawn, of so many different ones: each costs time whenever the model is asked."""
SAMPLES = 20
SMALLEST = 1e-7
Shares = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """A trained network that answers beside others. temperature: what its logits are divided by before."""

    name: str
    run: TrialRun
    loaded: Loaded
    temperature: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate(Member):
    """One that may become a member. shares: its calibrated probabilities of V validation rows, (V, C)."""

    shares: Shares


@dataclass(frozen=True, kw_only=True, eq=False)
class Validation:
    """The rows that candidates are asked about, by their numbers (V,): each network reads banks of its own."""

    resident: Resident
    numbers: NDArray[np.int64]

    def rows(self, loaded: Loaded) -> Rows:
        """As a network reads them."""
        return take(self.resident.rows(loaded.config.reads), self.numbers)

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of each row, (V,)."""
        return self.resident.partition.labels[self.numbers]

    def __len__(self) -> int:
        return len(self.numbers)


def candidate(name: str, run: TrialRun, folder: Path, asked: Validation) -> Candidate:
    """The trained network in a folder, asked about validation rows."""
    loaded = load_model(folder)
    temperature, shares = answered(loaded, asked.rows(loaded))
    return Candidate(name=name, run=run, loaded=loaded, temperature=temperature, shares=shares)


def answered(loaded: Loaded, rows: Rows) -> tuple[float, Shares]:
    """The temperature that fits what a network says of rows, and its probabilities (N, C) by that."""
    found = evaluate(loaded.model, rows)
    temperature = fit_temperature(found.logits, found.labels)
    return temperature, torch.softmax(found.logits.double() / temperature, dim=1).numpy()


def log_loss(shares: Shares, labels: NDArray[np.int64]) -> float:
    """The mean negative logarithm of the share (N, C) that the true class (N,) has."""
    return loss_of(of_label(shares, labels))


def of_label(shares: Shares, labels: NDArray[np.int64]) -> Shares:
    """The share (N,) that the true class has."""
    found: Shares = shares[np.arange(len(labels)), labels]
    return found


def loss_of(own: Shares) -> float:
    """The mean negative logarithm of the shares (N,) that true classes have."""
    return float(-np.log(np.maximum(own, SMALLEST)).mean())


def drawn_members(shares: Sequence[Shares], labels: NDArray[np.int64]) -> dict[int, int]:
    """How often each of several models (N, C) is drawn, by its place, all in all by SAMPLES samples of the N rows.

    A sample has as many rows, drawn with replacement. The MOST_MEMBERS that are drawn most often are kept.
    """
    own = np.stack([of_label(one, labels) for one in shares])
    rng, drawn = np.random.default_rng(0), Counter[int]()
    for _ in range(SAMPLES):
        drawn.update(greedy(own[:, rng.integers(len(labels), size=len(labels))]))
    return dict(drawn.most_common(MOST_MEMBERS))


def greedy(own: Shares) -> dict[int, int]:
    """How often each of several models is drawn, by its place: each draw the one with which the mean loses least.

    own: the shares (K, N) that each of K gives the true classes. It ends where no draw makes the loss less, after
    MOST_DRAWN; of MOST_MEMBERS different ones no other is drawn.
    """
    drawn: dict[int, int] = {}
    total, least = np.zeros_like(own[0]), np.inf
    for count in range(1, MOST_DRAWN + 1):
        open_to = range(len(own)) if len(drawn) < MOST_MEMBERS else list(drawn)
        losses = {place: loss_of((total + own[place]) / count) for place in open_to}
        best = min(losses, key=lambda place: losses[place])
        if losses[best] >= least:
            break
        least, total = losses[best], total + own[best]
        drawn[best] = drawn.get(best, 0) + 1
    return drawn


def ensemble_of(candidates: Sequence[Member], drawn: Mapping[int, int]) -> Loaded:
    """The network in which those that were drawn, by their places, answer together, each as often as it was drawn."""
    count = sum(drawn.values())
    own = {candidates[place].name: (candidates[place], times / count) for place, times in drawn.items()}
    config = Ensemble(
        members={name: one.loaded.config for name, (one, _) in own.items()},
        weights={name: weight for name, (_, weight) in own.items()},
        temperatures={name: one.temperature for name, (one, _) in own.items()},
    )
    weights = {
        f"members.{name}.{path}": tensor
        for name, (one, _) in own.items()
        for path, tensor in one.loaded.model.state_dict().items()
    }
    shapes = next(iter(own.values()))[0].loaded.shapes
    return Loaded(model=filled(config, shapes, weights).eval(), config=config, shapes=shapes)


def soups(candidates: Sequence[Candidate]) -> list[list[int]]:
    """The places of candidates that share a configuration, of each that several have."""
    by_config: dict[str, list[int]] = {}
    for place, one in enumerate(candidates):
        by_config.setdefault(repr(one.loaded.config), []).append(place)
    return [own for own in by_config.values() if len(own) > 1]


def soup_of(candidates: Sequence[Candidate], places: Sequence[int]) -> Loaded:
    """The network with the mean of the weights of candidates that share a configuration."""
    first = candidates[places[0]].loaded
    states = [candidates[place].loaded.model.state_dict() for place in places]
    mean = {name: mean_of([state[name] for state in states]) for name in states[0]}
    return replace(first, model=filled(first.config, first.shapes, mean).eval())


def mean_of(tensors: Sequence[Tensor]) -> Tensor:
    """The mean of tensors of a type; of whole numbers, which count batches, the first."""
    return torch.stack(list(tensors)).mean(dim=0) if tensors[0].is_floating_point() else tensors[0]

"""Statistics of batch norms that are made anew: those of all training rows, by torch's own way, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from mmtune.data.dataset import Dataset
from mmtune.networks.config import MLP, LateFusion, SmallResNet
from mmtune.networks.encoders.over_time import FeatureNorm
from mmtune.networks.layers import BatchNorm2d, Dropout
from mmtune.networks.papers.keras import BatchNormOverTime, WarmNorm1d, WarmNorm2d
from mmtune.networks.shapes import Shapes
from mmtune.train.batches import Held, Rows, batch_sizes
from mmtune.train.checkpoint import Moment
from mmtune.train.fit import fit
from mmtune.train.recipe import Train, TrialConfig
from mmtune.train.statistics import renew

COUNT = 60


class Over(nn.Module):
    """A norm of a bank, after a layer with dropout, and logits of it."""

    def __init__(self, norm: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.drop, self.norm, self.over_time = Dropout(0.5), norm, isinstance(norm, BatchNormOverTime)
        self.out = nn.Linear(int(torch.tensor(shape).prod()), 3)

    def forward(self, bank: Tensor) -> Tensor:
        made = self.drop(3 * bank + 1)
        made = self.norm(made, torch.ones(made.shape[:2], dtype=torch.bool)) if self.over_time else self.norm(made)
        return self.out(made.flatten(1))


NORMS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "torch": (lambda: nn.BatchNorm1d(4), (4,)),
    "no momentum": (lambda: nn.BatchNorm1d(4, momentum=None), (4,)),
    "maps": (lambda: BatchNorm2d(4), (4, 5, 6)),
    "features": (lambda: FeatureNorm(4), (5, 4)),
    "warm": (lambda: WarmNorm1d(4), (4,)),
    "warm maps": (lambda: WarmNorm2d(4), (4, 5, 6)),
    "over time": (lambda: BatchNormOverTime(5), (5, 4)),
}


def rows_of(shape: tuple[int, ...]) -> Rows:
    values = torch.randn(COUNT, *shape, generator=torch.Generator().manual_seed(0)).abs() + 0.1
    held = Held(values, torch.arange(COUNT))
    return Rows(banks={"bank": held}, labels=torch.arange(COUNT) % 3, shapes=Shapes(banks={"bank": shape}, classes=3))


@pytest.mark.parametrize("name", NORMS)
def test_of_all_rows_at_once_they_are_those_of_the_rows(name: str) -> None:
    make, shape = NORMS[name]
    model, rows = Over(make(), shape), rows_of(shape)
    kept = {key: value.clone() for key, value in model.state_dict().items() if "running" not in key}
    momentum = getattr(model.norm, "momentum", 0.0)
    renew(model.train(), rows, COUNT)
    inputs = 3 * rows.batch(torch.arange(COUNT))[0]["bank"] + 1
    own = 2 if name == "features" else 1
    axes = [axis for axis in range(inputs.ndim) if axis != own]
    # Nothing is dropped; ours over time has the variance of the rows themselves, as Keras has.
    biased = name == "over time"
    torch.testing.assert_close(model.norm.running_mean, inputs.mean(axes))
    torch.testing.assert_close(model.norm.running_var, inputs.var(axes, correction=0 if biased else 1))
    assert all(torch.equal(model.state_dict()[key], value) for key, value in kept.items())
    assert getattr(model.norm, "momentum", 0.0) == momentum
    assert model.training
    assert model.norm.training


def test_over_batches_they_are_what_torchs_own_way_makes_of_them() -> None:
    rows = rows_of((4,))
    ours, theirs = (nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 5), nn.ReLU(), nn.BatchNorm1d(5)) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())

    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = ours

        def forward(self, bank: Tensor) -> Tensor:
            return ours(bank)

    renew(Named(), rows, 20)
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0)).split(batch_sizes(COUNT, 20))
    update_bn([rows.batch(batch)[0]["bank"] for batch in order], theirs)
    for place in (0, 3):
        torch.testing.assert_close(ours[place].running_mean, theirs[place].running_mean)
        torch.testing.assert_close(ours[place].running_var, theirs[place].running_var)


NET = LateFusion(encoders={"image": SmallResNet(width=8, channels=4), "audio": MLP(width=8, hidden=16, norm="batch")})


def trained(tiny: Dataset, **changes: Any) -> Any:
    from mmtune.train.batches import rows_of as rows_of_data

    rows = rows_of_data(tiny.train, 10, NET.reads)
    train, validation = rows.take(torch.arange(240)), rows.take(torch.arange(240, 300))
    more = {name: changes.pop(name) for name in ("moment", "on_moment", "every") if name in changes}
    recipe = Train(**{"epochs": 4, "batch_size": 120, "learning_rate": 0.01, "keep_final": True, **changes})
    return fit(TrialConfig(model=NET, train=recipe), train, validation, 0, **more)


def test_training_is_the_same_and_what_is_evaluated_does_not_lag(tiny: Dataset) -> None:
    usual, anew = (trained(tiny, statistics=own) for own in ("running", "anew"))
    lists = [[epoch["train_loss"] for epoch in own.history] for own in (usual, anew)]
    assert lists[0] == lists[1]
    weights = {name for name, _ in usual.model.named_parameters()}
    assert all(torch.equal(anew.final.weights[name], usual.final.weights[name]) for name in weights)
    # Two batches an epoch: running statistics are mostly those of the beginning.
    assert anew.history[-1]["val_loss"] < usual.history[-1]["val_loss"]


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_training_that_was_cut_goes_on_to_the_same_statistics(tiny: Dataset, ema: float) -> None:
    moments: list[Moment] = []
    whole = trained(tiny, statistics="anew", ema=ema, on_moment=moments.append, every=0.0)
    on = trained(tiny, statistics="anew", ema=ema, moment=moments[1])
    assert [without_seconds(epoch) for epoch in on.history] == [without_seconds(epoch) for epoch in whole.history]
    for name, value in whole.model.state_dict().items():
        assert torch.equal(on.model.state_dict()[name], value)


def without_seconds(epoch: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in epoch.items() if name != "epoch_seconds"}

"""What a network relies on: Shapley's axioms, and networks of which it is known."""

from __future__ import annotations

from collections.abc import Collection
from itertools import permutations

import pytest
import torch
from torch import Tensor, nn

from mmtune.base.errors import InputError
from mmtune.networks import MLP, LateFusion
from mmtune.networks.shapes import Shapes
from mmtune.train.batches import Held, Rows
from mmtune.train.fit import fit
from mmtune.train.recipe import Train, TrialConfig
from mmtune.train.reliance import reliance, shapley

SHAPES = Shapes(banks={"one": (4,), "two": (4,)}, classes=4)


class Listens(nn.Module):
    """Says the class that stands in the banks that it listens to."""

    def __init__(self, *banks: str) -> None:
        super().__init__()
        self.banks = banks

    def forward(self, **given: Tensor) -> Tensor:
        return torch.stack([given[bank] for bank in self.banks]).sum(0)


def rows(count: int = 400, seed: int = 0) -> Rows:
    """Rows whose class stands in both banks."""
    labels = torch.randint(4, (count,), generator=torch.Generator().manual_seed(seed))
    held = Held(values=torch.eye(4), index=labels, gaps=False)
    return Rows(banks={"one": held, "two": held}, labels=labels, shapes=SHAPES)


def test_shapley_is_the_mean_gain_over_all_orders() -> None:
    def worth(own: Collection[str]) -> float:
        return len(own) ** 2 + 3.0 * ("a" in own) * ("c" in own)

    found, orders = shapley("abc", worth), list(permutations("abc"))
    for player in "abc":
        gains = [worth(o[: o.index(player) + 1]) - worth(o[: o.index(player)]) for o in orders]
        assert found[player] == pytest.approx(sum(gains) / len(orders))
    assert sum(found.values()) == pytest.approx(worth("abc") - worth(""))


def test_a_network_relies_on_what_it_listens_to() -> None:
    found = reliance(Listens("one"), rows(), 400)
    assert found["two"] == 0
    assert found["one"] == pytest.approx(0.75, abs=0.06)


def test_of_two_that_say_the_same_each_makes_half() -> None:
    """Where they differ both classes are as likely, and the first is taken: which of them that is is chance."""
    found = reliance(Listens("one", "two"), rows(2000), 2000)
    assert found["one"] == pytest.approx(found["two"], abs=0.05)


def test_it_is_the_same_every_time_and_asks_no_more_rows_than_it_may() -> None:
    assert reliance(Listens("one"), rows(), 50) == reliance(Listens("one"), rows(), 50)
    few = reliance(Listens("one"), rows(), 50)["one"]
    assert (few * 50) % 1 == pytest.approx(0, abs=1e-6) or (few * 50) % 1 == pytest.approx(1, abs=1e-6)


def test_each_epoch_says_so_and_the_training_is_none_the_different() -> None:
    config = LateFusion(encoders={"one": MLP(width=8), "two": MLP(width=8)})
    plain = fit(TrialConfig(model=config, train=Train(epochs=2)), rows(), rows(seed=1), 0)
    watched = fit(TrialConfig(model=config, train=Train(epochs=2, reliance=100)), rows(), rows(seed=1), 0)
    for before, after in zip(plain.history, watched.history, strict=True):
        assert {name for name in after if name not in before} == {"val_reliance_one", "val_reliance_two"}
        assert before["val_loss"] == after["val_loss"]


def test_of_one_bank_and_of_too_many_it_is_refused() -> None:
    with pytest.raises(InputError, match="reliance must be 0 for a network that reads one alone, got 9"):
        TrialConfig(model=LateFusion(encoders={"one": MLP()}), train=Train(reliance=9))
    many = LateFusion(encoders={f"bank_{n}": MLP() for n in range(7)})
    with pytest.raises(InputError, match="reliance must be 0 for a network that reads more than 6 banks, got 7"):
        TrialConfig(model=many, train=Train(reliance=9))

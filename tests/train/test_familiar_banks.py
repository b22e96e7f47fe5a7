"""A garbage bank is told whatever stands beside it, and no value is both learnt from and checked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mmtune.data.dataset import Bank, Partition
from mmtune.networks.config.encoders import MLP
from mmtune.networks.config.late import EarlyFusion, LateFusion
from mmtune.networks.vectors import TOGETHER
from mmtune.train.batches import Rows, rows_of
from mmtune.train.familiar_banks import familiar_banks, rows_apart, vectors_at

TRAIN, VALIDATION = np.arange(300), np.arange(300, 400)


@pytest.fixture(scope="module")
def rows() -> Rows:
    """400 rows of two vectors each: 400 of `seen`, 80 of `heard`, every one in five rows; the last 20 have none."""
    rng = np.random.default_rng(0)
    seen, heard = (rng.normal(3, 1, (count, 6)).astype(np.float32) for count in (400, 80))
    index = np.arange(400) // 5
    index[-20:] = -1
    banks = {"seen": Bank(values=seen, index=np.arange(400)), "heard": Bank(values=heard, index=index)}
    return rows_of(Partition(banks=banks, labels=np.arange(400) % 3, groups={}), 3, ("seen", "heard"), ("heard",))


def late(rows: Rows) -> nn.Module:
    torch.manual_seed(0)
    return LateFusion(encoders={"seen": MLP(width=4), "heard": MLP(width=4)}).build(rows.shapes)


def test_only_the_strange_bank_is_told(rows: Rows) -> None:
    model = late(rows)
    found = familiar_banks(model, rows, TRAIN, VALIDATION, seed=0)
    assert model.training
    assert found.keys() == {"seen", "heard"}
    good = vectors_at(model.eval(), rows, VALIDATION[:50], "seen")
    assert found["seen"].familiar(good).mean() > 0.9
    assert not found["heard"].familiar(-vectors_at(model, rows, VALIDATION[:50], "heard")).any()


def test_known_and_checked_values_are_distinct_and_apart(rows: Rows) -> None:
    index = rows.banks["heard"].index.numpy()
    known, checks = rows_apart(rows, "heard", TRAIN, VALIDATION, seed=0)
    assert index[known].tolist() == list(range(60))
    assert index[checks].tolist() == list(range(60, 76))


def test_banks_that_meet_at_once_are_learnt_together(rows: Rows) -> None:
    model = EarlyFusion(reads=("seen", "heard")).build(rows.shapes)
    assert TOGETHER in familiar_banks(model, rows, TRAIN, VALIDATION, seed=0)


def test_too_few_values_say_nothing(rows: Rows) -> None:
    assert familiar_banks(late(rows), rows, TRAIN[:5], VALIDATION, seed=0) == {}

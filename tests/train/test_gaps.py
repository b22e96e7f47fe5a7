"""Rows without a value of a bank count for nothing where that bank is judged."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from mmtune.data.building.arrays import from_arrays
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import split, units
from mmtune.networks.config import MLP, LateFusion, LatentFusionConfig
from mmtune.networks.shapes import Shapes
from mmtune.train.augment import change_of, dropped, exposed
from mmtune.train.batches import rows_of
from mmtune.train.evaluate import Evaluation, evaluate
from mmtune.train.fit import FitResult
from mmtune.train.learner import without_frozen
from mmtune.train.objective import MACRO_F1
from mmtune.train.recipe import Train, TrialConfig
from mmtune.train.trial import cluster_metrics, final_metrics


def test_a_bank_alone_is_judged_by_the_rows_that_have_it() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    one, two = (rng.normal(size=(60, 20)) for _ in range(2))
    two[30:] = np.nan
    data = from_arrays(labels=labels, one=one, two=two, test=np.zeros(60, bool))
    torch.manual_seed(0)
    model = LateFusion(encoders={"one": MLP(), "two": MLP()}).build(
        Shapes(banks={"one": (20,), "two": (20,)}, classes=2)
    )
    found = evaluate(model, rows_of(data.train, 2, ("one", "two"), missing=("two",)))
    hits = found.alone["two"].argmax(1) == found.labels
    assert found.details("val")["val_accuracy_two_alone"] == pytest.approx(float(hits[:30].double().mean()))
    assert "two" in found.there
    assert "one" not in found.there


def test_a_row_with_one_bank_keeps_it() -> None:
    inputs = {"one": torch.ones(4_000, 3), "two": torch.ones(4_000, 2)}
    inputs["two"][:2_000] = 0
    torch.manual_seed(0)
    found, lost = dropped(inputs, 0.5, {"two": torch.arange(4_000) < 2_000})
    assert found["one"][:2_000].any(1).all()
    assert lost["two"][:2_000].all()
    assert (found["one"].any(1) | found["two"].any(1)).all()
    for own in lost.values():
        assert float(own[2_000:].double().mean()) == pytest.approx(0.375, abs=0.04)


@pytest.mark.parametrize("lacks", [False, True])
def test_zeros_are_a_value_where_there_is_one(lacks: bool) -> None:
    """A number may be 0: only a row without one has nothing of its bank."""
    absent = {"flag": torch.arange(4_000) < 1_000} if lacks else {}
    inputs = {"flag": torch.zeros(4_000, 1), "other": torch.ones(4_000, 3)}
    torch.manual_seed(0)
    _, without = dropped(inputs, 0.5, absent)
    _, lost = exposed(inputs, 0.1, absent)
    gone = absent.get("flag", torch.zeros(4_000, dtype=torch.bool))
    assert torch.equal(lost["flag"] & gone, gone)
    assert not lost["flag"][~gone].any()
    assert float(without["other"][~gone].double().mean()) == pytest.approx(0.375, abs=0.04)
    assert not without["other"][gone].any()


def test_what_is_absent_of_a_batch_is_what_has_no_value() -> None:
    one = np.arange(1, 9, dtype=np.float32).reshape(8, 1)
    two = np.zeros((8, 1), np.float32)
    two[::2] = np.nan
    data = from_arrays(labels=np.arange(8) % 2, one=one, two=two, test=np.zeros(8, bool))
    rows = rows_of(data.train, 2, ("one", "two"), missing=("two",))
    assert {bank: own.tolist() for bank, own in rows.absent(torch.arange(4)).items()} == {
        "two": [True, False, True, False]
    }


def test_a_row_that_lacks_a_frozen_bank_keeps_its_other_one() -> None:
    config = TrialConfig(model=LatentFusionConfig(), train=Train(modality_dropout=0.5))
    rng = np.random.default_rng(0)
    audio = rng.normal(size=(40, 39, 13))
    audio[::2] = np.nan
    image = rng.integers(1, 256, size=(40, 28, 28)).astype(np.uint8)
    data = from_arrays(labels=np.arange(40) // 2 % 2, image=image, audio=audio, test=np.zeros(40, bool))
    torch.manual_seed(0)
    rows = rows_of(data.train, 2, ("image", "audio"), missing=("audio",))
    model = config.model.build(Shapes(banks={"image": (1, 28, 28), "audio": (39, 13)}, classes=2))
    _, train, _ = without_frozen(config, model, rows, rows)
    every = torch.arange(40)
    change, (inputs, labels) = change_of(config.train, train), train.batch(every)
    for _ in range(20):
        changed = change(inputs, labels, train.absent(every)).inputs["image"]
        assert torch.equal(changed[::2], inputs["image"][::2])


def test_a_score_that_cannot_be_is_not_tracked() -> None:
    """Of clusters of one row each there is no silhouette."""
    labels, train = torch.arange(5), rows_of(tabular([1] * 5, 5).train, 5, ("x",))
    found = Evaluation(logits=torch.eye(5), labels=labels, embedding=torch.eye(5), parts={"x": 5}, alone={})
    ended = FitResult(model=nn.Identity(), best_epoch=1, history=[{}], final=None, pruned=False, seconds=1.0)
    assert math.isnan(cluster_metrics(found, 0)["val_silhouette"])
    metrics = final_metrics(ended, found, train, 0, MACRO_F1)
    assert "val_ari" in metrics
    assert all(map(math.isfinite, metrics.values()))


def tabular(classes: list[int], distinct: int) -> Dataset:
    """Rows of two numbers, in which so many differ."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(classes)), classes)
    pool = rng.normal(size=(distinct, 2))
    picked = np.concatenate([rng.permutation(distinct)[: len(labels)], rng.integers(distinct, size=len(labels))])
    values = pool[picked[: len(labels)]] + labels[:, None]
    return from_arrays(labels=labels, x=values, test=np.zeros(len(labels), bool))


def test_rows_of_a_few_numbers_that_are_equal_in_everything_are_on_one_side() -> None:
    data = tabular([100, 100], 27)
    own = units(data.train, "disjoint:content")
    values = data.train.banks["x"].index
    assert len(np.unique(own)) == len(np.unique(values)) < 60
    found = split(data.train, "disjoint:content", 0)
    assert not set(values[found.train]) & set(values[found.validation])


@pytest.mark.parametrize("classes", [[100, 2], [200, 2, 2], [30, 2]])
@pytest.mark.parametrize("protocol", ["random", "disjoint:content"])
def test_a_class_of_two_rows_is_on_both_sides(classes: list[int], protocol: str) -> None:
    data = tabular(classes, 1_000)
    for seed in range(5):
        found = split(data.train, protocol, seed)
        for side in (found.train, found.validation):
            assert set(data.train.labels[side]) == set(range(len(classes)))


def test_a_bank_that_a_frozen_encoder_goes_without_is_what_it_makes_of_zeros() -> None:
    """As it will be where the bank is missing, not a vector that it never makes."""
    shapes = Shapes(banks={"image": (1, 28, 28), "audio": (39, 13)}, classes=2)
    config = TrialConfig(model=LatentFusionConfig(), train=Train(modality_dropout=0.5))
    rng = np.random.default_rng(0)
    data = from_arrays(
        labels=np.arange(40) % 2,
        image=rng.integers(256, size=(40, 28, 28)).astype(np.uint8),
        audio=rng.normal(size=(40, 39, 13)),
        test=np.zeros(40, bool),
    )
    torch.manual_seed(0)
    model, rows = config.model.build(shapes), rows_of(data.train, 2, ("image", "audio"))
    _, train, _ = without_frozen(config, model, rows, rows)
    black = model.encoders["image"](torch.zeros(1, 1, 28, 28))
    assert black.any()
    inputs, labels = train.batch(torch.arange(40))
    changed = change_of(config.train, train)(inputs, labels, {}).inputs["image"]
    kept = (changed == inputs["image"]).all(1)
    assert 0 < int(kept.sum()) < 40
    torch.testing.assert_close(changed[~kept], black.expand(40, -1)[~kept], rtol=1e-4, atol=1e-5)

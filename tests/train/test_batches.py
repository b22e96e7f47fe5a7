"""Rows over shared values: what a network is given of a batch, with gaps as zeros, and what it may learn before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmtune.base.errors import InputError
from mmtune.data.building.arrays import from_arrays
from mmtune.data.dataset import Bank, Dataset, Partition
from mmtune.data.protocols import split
from mmtune.networks.output import Output, answer, parts_of
from mmtune.networks.shapes import Shapes
from mmtune.networks.storage import load_model
from mmtune.train.batches import Resident, Rows, Training, rows_of
from mmtune.train.evaluate import evaluate
from mmtune.train.fit import fit
from mmtune.train.recipe import Train, TrialConfig
from mmtune.train.staging import FILES
from mmtune.train.trial import run_trial

CPU = torch.device("cpu")
READS = ("grey", "colour", "sound", "vector")


def partition() -> Partition:
    """Six rows: banks of each type; sounds are shared, and two rows have no vector."""
    rng = np.random.default_rng(0)
    every = np.arange(6)
    return Partition(
        banks={
            "grey": Bank(values=rng.integers(0, 256, (6, 5, 4), dtype=np.uint8), index=every[::-1].copy()),
            "colour": Bank(values=rng.integers(0, 256, (6, 3, 5, 4), dtype=np.uint8), index=every),
            "sound": Bank(values=np.array([[-32768, 0], [16384, 32767]], np.int16), index=np.array([0, 1, 1, 1, 0, 1])),
            "vector": Bank(values=rng.normal(size=(3, 2)).astype(np.float32) + 5, index=np.array([0, -1, 2, 1, -1, 1])),
        },
        labels=np.array([0, 1, 2, 0, 1, 2]),
        groups={},
    )


def rows() -> Rows:
    return rows_of(partition(), 3, READS, missing=("vector",))


def test_a_batch_is_what_each_row_has_in_every_bank() -> None:
    own, pick = partition(), np.array([5, 0, 3])
    inputs, labels = rows().batch(torch.from_numpy(pick))
    assert list(inputs) == list(READS)
    found = {name: value.numpy() for name, value in inputs.items()}
    assert all(value.dtype == np.float32 for value in found.values())
    np.testing.assert_allclose(found["grey"], own.banks["grey"].of_rows(pick)[:, None] / 255, rtol=1e-6)
    np.testing.assert_allclose(found["colour"], own.banks["colour"].of_rows(pick) / 255, rtol=1e-6)
    assert found["sound"].tolist() == [[0.5, 32767 / 32768], [-1, 0], [0.5, 32767 / 32768]]
    np.testing.assert_array_equal(found["vector"], own.banks["vector"].of_rows(pick))
    assert labels.tolist() == [2, 0, 0]


def test_shapes_are_those_of_a_batch() -> None:
    inputs, _ = rows().batch(torch.arange(2))
    assert rows().shapes == Shapes(banks={name: tuple(x.shape[1:]) for name, x in inputs.items()}, classes=3)


def test_a_gap_is_zeros_and_no_other_row_is() -> None:
    vector = rows().batch(torch.arange(6))[0]["vector"]
    assert [bool((own == 0).all()) for own in vector] == [False, True, False, False, True, False]
    taken = rows().take(torch.tensor([4, 2, 1])).batch(torch.tensor([2, 1, 0]))[0]["vector"]
    torch.testing.assert_close(taken, vector[[1, 2, 4]])


def test_a_bank_without_any_value_is_zeros() -> None:
    own = partition()
    empty = Bank(values=np.zeros((0, 7), np.float32), index=np.full(6, -1))
    made = rows_of(replace(own, banks={**own.banks, "vector": empty}), 3, READS, missing=("vector",))
    assert torch.equal(made.batch(torch.tensor([1, 4]))[0]["vector"], torch.zeros(2, 7))


def test_rows_that_are_taken_share_the_values() -> None:
    made = rows()
    taken = made.take(torch.tensor([1, 1, 5]))
    assert len(taken) == 3
    assert taken.labels.tolist() == [1, 1, 2]
    for name, held in taken.banks.items():
        assert held.values is made.banks[name].values
    assert taken.banks["sound"].index.tolist() == [1, 1, 1]


def test_gaps_are_refused_unless_the_study_can_live_with_them() -> None:
    with pytest.raises(InputError, match=r"2 of 6 rows have no vector: .*missing=\('vector',\)"):
        rows_of(partition(), 3, READS)
    assert len(rows_of(partition(), 3, ("grey", "sound"))) == 6
    with pytest.raises(InputError, match="this model reads taste, the data set has grey, colour, sound, vector"):
        rows_of(partition(), 3, ("taste",))


def test_training_has_each_value_once_with_how_many_rows_use_it() -> None:
    training = Training(rows().take(torch.tensor([0, 1, 2, 3, 3])))
    assert list(training) == list(READS)
    assert len(training) == 4
    sound, counts = training["sound"]
    assert sound.tolist() == [[-1, 0], [0.5, 32767 / 32768]]
    assert counts.tolist() == [1, 4]
    vector, counts = training["vector"]
    # A gap is no value.
    np.testing.assert_array_equal(vector, partition().banks["vector"].values)
    assert counts.tolist() == [1, 2, 1]
    assert training["grey"][0].shape == (4, 1, 5, 4)


@pytest.mark.parametrize("bank", READS)
def test_training_is_the_rows_it_is_made_of(bank: str) -> None:
    """The values, each as often as it is used, are those of the batch of all rows but for gaps."""
    made = rows().take(torch.tensor([0, 0, 2, 3, 5, 1]))
    values, counts = Training(made)[bank]
    batch = made.batch(torch.arange(len(made)))[0][bank][made.banks[bank].index >= 0]
    ours, theirs = (sorted(x.flatten(1).tolist()) for x in (values.repeat_interleave(counts, 0), batch))
    assert ours == theirs


def test_a_bank_is_held_once_for_all_that_read_it(tiny: Dataset) -> None:
    data = Resident(tiny.train, 10, CPU)
    assert data.rows(("image", "audio")).banks["image"] is data.rows(("image",)).banks["image"]
    assert "waveform" not in data.held
    assert data.rows(("image",)).whole


# ---- networks of anybody's


@dataclass(frozen=True)
class PlainConfig:
    """A network without a base class of ours, which returns its logits alone."""

    reads: ClassVar[tuple[str, ...]] = ("table", "sound")
    width: int = 8

    def build(self, shapes: Shapes) -> nn.Module:
        return Plain(self.width, shapes)


class Plain(nn.Module):
    def __init__(self, width: int, shapes: Shapes) -> None:
        super().__init__()
        self.table, self.sound = nn.Linear(*shapes["table"], width), nn.Linear(*shapes["sound"], width)
        self.last = nn.Linear(2 * width, shapes.classes)

    def forward(self, table: Tensor, sound: Tensor) -> Tensor:
        return self.last(torch.cat([self.table(table), self.sound(sound)], dim=1).relu())


def gapped(count: int = 120) -> Dataset:
    """Three classes that either bank tells apart; a third of the rows has no sound."""
    rng = np.random.default_rng(1)
    labels = np.arange(count) % 3
    table = np.eye(3, 20)[labels] * 3 + rng.normal(0, 0.2, (count, 20))
    sound = np.eye(3, 30)[labels] * 3 + rng.normal(0, 0.2, (count, 30))
    sound[np.arange(count) // 3 % 3 == 0] = np.nan
    return from_arrays(labels=labels, table=table, sound=sound, name="gapped")


def test_plain_logits_are_their_own_embedding() -> None:
    logits = torch.rand(4, 3)
    for model, said in ((lambda x: logits, logits), (lambda x: Output(logits, logits[:, :2]), logits[:, :2])):
        found = answer(model, {"x": logits})  # type: ignore[arg-type]
        assert found.logits is logits
        torch.testing.assert_close(found.embedding, said)
        assert found.alone == {}
    assert parts_of(nn.Identity(), logits) == {"embedding": 3}


@pytest.mark.parametrize(
    "made", [None, (torch.rand(2, 3),), {"logits": torch.rand(2, 3)}, 3.0], ids=lambda made: type(made).__name__
)
def test_what_is_no_answer_is_refused_in_a_line(made: Any) -> None:
    with pytest.raises(InputError, match="a network must return its logits or an Output, got") as refusal:
        answer(lambda x: made, {"x": torch.rand(2, 3)})  # type: ignore[arg-type]
    assert "\n" not in str(refusal.value)


def test_a_network_of_ones_own_learns_from_rows_with_gaps(tmp_path: Path) -> None:
    data = gapped()
    with pytest.raises(InputError, match="rows have no sound"):
        Resident(data.train, 3, CPU).rows(PlainConfig.reads)
    resident = Resident(data.train, 3, CPU, missing=("sound",))
    config = TrialConfig(model=PlainConfig(), train=Train(epochs=20, batch_size=16, learning_rate=0.01))
    result = run_trial(config, resident, split(data.train, "random", 0), 3, tmp_path, lambda epoch, metrics: True)
    assert result.state == "COMPLETE"
    assert result.metrics["best_val_macro_f1"] > 0.95
    assert {"val_ari", "val_f1_0", "val_f1_2"} <= set(result.metrics)
    # The class is not known to a process that has not named its study.
    with pytest.raises(InputError, match=r"kind of a network must be one of .*PlainConfig"):
        load_model(tmp_path / FILES / "model")


def test_the_same_seed_trains_it_the_same_and_it_answers_each_row() -> None:
    data = gapped(60)
    own = rows_of(data.train, 3, PlainConfig.reads, ("sound",))
    config = TrialConfig(model=PlainConfig(), train=Train(epochs=2, batch_size=16))
    first, second = (fit(config, own, own, seed=4) for _ in range(2))
    assert [e["train_loss"] for e in first.history] == [e["train_loss"] for e in second.history]
    found = evaluate(first.model, own)
    assert torch.equal(found.embedding, found.logits)
    assert found.parts == {"embedding": 3}
    inputs, _ = own.batch(torch.arange(len(own)))
    with torch.no_grad():
        torch.testing.assert_close(found.logits, first.model(**inputs))

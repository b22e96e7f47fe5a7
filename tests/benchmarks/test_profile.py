"""Where an epoch's time goes is told from a real epoch, and every operation counts once."""

from __future__ import annotations

import pytest
import torch

from benchmarks.cases import CPU
from benchmarks.profile import KINDS, REST, lines, measured
from mmtune.data.dataset import Dataset
from mmtune.train.batches import Resident


@pytest.mark.parametrize(("study", "most"), [("image_cnn", "convolutions"), ("audio_rnn", "products")])
def test_all_time_is_of_some_kind_and_a_network_without_convolutions_has_none(
    tiny: Dataset, study: str, most: str
) -> None:
    data = Resident(tiny.train, len(tiny.classes), torch.device("cpu"))
    found = measured(CPU[study].configs[0], data, tiny)
    shares = {kind: found[kind] for kind in (*KINDS, REST)}
    assert sum(shares.values()) == pytest.approx(1)
    assert all(shares[kind] > 0 for kind in (most, "batch norm", "optimiser", "batches", "loss"))
    assert (shares["convolutions"] > 0) == (study == "image_cnn")
    assert 0 < found["evaluation"] < 1
    head, rule, row = lines({study: [found]})
    assert head.count("|") == rule.count("|") == row.count("|")

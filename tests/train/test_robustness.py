"""Scores while one bank goes wrong: repeated they are the same, clean they are the usual ones, stronger is worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmtune.data.dataset import Bank, Dataset, Partition
from mmtune.data.forms import Mfcc
from mmtune.data.identity import distinct
from mmtune.networks.config import LatentFusionConfig
from mmtune.networks.output import Output
from mmtune.train.batches import Held, Rows, rows_of
from mmtune.train.corruptions import corrupted, corruptions_of
from mmtune.train.evaluate import evaluate
from mmtune.train.objective import MACRO_F1, objective_of
from mmtune.train.robustness import OBJECTIVE_ROWS, Robustness, Source, robustness, robustness_of


class Nearest(nn.Module):
    """The nearest of some centres in each bank that it is given; together the sum of what the banks say."""

    def __init__(self, centres: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.centres = dict(centres)

    def forward(self, **banks: Tensor) -> Output:
        own = {name: -torch.cdist(values.flatten(1), self.centres[name]) for name, values in banks.items()}
        return Output(torch.stack([*own.values()]).sum(0), torch.cat([*own.values()], 1), own if len(own) > 1 else {})


def centred(spread: float = 0.3, rows: int = 600, gaps: bool = False) -> tuple[Nearest, Rows]:
    """Vectors in two banks about a centre for each of six classes, and who knows the centres."""
    rng = np.random.default_rng(5)
    labels = np.arange(rows) % 6
    centres = {name: rng.normal(size=(6, width)).astype(np.float32) for name, width in (("a", 3), ("b", 5))}
    noisy = {
        name: (own[labels] + spread * rng.normal(size=(rows, own.shape[1]))).astype(np.float32)
        for name, own in centres.items()
    }
    banks = {name: Bank(values=own, index=np.arange(rows)) for name, own in noisy.items()}
    if gaps:
        banks["a"] = replace(banks["a"], index=np.where(np.arange(rows) % 3 == 0, -1, np.arange(rows)))
    made = Partition(banks=banks, labels=labels.astype(np.int64), groups={})
    model = Nearest({name: torch.from_numpy(own) for name, own in centres.items()})
    return model, rows_of(made, 6, ("a", "b"), missing=("a",))


def curve_of(found: Robustness, bank: str, name: str) -> Any:
    return next(own for own in found.curves if (own.bank, own.corruption) == (bank, name))


def test_on_easy_rows_more_noise_is_a_lower_score_and_none_is_the_usual_one() -> None:
    model, rows = centred(spread=0.0)
    found = robustness_of(model, rows, seed=1)
    usual = evaluate(model, rows)
    assert found.clean.accuracy == usual.scores("x")["x_accuracy"]
    assert found.clean.macro_f1 == usual.scores("x")["x_macro_f1"]
    for bank in ("a", "b"):
        own = curve_of(found, bank, "noise")
        together = [found.clean.accuracy, *(score.accuracy for score in own.scores)]
        alone = [found.clean.alone[bank], *(score.alone[bank] for score in own.scores)]
        assert together == sorted(together, reverse=True)
        assert alone == sorted(alone, reverse=True)
        assert alone[-1] < alone[0] - 0.2
        other = "b" if bank == "a" else "a"
        assert {score.alone[other] for score in own.scores} == {found.clean.alone[other]}


def test_one_seed_is_one_result_whatever_was_drawn_before_and_disturbs_nobody() -> None:
    model, rows = centred()
    torch.manual_seed(0)
    first = robustness_of(model, rows, seed=1)
    torch.manual_seed(9)
    state = torch.random.get_rng_state()
    assert robustness_of(model.train(), rows, seed=1) == first
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), state)
    assert robustness_of(model, rows, seed=2) != first


def test_a_missing_bank_is_zeros_and_the_only_one_is_never_missing() -> None:
    model, rows = centred()
    found = curve_of(robustness_of(model, rows, seed=1), "a", "missing")
    held = rows.banks["a"]
    zeros = replace(rows, banks={**rows.banks, "a": replace(held, values=torch.zeros_like(held.values))})
    assert [score.accuracy for score in found.scores] == [evaluate(model, zeros).scores("x")["x_accuracy"]]
    single = robustness_of(model, replace(rows, banks={"a": held}), seed=1)
    assert {own.corruption for own in single.curves} == {"noise", "gaps"}
    assert single.clean.alone == {}


def test_beside_an_outlier_the_other_bank_is_as_it_was_and_the_own_answer_is_a_guess() -> None:
    model, rows = centred(spread=0.0)
    found = robustness_of(model, rows, seed=1)
    for bank, other in (("a", "b"), ("b", "a")):
        (score,) = curve_of(found, bank, "outlier").scores
        assert score.alone[other] == found.clean.alone[other] == 1
        assert score.alone[bank] < 0.6
        assert score.accuracy < 1


def test_rows_without_a_value_stay_without_and_rows_that_share_one_share_what_goes_wrong() -> None:
    values = torch.randn(4, 3)
    held = Held(values, torch.tensor([3, -1, 1, 1, 3]), gaps=True)
    own = corruptions_of(values)[0]
    after = Source(name="a", held=held).after(own, 1.0, seed=0)
    found = after.take(torch.arange(5))
    assert not found[1].any()
    assert torch.equal(found[2], found[3])
    assert torch.equal(found[0], found[4])
    assert torch.equal(after.values, corrupted(values[[1, 3]], own, 1.0, 0))
    model, rows = centred(gaps=True)
    assert robustness_of(model, rows, seed=1).clean.accuracy == evaluate(model, rows).scores("x")["x_accuracy"]


def test_what_is_made_of_waveforms_goes_wrong_as_they_do() -> None:
    rng = np.random.default_rng(0)
    waves = (3000 * rng.normal(size=(5, 16_000))).astype(np.int16)
    form = Mfcc().fit(Mfcc().of_waves(waves))
    held = Held(torch.from_numpy(waves), torch.tensor([4, 0, 0, 2]))
    source = Source(
        name="waveform", held=held, remake=lambda x: torch.from_numpy(form.scaled(form.of_waves(x.numpy())))
    )
    noise = corruptions_of(held.values)[0]
    assert noise.unit == "dB SNR"
    found = source.after(noise, 10.0, seed=3).take(torch.arange(4))
    wrong = corrupted(torch.from_numpy(waves[[0, 2, 4]]), noise, 10.0, 3).numpy()
    np.testing.assert_array_equal(found.numpy(), form.scaled(form.of_waves(wrong))[[2, 0, 0, 1]])


def test_every_kind_of_bank_of_a_network_goes_wrong(tiny: Dataset) -> None:
    config = LatentFusionConfig()
    rows = rows_of(tiny.train.take(np.arange(40)), 10, config.reads)
    found = robustness_of(config.build(rows.shapes), rows, seed=0)
    told = [(own.bank, own.corruption) for own in found.curves]
    pictures, sounds = ("noise", "blur", "rotation", "shift", "outlier"), ("noise", "gain", "shift", "outlier")
    expected = [("image", own) for own in pictures] + [("audio", own) for own in sounds]
    assert told == [*expected, ("image", "missing"), ("audio", "missing")]
    assert all(0 <= score.macro_f1 <= 1 for own in found.curves for score in own.scores)


def test_the_metric_is_the_mean_of_all_curves_and_is_measured_where_it_is_asked_for() -> None:
    model, rows = centred()
    asked = objective_of(("macro_f1", "robustness"))
    assert asked.names == ("best_val_macro_f1", "robustness")
    found = robustness_of(model, rows, seed=0)
    every = [score.macro_f1 for own in found.curves for score in own.scores]
    assert robustness(asked, model, rows) == {"robustness": pytest.approx(fmean(every))}
    assert robustness(MACRO_F1, model, rows) == {}
    assert robustness(objective_of(("macro_f1", "parameters")), model, rows) == {}


def test_of_many_rows_the_metric_takes_some_and_always_the_same() -> None:
    model, rows = centred(rows=OBJECTIVE_ROWS + 200)
    asked = objective_of(("macro_f1", "robustness"))
    seen: list[int] = []
    model.register_forward_hook(lambda own, given, output: seen.append(len(output.logits)))
    first = robustness(asked, model, rows)
    evaluations = 1 + sum(len(own.levels) for own in robustness_of(model, rows.take(torch.arange(12)), 0).curves)
    assert sum(seen) == OBJECTIVE_ROWS * evaluations + 12 * evaluations
    assert robustness(asked, model, rows) == first


def test_nothing_goes_wrong_with_a_bank_of_which_no_row_has_any() -> None:
    bank = replace(distinct(np.ones((2, 3), np.float32)), index=np.array([-1, -1]))
    other = distinct(np.arange(6, dtype=np.float32).reshape(2, 3))
    rows = rows_of(
        Partition(banks={"a": bank, "b": other}, labels=np.array([0, 1]), groups={}), 2, ("a", "b"), missing=("a",)
    )
    model = Nearest({"a": torch.zeros(2, 3), "b": torch.zeros(2, 3)})
    assert {own.bank for own in robustness_of(model, rows, 0).curves if own.corruption != "missing"} == {"b"}

"""Training is a function of its configuration, its rows and its seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from shapes import built
from torch import Tensor, nn

from mmtune.data.dataset import Dataset
from mmtune.networks.config import AudioRNNConfig, ImageCNNConfig, LatentFusionConfig
from mmtune.networks.config.base import ModelConfig
from mmtune.networks.shapes import Shapes
from mmtune.train.batches import Rows, batch_sizes, rows_of
from mmtune.train.evaluate import evaluate
from mmtune.train.fit import fit
from mmtune.train.objective import KNOWN, Metric
from mmtune.train.recipe import Train, TrialConfig
from mmtune.train.step import DivergenceError

MODELS = [
    ImageCNNConfig(),
    AudioRNNConfig(hidden=24),
    LatentFusionConfig(encoders="joint", audio=AudioRNNConfig(hidden=24)),
]


def config_of(model: ModelConfig, epochs: int = 2, learning_rate: float = 1e-3) -> TrialConfig:
    return TrialConfig(model=model, train=Train(epochs=epochs, batch_size=32, learning_rate=learning_rate))


def rows_for(dataset: Dataset, model: ModelConfig) -> tuple[Rows, Rows]:
    rows = rows_of(dataset.train, 10, model.reads)
    return rows.take(torch.arange(0, 240)), rows.take(torch.arange(240, 300))


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_the_same_seed_gives_the_same_result_and_another_does_not(tiny: Dataset, model: ModelConfig) -> None:
    results = [fit(config_of(model), *rows_for(tiny, model), seed=seed) for seed in (5, 5, 6)]
    losses = [[epoch["train_loss"] for epoch in result.history] for result in results]
    assert losses[0] == losses[1] != losses[2]
    states = [result.model.state_dict() for result in results]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


class Trembling(nn.Module):
    """Draws whenever it is asked, as Monte Carlo dropout does."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(28 * 28, 10)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.linear(image.flatten(1))
        return logits + torch.randn_like(logits)


@dataclass(frozen=True)
class TremblingConfig:
    reads: tuple[str, ...] = ("image",)

    def build(self, shapes: Shapes) -> nn.Module:
        return Trembling()


def test_what_a_network_draws_when_it_is_evaluated_follows_from_the_seed_too(tiny: Dataset) -> None:
    config = TrialConfig(model=TremblingConfig(), train=Train(epochs=2, batch_size=32))
    found = []
    for before in (3, 400):
        torch.randn(before)
        history = fit(config, *rows_for(tiny, ImageCNNConfig()), seed=5).history
        found.append([{name: v for name, v in epoch.items() if name != "epoch_seconds"} for epoch in history])
    assert found[0] == found[1]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_it_learns_and_keeps_the_weights_of_the_best_epoch(tiny: Dataset, model: ModelConfig) -> None:
    train, validation = rows_for(tiny, model)
    result = fit(config_of(model, epochs=12, learning_rate=5e-3), train, validation, seed=0)
    scores = [epoch["val_macro_f1"] for epoch in result.history]
    assert result.best_epoch == scores.index(max(scores)) + 1
    assert evaluate(result.model, validation).scores("val")["val_macro_f1"] == max(scores) > 0.6
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"] / 2
    assert not result.pruned


def largest(labels: np.ndarray, probabilities: np.ndarray) -> float:
    return float(probabilities.max())


@pytest.mark.parametrize("name", ["loss", "accuracy", "auroc", "calibration_error"])
def test_the_metric_picks_the_epoch_by_its_direction(tiny: Dataset, name: str) -> None:
    config, metric = config_of(MODELS[1], epochs=12, learning_rate=5e-2), KNOWN[name]
    train, validation = rows_for(tiny, config.model)
    result = fit(config, train, validation, seed=0, metric=metric)
    scores = [epoch[f"val_{name}"] for epoch in result.history]
    best = max(scores) if metric.maximise else min(scores)
    assert result.best_epoch == scores.index(best) + 1
    assert evaluate(result.model, validation).scores("val", metric)[f"val_{name}"] == best
    usual = fit(config, train, validation, seed=0)
    assert [e["val_loss"] for e in usual.history] == [e["val_loss"] for e in result.history]
    # Beside what the metric needs, an epoch has what it always had.
    assert set(result.history[0]) - set(usual.history[0]) <= {f"val_{name}"}


def test_a_metric_of_ones_own_that_is_negated_and_turned_round_picks_the_same_epoch(tiny: Dataset) -> None:
    config = config_of(MODELS[1], epochs=6, learning_rate=2e-2)
    up = Metric(name="own", function=largest)
    down = Metric(name="own", function=lambda labels, probabilities: -largest(labels, probabilities), maximise=False)
    turned = Metric(name="own", function=largest, maximise=False)
    ends = [fit(config, *rows_for(tiny, MODELS[1]), seed=0, metric=own) for own in (up, down, turned)]
    assert ends[0].best_epoch == ends[1].best_epoch
    scores = [epoch["val_own"] for epoch in ends[0].history]
    assert ends[2].best_epoch == scores.index(min(scores)) + 1


def test_a_metric_that_is_no_number_ends_the_training(tiny: Dataset) -> None:
    config = config_of(MODELS[0])
    train, validation = rows_for(tiny, config.model)
    gone = replace(validation, labels=torch.full_like(validation.labels, 3))
    with pytest.raises(DivergenceError, match="val_auroc must be a number, got nan"):
        fit(config, train, gone, seed=0, metric=KNOWN["auroc"])


def test_the_loop_is_the_plain_loop(tiny: Dataset) -> None:
    """The first epoch's loss, written out step by step with nothing of ours but the model and the row order."""
    config = config_of(ImageCNNConfig(dropout=0.0), epochs=1)
    train, validation = rows_for(tiny, config.model)
    found = fit(config, train, validation, seed=3).history[0]["train_loss"]
    torch.manual_seed(3)
    model = built(config.model).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    order = torch.randperm(240, generator=torch.Generator().manual_seed(3))
    total = 0.0
    for part in order.split(32):
        images = torch.from_numpy(tiny.train.banks["image"].of_rows(part.numpy())).float().unsqueeze(1) / 255
        loss = nn.CrossEntropyLoss()(model(images).logits, torch.from_numpy(tiny.train.labels[part.numpy()]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(part)
    assert found == pytest.approx(total / 240, rel=1e-5)


def trained_encoders(tiny: Dataset) -> dict[str, dict[str, torch.Tensor]]:
    models: dict[str, ModelConfig] = {"image": ImageCNNConfig(), "audio": AudioRNNConfig(hidden=24)}
    fits = {name: fit(config_of(model), *rows_for(tiny, model), seed=1) for name, model in models.items()}
    return {name: dict(result.model.state_dict()) for name, result in fits.items()}


@pytest.mark.parametrize("embedding", [10, 64])
def test_frozen_encoders_stay_as_they_are_and_are_what_the_whole_model_uses(tiny: Dataset, embedding: int) -> None:
    encoders = trained_encoders(tiny)
    model = LatentFusionConfig(embedding=embedding, audio=AudioRNNConfig(hidden=24))
    train, validation = rows_for(tiny, model)
    result = fit(config_of(model, epochs=8), train, validation, seed=2, encoders=encoders)
    kept = result.model.state_dict()
    for modality, weights in encoders.items():
        assert all(torch.equal(kept[f"{modality}.{name}"], tensor) for name, tensor in weights.items())
    # Training saw encoded banks only; the whole model on raw rows must agree with what it was scored by.
    whole = evaluate(result.model, validation)
    assert whole.scores("val")["val_macro_f1"] == result.history[result.best_epoch - 1]["val_macro_f1"]
    assert set(whole.alone) == {"image", "audio"}


def test_what_a_row_has_not_is_to_frozen_encoders_what_it_is_to_the_whole_model(tiny: Dataset) -> None:
    model = LatentFusionConfig(audio=AudioRNNConfig(hidden=24))

    def gapped(rows: Rows) -> Rows:
        audio = rows.banks["audio"]
        silent = torch.arange(len(rows)) % 3 == 0
        made = replace(audio, index=audio.index.masked_fill(silent, -1), gaps=True)
        return replace(rows, banks={**rows.banks, "audio": made})

    train, validation = map(gapped, rows_for(tiny, model))
    result = fit(config_of(model), train, validation, seed=2, encoders=trained_encoders(tiny))
    whole = evaluate(result.model, validation).scores("val")
    assert whole["val_loss"] == pytest.approx(result.history[result.best_epoch - 1]["val_loss"], rel=1e-5)


def test_stopping_from_outside_ends_after_that_epoch(tiny: Dataset) -> None:
    train, validation = rows_for(tiny, MODELS[1])
    seen: list[int] = []

    def on_epoch(epoch: int, metrics: object) -> bool:
        seen.append(epoch)
        return epoch < 3

    result = fit(config_of(MODELS[1], epochs=9), train, validation, 0, on_epoch)
    assert seen == [1, 2, 3]
    assert result.pruned
    assert len(result.history) == 3


def test_a_loss_that_is_not_a_number_ends_the_trial(tiny: Dataset) -> None:
    train, validation = rows_for(tiny, MODELS[1])
    held = train.banks["audio"]
    broken = replace(train, banks={"audio": replace(held, values=torch.full_like(held.values, float("nan")))})
    with pytest.raises(DivergenceError, match="must be finite, got nan"):
        fit(config_of(MODELS[1]), broken, validation, seed=0)


@pytest.mark.parametrize(("count", "size"), [(10, 5), (11, 5), (12, 5), (3, 5), (1, 5)])
def test_batches_hold_every_row_once_and_none_is_alone(count: int, size: int) -> None:
    sizes = batch_sizes(count, size)
    assert sum(sizes) == count
    assert all(one > 1 for one in sizes) or count == 1
    assert max(sizes) <= size + 1

"""Every way to run the steps computes the same thing as the loop one would write by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from shapes import built
from torch import Tensor, nn

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.networks.config import (
    AudioRNNConfig,
    DualCNNConfig,
    ImageCNNConfig,
    LatentFusionConfig,
    MultiheadFusionConfig,
    SpectrogramFusionConfig,
    XFlowLSTMConfig,
    XFlowMLPConfig,
)
from mmtune.networks.config.base import ModelConfig
from mmtune.train.adam import Adam
from mmtune.train.average import Average
from mmtune.train.batches import Resident, Rows, batch_sizes
from mmtune.train.device import prefer_onednn, products_are_float32, require_bfloat16
from mmtune.train.fit import fit
from mmtune.train.learner import prepared, step_of
from mmtune.train.recipe import Train, TrialConfig
from mmtune.train.step import Eager, Engine, Graphed, Moving, Step, make_engine

MODELS: list[ModelConfig] = [
    ImageCNNConfig(dropout=0.0),
    AudioRNNConfig(hidden=24),
    AudioRNNConfig(hidden=24, view="sequence", layers=2),
    LatentFusionConfig(encoders="joint", image=ImageCNNConfig(dropout=0.0), audio=AudioRNNConfig(hidden=24)),
    MultiheadFusionConfig(dropout=0.0),
    DualCNNConfig(dropout=0.0),
    SpectrogramFusionConfig(filters=8, hidden=16, dropout=0.0),
    XFlowMLPConfig(pool_dropout=0.0, dense_dropout=0.0, merge_dropout=0.0),
    XFlowLSTMConfig(merge_dropout=0.0),
]
BATCH = 32


def names(model: ModelConfig) -> str:
    return type(model).__name__


def rows_on(tiny: Dataset, model: ModelConfig, device: str = "cpu") -> Rows:
    return Resident(tiny.train, 10, torch.device(device)).rows(model.reads)


def started(model: ModelConfig, tiny: Dataset, device: str, precision: str = "float32") -> Step:
    """A step whose weights and rows follow from the configuration alone."""
    torch.manual_seed(4)
    rows = rows_on(tiny, model, device).take(torch.arange(116, device=device))
    made = prepared(built(model).to(device), rows)
    return Step(made, Adam(made.parameters(), 1e-3), rows, Train(precision=precision))


def order(rows: Rows) -> Tensor:
    return torch.randperm(len(rows), generator=torch.Generator().manual_seed(5)).to(rows.labels.device)


def plain(step: Step) -> dict[str, float]:
    """Two epochs, written out with torch alone; scores of the second."""
    model, rows = step.model.train(), step.rows
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(2):
        total, hits = 0.0, 0
        for index in order(rows).split(batch_sizes(len(rows), BATCH)):
            inputs, labels = rows.batch(index)
            output = model(**inputs)
            loss = nn.CrossEntropyLoss()(output.logits, labels)
            optimizer.zero_grad()
            (loss + sum(nn.CrossEntropyLoss()(alone, labels) for alone in output.alone.values())).backward()
            optimizer.step()
            total += loss.item() * len(index)
            hits += int((output.logits.argmax(1) == labels).sum())
    return {"train_loss": total / len(rows), "train_accuracy": hits / len(rows)}


def moving(step: Step, batch_size: int) -> Engine:
    """The steps that a CUDA graph is made of, without the graph."""

    class Stepwise:
        def __init__(self) -> None:
            self.moving = Moving(step)

        def epoch(self, order: Tensor) -> None:
            self.moving.start(order)
            for size in batch_sizes(len(order), batch_size):
                self.moving(size)

    return Stepwise()


def traced(step: Step, engine: Engine, epochs: int = 2) -> dict[str, float]:
    """Scores of the last epoch."""
    for _ in range(epochs):
        step.start_epoch()
        engine.epoch(order(step.rows))
    return step.scores()


@pytest.mark.parametrize("make", [Eager, moving], ids=["eager", "moving"])
@pytest.mark.parametrize("model", MODELS, ids=names)
def test_an_engine_is_the_plain_loop(model: ModelConfig, make: Callable[[Step, int], Engine], tiny: Dataset) -> None:
    expected = plain(started(model, tiny, "cpu"))
    step = started(model, tiny, "cpu")
    found = traced(step, make(step, BATCH))
    assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=2e-3, abs=5e-4)
    assert found["train_accuracy"] == pytest.approx(expected["train_accuracy"], abs=0.02)


@pytest.mark.parametrize("model", MODELS, ids=names)
def test_bfloat16_is_near_float32(model: ModelConfig, tiny: Dataset) -> None:
    try:
        require_bfloat16(built(model), rows_on(tiny, model))
    except InputError as error:
        pytest.skip(str(error))
    found = {}
    for precision in ("float32", "bfloat16"):
        step = started(model, tiny, "cpu", precision)
        found[precision] = traced(step, Eager(step, BATCH), epochs=1)["train_loss"]
        assert all(p.dtype == torch.float32 for p in step.model.parameters())
    assert found["bfloat16"] == pytest.approx(found["float32"], rel=0.03)
    assert found["bfloat16"] != found["float32"]


def test_precision_is_the_configurations(tiny: Dataset) -> None:
    rows = rows_on(tiny, ImageCNNConfig())
    config = TrialConfig(model=ImageCNNConfig(), train=Train(epochs=1, precision="bfloat16"))
    wide = replace(config, train=replace(config.train, precision="float32"))
    losses = [fit(c, rows.take(torch.arange(200)), rows, seed=1).history[0]["train_loss"] for c in (config, wide)]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.03)


def test_products_stay_float32_whoever_makes_them() -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision
    try:
        prefer_onednn()
        assert products_are_float32()
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before
    low = torch.randn(128, 128).bfloat16()
    assert ((low @ low).double() - low.double() @ low.double()).abs().max() > 1e-3


@pytest.mark.cuda
@pytest.mark.parametrize("model", MODELS, ids=names)
def test_a_cuda_graph_is_the_plain_loop(model: ModelConfig, tiny: Dataset) -> None:
    """Five epochs: eager first, then the full batches' graph, then the last batch's too."""
    eager, graphed = (started(model, tiny, "cuda") for _ in range(2))
    expected = traced(eager, Eager(eager, BATCH), epochs=5)
    engine = Graphed(graphed, BATCH)
    found = traced(graphed, engine, epochs=5)
    assert set(engine.graphs) == {32, 20}
    assert found["train_loss"] == pytest.approx(expected["train_loss"], rel=2e-3)
    for mine, theirs in zip(graphed.model.parameters(), eager.model.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-2, atol=1e-3)


@pytest.mark.cuda
@pytest.mark.parametrize("model", MODELS[:3], ids=names)
def test_a_gpu_computes_what_a_cpu_does(model: ModelConfig, tiny: Dataset) -> None:
    found = []
    for device in ("cpu", "cuda"):
        step = started(model, tiny, device)
        step.model.load_state_dict(started(model, tiny, "cpu").model.state_dict())
        found.append(traced(step, Eager(step, BATCH))["train_loss"])
    assert found[0] == pytest.approx(found[1], rel=2e-3)


@pytest.mark.cuda
def test_nothing_waits_for_the_gpu_inside_an_epoch(tiny: Dataset) -> None:
    step = started(ImageCNNConfig(), tiny, "cuda")
    engine = Graphed(step, BATCH)
    traced(step, engine, epochs=5)
    rows = order(step.rows)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step.start_epoch()
        engine.epoch(rows)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert step.scores()["train_loss"] > 0


@pytest.mark.cuda
def test_the_same_seed_gives_the_same_result_on_a_gpu(tiny: Dataset) -> None:
    config = TrialConfig(model=ImageCNNConfig(dropout=0.3), train=Train(epochs=4, batch_size=BATCH))
    rows = rows_on(tiny, config.model, "cuda")
    first, second = (fit(config, rows, rows, seed=7) for _ in range(2))
    assert [e["train_loss"] for e in first.history] == [e["train_loss"] for e in second.history]


RECIPES = [
    Train(
        epochs=5,
        batch_size=BATCH,
        schedule="one-cycle",
        ema=0.9,
        weight_decay=0.01,
        l1=1e-4,
        clip=0.5,
        label_smoothing=0.1,
        optimizer="adamw",
    ),
    *(
        Train(epochs=5, batch_size=BATCH, schedule="cosine", warmup=0.2, optimizer=name)
        for name in ("nadam", "rmsprop")
    ),
]


@pytest.mark.cuda
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda own: own.optimizer)
def test_a_cuda_graph_keeps_to_the_recipe(recipe: Train, tiny: Dataset) -> None:
    """Rates and averages, which differ from step to step, are found by a graph at their places."""
    made = []
    for make in (Eager, Graphed):
        torch.manual_seed(4)
        rows = rows_on(tiny, ImageCNNConfig(), "cuda").take(torch.arange(116, device="cuda"))
        model = prepared(built(ImageCNNConfig(dropout=0.0)).to("cuda"), rows)
        step = step_of(recipe, model, rows)
        step.average = Average(model, recipe.ema) if recipe.ema else None
        traced(step, make(step, BATCH), epochs=5)
        made.append(step)
    assert made[0].optimizer.capturable
    for mine, theirs in zip(made[1].evaluated.parameters(), made[0].evaluated.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-2, atol=1e-3)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["sgd", "muon", "adagrad"])
def test_an_optimizer_that_no_graph_can_hold_steps_without_one(name: str, tiny: Dataset) -> None:
    rows = rows_on(tiny, ImageCNNConfig(), "cuda").take(torch.arange(116, device="cuda"))
    step = step_of(Train(optimizer=name), built(ImageCNNConfig()).to("cuda"), rows)
    assert isinstance(make_engine(step, BATCH), Eager)
    assert traced(step, make_engine(step, BATCH))["train_loss"] > 0

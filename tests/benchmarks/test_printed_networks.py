"""The networks as the reports print them compute what mmtune's compute."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.cases import CPU, GPU
from benchmarks.plain import loss_of, tensors, train_epoch
from benchmarks.printed import parameters, printed
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import Split, split
from mmtune.networks.config import AudioRNNConfig, ImageCNNConfig, MultiheadFusionConfig, XFlowMLPConfig
from mmtune.networks.layers import FlattenPlaces
from mmtune.networks.output import count_parameters
from mmtune.networks.papers.crossing import CrossTo1D
from mmtune.networks.shapes import Shapes
from mmtune.study import load_study
from mmtune.train.batches import rows_of
from mmtune.train.fit import fit
from mmtune.train.learner import class_weights, prepared
from mmtune.train.recipe import TrialConfig
from mmtune.train.trial import take
from mmtune.tune.trying import DIGITS

SHAPES = Shapes(banks=DIGITS, classes=10)
USED = list({str(c.model): c.model for case in (*CPU.values(), *GPU.values()) for c in case.configs}.values())
WRITTEN_OUT = [
    AudioRNNConfig(view="sequence"),
    ImageCNNConfig(norm="l1-l2-l3-l4-l5", l5="fc1", pools="3-4", kernel=5, activation="relu"),
    *(XFlowMLPConfig(cross=cross, residual=residual) for cross in (True, False) for residual in (True, False)),
    *(
        MultiheadFusionConfig(**{path[6:]: value for path, value in own.items() if path.startswith("model.")})  # type: ignore[arg-type]
        for own in load_study("multihead_fusion").tries.values()
    ),
]
CONFIGS = list({str(config): config for config in [*USED, *WRITTEN_OUT]}.values())
UNTUNED = ("dropout", "pool_dropout", "dense_dropout", "merge_dropout")


def named(config: Any) -> str:
    return type(config).__name__


def scrambled(model: nn.Module) -> nn.Module:
    """The model with every weight and statistic moved, so that none has its usual start."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.05 * torch.rand(tensor.shape, generator=generator)
    return model


def copied(ours: nn.Module, config: Any) -> nn.Module:
    """The printed network with our weights, which both have in the same order."""
    theirs, weights = printed(config), ours.state_dict()
    for name, (channels, places) in flattened(ours, config).items():
        by_place = weights[name].view(-1, places, channels)
        weights[name] = by_place.transpose(1, 2).flatten(1)
    values = [value for name, value in weights.items() if not name.startswith("standardised.")]
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))
    return theirs


def flattened(ours: nn.Module, config: Any) -> dict[str, tuple[int, int]]:
    """The linear weights of ours that read maps place by place, which the reports' frameworks read channel by channel.

    By name, the channels and places of such maps.
    """
    names = {layer: f"{name}.weight" for name, layer in ours.named_modules() if isinstance(layer, nn.Linear)}
    found: dict[str, tuple[int, int]] = {}
    shapes: list[torch.Size] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> None:
        if isinstance(layer, CrossTo1D):
            channels = layer.mix.out_channels
            found[names[layer.dense]] = (channels, layer.dense.in_features // channels)
        elif isinstance(layer, FlattenPlaces):
            shapes.append(inputs[0].shape)
        elif shapes and isinstance(layer, nn.Linear):
            shape = shapes.pop()
            found[names[layer]] = (shape[1], math.prod(shape[2:]))

    hooks = [layer.register_forward_hook(note) for layer in ours.modules()]
    was_training = ours.training
    ours.eval()(**{bank: torch.zeros(2, *SHAPES[bank]) for bank in config.reads})
    ours.train(was_training)
    for hook in hooks:
        hook.remove()
    return found


def trial(model: Any) -> TrialConfig:
    """A trial of a model as its study trains it, without dropout and in short steps, for rounding not to grow."""
    used = next(c for case in CPU.values() for c in case.configs if type(c.model) is type(model))
    rates: dict[str, Any] = {name: 0.0 for name in UNTUNED if hasattr(model, name)}
    return replace(used, model=replace(model, **rates), train=replace(used.train, learning_rate=1e-4))


def first_rows(dataset: Dataset, count: int) -> Split:
    made = split(dataset.train, "clip_disjoint", 0)
    return Split(train=made.train[:count], validation=made.validation)


@pytest.mark.parametrize("config", CONFIGS, ids=named)
def test_the_same_weights_give_the_same_logits(config: Any, tiny: Dataset) -> None:
    made = first_rows(tiny, 16)
    rows = take(rows_of(tiny.train, 10, config.reads), made.train)
    ours = prepared(scrambled(config.build(SHAPES)), rows).eval()
    theirs = copied(ours, config).eval()
    *inputs, labels = tensors(trial(config), tiny.train, made)[0].tensors
    given, own_labels = rows.batch(torch.arange(len(rows)))
    with torch.no_grad():
        torch.testing.assert_close(theirs(*inputs), ours(**given).logits, rtol=1e-4, atol=1e-5)
    assert torch.equal(labels, own_labels)
    assert parameters(theirs) == count_parameters(ours)


@pytest.mark.parametrize("config", USED, ids=named)
def test_both_sides_take_the_same_steps(config: Any, tiny: Dataset) -> None:
    whole = replace(trial(config), train=replace(trial(config).train, epochs=5, batch_size=48))
    made = first_rows(tiny, 48)  # one batch: an epoch is a step, and the order of its rows is nothing
    rows = rows_of(tiny.train, 10, config.reads)
    train, validation = take(rows, made.train), take(rows, made.validation)
    result = fit(whole, train, validation, seed=3)

    torch.manual_seed(3)
    theirs = copied(prepared(whole.model.build(SHAPES), train), whole.model)
    loader = DataLoader(tensors(whole, tiny.train, made)[0], 48)
    optimizer = torch.optim.Adam(theirs.parameters(), lr=whole.train.learning_rate)
    loss = loss_of(whole, train.labels)
    losses = [train_epoch(theirs, optimizer, loss, loader, "cpu")["train_loss"] for _ in range(5)]
    expected = [metrics["train_loss"] for metrics in result.history]
    assert losses == pytest.approx(expected, rel=1e-3, abs=2e-3 * expected[0])
    assert losses[-1] < losses[0]


def test_classes_weigh_the_same_on_both_sides(tiny: Dataset) -> None:
    config = CPU["multihead_fusion"].configs[0]
    labels = torch.from_numpy(tiny.train.labels[:200])
    weights = loss_of(config, labels).weight
    assert weights is not None
    torch.testing.assert_close(weights, class_weights(labels, 10))
    assert loss_of(CPU["image_cnn"].configs[0], labels).weight is None

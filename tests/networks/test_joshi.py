"""Joshi's three networks, rebuilt: the printed parameter counts, shapes, and what each part may depend on."""

from __future__ import annotations

import itertools

import pytest
import torch
from shapes import built, drawn_alike
from torch import nn

from mmtune.networks.config import AudioRNNConfig, ImageCNNConfig, LatentFusionConfig
from mmtune.networks.output import count_parameters

IMAGE = torch.rand(7, 1, 28, 28)
AUDIO = torch.rand(7, 39, 13)


@pytest.mark.parametrize("pools", ["2-4", "3-4"])
def test_image_cnn_has_the_printed_layers(pools: str) -> None:
    model = built(ImageCNNConfig(pools=pools))
    assert model.fc1.in_features == 768


@pytest.mark.parametrize(
    ("norm", "l5", "channels"),
    [
        ("l1-l2-l3-l4-l5", "absent", 6 + 12 + 24 + 48),
        ("l1-l2-l3-l4-l5", "fc1", 6 + 12 + 24 + 48 + 120),
        ("l1-l2", "absent", 6 + 12),
        ("l1-l3-l4", "fc1", 6 + 24 + 48),
    ],
)
def test_batch_norm_stands_where_the_code_says(norm: str, l5: str, channels: int) -> None:
    model = built(ImageCNNConfig(norm=norm, l5=l5))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert sum(m.num_features for m in norms) == channels


ALL_IMAGE = [
    ImageCNNConfig(kernel=k, activation=a, pools=p)
    for k, a, p in itertools.product((3, 5), ("tanh", "relu"), ("2-4", "3-4"))
]


@pytest.mark.parametrize("config", [*ALL_IMAGE, AudioRNNConfig(), AudioRNNConfig(view="sequence", layers=2)], ids=str)
def test_every_model_gives_logits_and_embedding(config: ImageCNNConfig | AudioRNNConfig) -> None:
    (bank,) = config.reads
    output = built(config).eval()(**{bank: {"image": IMAGE, "audio": AUDIO}[bank]})
    assert output.logits.shape == (7, 10)
    assert output.embedding.shape == (7, 64)
    assert torch.isfinite(output.logits).all()


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_pooling_before_a_monotone_activation_is_the_printed_order(activation: str) -> None:
    model = built(ImageCNNConfig(activation=activation)).eval()
    hidden, layers = IMAGE, list(model.convolutions)
    while layers:
        layer = layers.pop(0)
        hidden = layer(layers.pop(0)(hidden)) if isinstance(layer, nn.MaxPool2d) else layer(hidden)
    torch.testing.assert_close(hidden, model.convolutions(IMAGE))


@pytest.mark.parametrize(
    ("embedding", "layers", "size"), [(64, 1, 1290), (64, 2, 128 * 64 + 64 + 650), (10, 1, 210), (10, 2, 320)]
)
def test_the_head_joins_both_embeddings(embedding: int, layers: int, size: int) -> None:
    model = built(LatentFusionConfig(embedding=embedding, layers=layers)).eval()
    assert count_parameters(model.head) == size
    output = model(IMAGE, AUDIO)
    assert output.embedding.shape == (7, 2 * embedding)
    torch.testing.assert_close(output.alone["image"], model.image(IMAGE).logits)
    torch.testing.assert_close(output.alone["audio"], model.audio(AUDIO).logits)


def test_asking_one_modality_alone_leaves_the_fused_gradient_as_it_is() -> None:
    model = built(LatentFusionConfig(encoders="joint")).eval()
    output = model(IMAGE, AUDIO)
    alone = sum(logits.square().sum() for logits in output.alone.values())
    grads = torch.autograd.grad(alone, list(model.image.convolutions.parameters()), allow_unused=True)
    assert all(grad is None for grad in grads)


def test_building_a_model_draws_the_same_weights_for_the_same_seed() -> None:
    assert drawn_alike(ImageCNNConfig())

"""Connections between modalities, each by itself: shapes, sizes, and what they compute."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from mmtune.networks.output import count_parameters
from mmtune.networks.papers.crossing import (
    CrossTo1D,
    CrossTo2D,
    Dropout,
    ElementPReLU,
    Junction,
    ResidualTo1D,
    ResidualTo2D,
    enlarge,
    repeat,
)
from mmtune.networks.papers.keras import glorot

MAP = (4, 14, 10)
PIXELS = math.prod(MAP)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(7)


def test_prelu_has_a_slope_for_every_element_and_begins_as_relu() -> None:
    layer, x = ElementPReLU(*MAP), torch.randn(3, *MAP)
    assert count_parameters(layer) == PIXELS
    torch.testing.assert_close(layer(x), relu(x))
    with torch.no_grad():
        layer.weight.copy_(torch.randn(MAP))
    torch.testing.assert_close(layer(x), torch.where(x > 0, x, layer.weight * x))
    layer(x).sum().backward()
    torch.testing.assert_close(layer.weight.grad, x.clamp(max=0).sum(0))


@pytest.mark.parametrize("norm", [False, True])
def test_sizes_and_shapes(norm: bool) -> None:
    image, audio, batch_norm = torch.rand(5, *MAP), torch.rand(5, 6), 2 if norm else 0
    to_1d = CrossTo1D(MAP, 9, norm=norm)
    assert to_1d(image).shape == (5, 9)
    assert count_parameters(to_1d) == (4 * 4 + 4) + PIXELS + 4 * batch_norm + (PIXELS * 9 + 9) + 9
    to_2d = CrossTo2D(6, MAP, 5, norm=norm, dropout=0.5)
    plane = 10 * 6
    assert to_2d(audio).shape == (5, *MAP)
    assert count_parameters(to_2d) == (6 * plane + plane) + plane * (1 + batch_norm) + (5 * 5 * 4 + 4) + PIXELS
    residual = ResidualTo2D(6, MAP, 5, norm=norm, norm_map=norm)
    assert residual(audio).shape == (5, *MAP)
    assert count_parameters(residual) == count_parameters(to_2d) + 4 * batch_norm
    # 14 x 10 pooled by 8 in strides of 8 and 4 is 1 x 1
    pooled = ResidualTo1D(MAP, 9, 8, (8, 4))
    assert pooled(image).shape == (5, 9)
    assert count_parameters(pooled) == 4 * 9 + 9 + 9


def test_a_residual_vector_reads_the_brightest_of_every_window() -> None:
    layer, image = ResidualTo1D((1, 8, 8), 3, 4, (4, 4)).eval(), torch.rand(2, 1, 8, 8)
    windows = image.unflatten(3, (2, 4)).unflatten(2, (2, 4)).amax(dim=(3, 5)).flatten(1)
    expected = relu(windows @ layer.dense.weight.T + layer.dense.bias)
    torch.testing.assert_close(layer(image), expected)


@pytest.mark.parametrize("planes", [3, 12, 40])
@pytest.mark.parametrize("bias", [False, True])
def test_enlarging_is_the_transposed_convolution_however_many_planes(planes: int, bias: bool) -> None:
    layer = nn.ConvTranspose2d(1, 5, 4, bias=bias)
    x, direction = torch.randn(planes, 1, 3, 4, requires_grad=True), torch.randn(planes, 5, 6, 7)
    wanted = [x, *layer.parameters()]
    found, expected = enlarge(x, layer), layer(x)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, wanted, direction), torch.autograd.grad(expected, wanted, direction), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_dropout_keeps_the_mean_and_obeys_the_seed() -> None:
    layer, x = Dropout(0.25), torch.ones(200, 500)
    torch.manual_seed(1)
    first = layer(x)
    torch.manual_seed(1)
    assert torch.equal(first, layer(x))
    assert not torch.equal(first, layer(x))
    torch.testing.assert_close(first.unique(), torch.tensor([0, 1 / 0.75]))
    assert float((first == 0).double().mean()) == pytest.approx(0.25, abs=0.01)
    assert torch.equal(layer.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


@pytest.mark.parametrize("layer", [nn.Linear(30, 50), nn.Conv2d(3, 8, 5), nn.ConvTranspose2d(3, 8, 5)])
def test_weights_begin_uniform_within_glorots_bound(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> None:
    field = layer.weight[0][0].numel()
    fans = (layer.weight.shape[0] + layer.weight.shape[1]) * field
    weight = glorot(layer).weight.detach()
    assert float(weight.abs().max()) == pytest.approx(math.sqrt(6 / fans), rel=0.05)
    assert float(weight.std()) == pytest.approx(math.sqrt(2 / fans), rel=0.1)
    assert not layer.bias.any()


def test_batch_norm_is_that_of_keras() -> None:
    module = ResidualTo2D(6, MAP, 5, norm=True, norm_map=True)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert [(m.num_features, m.eps, m.momentum) for m in norms] == [(60, 1e-3, 0.01), (4, 1e-3, 0.01)]


def connected() -> Junction:
    return Junction(
        {
            "cross_to_audio": CrossTo1D(MAP, 3, norm=True),
            "cross_to_image": CrossTo2D(7, MAP, 5),
            "residual_to_audio": ResidualTo1D((1, 28, 20), 7, 4, (4, 4)),
            "residual_to_image": ResidualTo2D(6, MAP, 5, norm_map=True),
        }
    )


def inputs(pictures: int, sounds: int) -> list[Tensor]:
    shapes = [(pictures, 1, 28, 20), (sounds, 6), (pictures, *MAP), (sounds, 7)]
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


def test_without_connections_the_streams_pass_untouched() -> None:
    picture, sound, image, audio = inputs(4, 4)
    crossed = Junction()(picture, sound, image, audio)
    assert crossed.image is image
    assert crossed.audio is audio
    assert crossed.vector is None
    assert crossed.maps == {}


def test_a_junction_adds_residuals_and_puts_crossings_beside() -> None:
    junction, (picture, sound, image, audio) = connected().eval(), inputs(4, 4)
    crossed = junction(picture, sound, image, audio)
    assert crossed.image.shape == (4, 8, 14, 10)
    torch.testing.assert_close(crossed.image[:, :4], junction.cross_to_image(audio))
    torch.testing.assert_close(crossed.image[:, 4:], image + junction.residual_to_image(sound))
    torch.testing.assert_close(crossed.audio, audio + junction.residual_to_audio(picture))
    torch.testing.assert_close(crossed.vector, junction.cross_to_audio(image))


@pytest.mark.parametrize("name", ["cross_to_audio", "cross_to_image", "residual_to_audio", "residual_to_image"])
def test_each_connection_carries_gradients_by_itself(name: str) -> None:
    layer, (picture, sound, image, audio) = getattr(connected(), name), inputs(6, 6)
    crossed = Junction({name: layer})(picture, sound, image, audio)
    reached = {
        "cross_to_audio": (crossed.vector, image),
        "cross_to_image": (crossed.image, audio),
        "residual_to_audio": (crossed.audio, picture),
        "residual_to_image": (crossed.image, sound),
    }
    output, source = reached[name]
    (output * torch.randn(output.shape)).sum().backward()
    assert source.grad is not None
    assert source.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layer.parameters())


def test_sounds_that_share_a_picture_see_it_as_if_it_were_repeated() -> None:
    junction, (picture, sound, image, audio) = connected().train(), inputs(3, 12)
    shared = junction(picture, sound, image, audio)
    apart = junction(repeat(picture, 12), sound, repeat(image, 12), audio)
    torch.testing.assert_close(shared.image, apart.image)
    torch.testing.assert_close(shared.audio, apart.audio)
    torch.testing.assert_close(repeat(shared.vector, 12), apart.vector)
    assert shared.vector.shape == (3, 3)

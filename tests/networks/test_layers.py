"""Each layer is what torch's own layer is, in its values, its gradients and its running statistics."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import prelu

from mmtune.networks.inputs import channels_last
from mmtune.networks.layers import (
    BatchNorm2d,
    CentredConv2d,
    Conv1d,
    Dropout,
    ElementPReLU,
    FlattenPlaces,
    PointConv2d,
    Tanh,
    mask_like,
)

SHAPES = [(8, 3, 5, 7), (2, 12, 1, 1), (4, 16, 3, 2)]


def maps(shape: tuple[int, ...], last: bool = True) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))) * 3 + 1
    return (channels_last(made) if last else made).requires_grad_()


def both(ours: nn.Module, theirs: nn.Module, x: Tensor) -> None:
    """Outputs and gradients agree."""
    again = x.detach().clone().contiguous().requires_grad_()
    y, expected = ours(x), theirs(again)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=2e-6)
    upstream = torch.randn(y.shape)
    y.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(x.grad, again.grad, rtol=1e-4, atol=1e-5)
    for mine, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, their.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_norm_is_torchs(shape: tuple[int, ...], last: bool) -> None:
    ours, theirs = BatchNorm2d(shape[1]), nn.BatchNorm2d(shape[1])
    for norm in (ours, theirs):
        norm.load_state_dict({**norm.state_dict(), "weight": torch.arange(shape[1]) + 0.5})
    for _ in range(3):
        both(ours, theirs, maps(shape, last))
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[name], rtol=1e-5, atol=1e-6)
    both(ours.eval(), theirs.eval(), maps(shape, last))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [*SHAPES, (6, 4, 14, 14), (5, 8, 7, 9)], ids=str)
def test_a_convolution_of_points_is_torchs(shape: tuple[int, ...], stride: int) -> None:
    ours = PointConv2d(shape[1], 6, 1, stride)
    # In float64 torch's own does not go by oneDNN.
    theirs = nn.Conv2d(shape[1], 6, 1, stride).double()
    theirs.load_state_dict(ours.state_dict())
    x = maps(shape)
    again = x.detach().double().contiguous().requires_grad_()
    y, expected = ours(x), theirs(again)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)
    upstream = torch.randn(y.shape)
    y.backward(upstream)
    expected.backward(upstream.double())
    torch.testing.assert_close(x.grad.double(), again.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.weight.grad.double(), theirs.weight.grad, rtol=1e-4, atol=1e-4)


def test_batch_norm_far_from_zero_loses_no_digits() -> None:
    x = channels_last(torch.randn(64, 3, 6, 6) + 1000.0).requires_grad_()
    expected = (x.double() - x.double().mean((0, 2, 3), keepdim=True)) / x.double().std((0, 2, 3), keepdim=True)
    torch.testing.assert_close(BatchNorm2d(3)(x).double(), expected, rtol=0, atol=2e-3)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(("stride", "padding"), [(1, 0), (1, 2), (3, 1)])
def test_a_convolution_of_signals_is_torchs(stride: int, padding: int, last: bool) -> None:
    ours, theirs = (made(6, 20, 5, stride, padding) for made in (Conv1d, nn.Conv1d))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, 30, 6).transpose(1, 2)
    both(ours, theirs, (x if last else x.contiguous()).requires_grad_())
    assert not last or ours(x).transpose(1, 2).is_contiguous()


def test_before_a_batch_norm_a_bias_has_no_gradient_to_compute() -> None:
    ours, theirs = (nn.Sequential(made(3, 5, 3), nn.BatchNorm2d(5)).double() for made in (CentredConv2d, nn.Conv2d))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(4, 3, 6, 6, dtype=torch.double)
    upstream = torch.randn(4, 5, 4, 4, dtype=torch.double)
    for network in (ours, theirs):
        network(x).backward(upstream)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    left, (bias, *rest) = [p.grad for p in ours.parameters()], [p.grad for p in list(theirs.parameters())[1:]]
    assert left[1] is None
    torch.testing.assert_close(bias, torch.zeros(5, dtype=torch.double), rtol=0, atol=1e-12)
    torch.testing.assert_close([left[0], *left[2:]], [theirs[0].weight.grad, *rest])


def test_tanh_is_torchs() -> None:
    both(Tanh(), nn.Tanh(), maps((8, 3, 5, 7)))
    x = torch.tensor([-100.0, -1e-3, 0.0, 1e-30, 20.0, torch.inf])
    torch.testing.assert_close(Tanh()(x), x.tanh(), rtol=0, atol=2e-7)


@pytest.mark.parametrize("shape", [(6, 5), (6, 4, 3, 2)], ids=str)
def test_an_elements_slope_is_torchs(shape: tuple[int, ...]) -> None:
    ours = ElementPReLU(*shape[1:])
    nn.init.normal_(ours.weight)

    class Theirs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(ours.weight.detach().clone())

        def forward(self, x: Tensor) -> Tensor:
            return prelu(x.flatten(1), self.weight.flatten()).view(x.shape)

    both(ours, Theirs(), maps(shape))


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5, 0.95])
def test_a_mask_drops_its_share_and_keeps_the_mean(rate: float) -> None:
    torch.manual_seed(0)
    mask = mask_like(channels_last(torch.empty(40, 10, 50, 50)), rate)
    kept = mask[mask > 0]
    assert kept.unique().numel() == 1
    assert float(kept[0]) == pytest.approx(1 / (1 - rate), rel=1e-3)
    deviation = (rate * (1 - rate) / mask.numel()) ** 0.5
    assert abs((mask == 0).double().mean().item() - rate) < 5 * deviation + 1 / 65536
    # Neighbours in memory share 64 random bits, yet are independent.
    drawn = (mask.permute(0, 2, 3, 1).flatten() == 0).double()
    for lag in (1, 2, 3, 4):
        assert abs(torch.corrcoef(torch.stack([drawn[:-lag], drawn[lag:]]))[0, 1]) < 5e-3


def test_dropout_is_its_mask_in_training_and_nothing_in_evaluation() -> None:
    x = maps((16, 4, 5, 5))
    layer = Dropout(0.25)
    torch.manual_seed(1)
    y = layer(x)
    torch.manual_seed(1)
    mask = mask_like(x, 0.25)
    assert torch.equal(y, x * mask)
    y.sum().backward()
    assert torch.equal(x.grad, mask)
    assert layer.eval()(x) is x or torch.equal(layer(x), x)
    assert not mask_like(x, 1.0).any()


def test_flattening_goes_place_by_place() -> None:
    x = torch.arange(2 * 3 * 4).reshape(2, 3, 4)
    assert FlattenPlaces()(x)[0, :3].tolist() == x[0, :, 0].tolist()
    assert FlattenPlaces()(maps((2, 3, 4, 5))).is_contiguous()

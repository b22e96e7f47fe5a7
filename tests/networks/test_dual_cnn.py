"""Bajaj's network: the printed counts, sizes that follow from kernel and stride, and its scaler."""

from __future__ import annotations

import itertools

import pytest
import torch
from shapes import built
from torch import nn
from torch.nn.functional import cross_entropy

from mmtune.base.errors import InputError
from mmtune.networks.config.bajaj import DualCNNConfig

IMAGE, AUDIO = torch.rand(8, 1, 28, 28), torch.rand(8, 39, 13)
ONCE = torch.ones(8, dtype=torch.int64)


def test_the_defaults_have_the_printed_layers() -> None:
    model = built(DualCNNConfig())
    assert [m.in_features for m in model.modules() if isinstance(m, nn.Linear)] == [1568, 128, 64 * 126, 128, 128]


@pytest.mark.parametrize(("kernel", "stride"), list(itertools.product((1, 2, 3, 4, 5, 7, 9, 27), (1, 2, 3))))
def test_every_kernel_and_stride_that_is_accepted_runs(kernel: int, stride: int) -> None:
    model = built(DualCNNConfig(kernel=kernel, stride=stride)).eval()
    with torch.no_grad():
        output = model(IMAGE, AUDIO)
    assert output.logits.shape == (8, 10)
    assert output.embedding.shape == (8, sum(model.parts.values()))


def torch_can(kernel: int, stride: int) -> bool:
    """Whether two blocks of such a convolution and a pool give a picture at all."""
    block = [nn.Conv2d(1, 1, kernel, stride, kernel // 2), nn.MaxPool2d(2)]
    try:
        return nn.Sequential(*block, *block)(IMAGE).numel() > 0
    except RuntimeError:
        return False


def refusal(kernel: int, stride: int) -> str:
    """What is said of such a network; nothing where it is accepted."""
    try:
        with torch.device("meta"):
            built(DualCNNConfig(kernel=kernel, stride=stride))
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kernel", [1, 2, 5, 26, 27])
def test_what_is_refused_is_what_torch_cannot_run(kernel: int) -> None:
    refused = {stride: refusal(kernel, stride) for stride in range(1, 28)}
    assert [s for s, line in refused.items() if not line] == [s for s in refused if torch_can(kernel, s)]
    assert all(f"kernel {kernel} and stride {s}" in line for s, line in refused.items() if line)
    assert not any("\n" in line for line in refused.values())


@pytest.mark.parametrize("fields", [{"kernel": 0}, {"stride": 0}, {"kernel": 5.0}, {"dropout": 1.0}], ids=str)
def test_a_value_outside_its_range_is_refused(fields: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(fields))):
        DualCNNConfig(**fields)


def test_layout_and_order_of_pools_change_nothing() -> None:
    model = built(DualCNNConfig()).eval()
    first, second = (m for m in model.audio if isinstance(m, nn.Conv1d))
    fc1, fc2 = (m for m in model.audio if isinstance(m, nn.Linear))
    hidden = nn.functional.max_pool1d(first(AUDIO.reshape(8, 1, 507)).relu(), 2)
    hidden = nn.functional.max_pool1d(second(hidden).relu(), 2).transpose(1, 2).flatten(1)
    torch.testing.assert_close(model(IMAGE, AUDIO).embedding[:, 64:], fc2(fc1(hidden).relu()).relu())


def test_audio_is_standardised_by_what_was_prepared() -> None:
    torch.manual_seed(1)
    model = built(DualCNNConfig()).eval()
    weights = torch.tensor([1, 2, 3, 1, 1, 5, 1, 1])
    before = model(IMAGE, AUDIO).logits
    model.prepare({"audio": (AUDIO, weights)})
    prepared = model(IMAGE, AUDIO).logits
    assert not torch.allclose(prepared, before)
    # A scaler makes the units of the audio meaningless.
    model.prepare({"audio": (AUDIO * 1000 - 7, weights)})
    torch.testing.assert_close(model(IMAGE, AUDIO * 1000 - 7).logits, prepared, rtol=1e-3, atol=1e-4)


def test_it_learns_a_few_pairs() -> None:
    torch.manual_seed(0)
    model, labels = built(DualCNNConfig(dropout=0.0)), torch.arange(8)
    model.prepare({"audio": (AUDIO, ONCE)})
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(40):
        optimizer.zero_grad()
        cross_entropy(model(IMAGE, AUDIO).logits, labels).backward()
        optimizer.step()
    assert (model(IMAGE, AUDIO).logits.argmax(1) == labels).all()


def test_the_same_seed_draws_the_same_weights_whatever_was_prepared() -> None:
    torch.manual_seed(3)
    first = built(DualCNNConfig())
    first.prepare({"audio": (AUDIO, ONCE)})
    follows = torch.rand(3)
    torch.manual_seed(3)
    second = built(DualCNNConfig())
    assert torch.equal(torch.rand(3), follows)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))

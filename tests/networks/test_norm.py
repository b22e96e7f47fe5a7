"""Running statistics are the plain mean of all batches until that mean is older than Keras' momentum."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mmtune.networks.papers.keras import EPSILON, MOMENTUM, WarmNorm1d, WarmNorm2d


@pytest.mark.parametrize(("norm", "shape"), [(WarmNorm1d(3), (8, 3)), (WarmNorm2d(3), (8, 3, 4, 4))])
def test_early_statistics_are_means_and_late_ones_forget(norm: WarmNorm1d | WarmNorm2d, shape: tuple[int, ...]) -> None:
    batches = [torch.randn(shape) * 3 + n % 7 for n in range(130)]
    dims = [dim for dim in range(len(shape)) if dim != 1]
    means = [batch.mean(dims) for batch in batches]
    expected = torch.zeros(3)
    for n, batch in enumerate(batches, start=1):
        norm.train()(batch)
        expected += max(MOMENTUM, 1 / n) * (means[n - 1] - expected)
        if n in (1, 2, 50, 100):
            torch.testing.assert_close(norm.running_mean, torch.stack(means[:n]).mean(0))
    torch.testing.assert_close(norm.running_mean, expected)
    plain = nn.functional.batch_norm(batches[0], norm.running_mean, norm.running_var, eps=EPSILON)
    torch.testing.assert_close(norm.eval()(batches[0]), plain)


def test_after_loading_it_goes_on_where_it_was() -> None:
    first, second = WarmNorm1d(3), WarmNorm1d(3)
    for _ in range(4):
        first(torch.randn(8, 3))
    second.load_state_dict(first.state_dict())
    batch = torch.randn(8, 3)
    torch.testing.assert_close(first(batch), second(batch))
    torch.testing.assert_close(first.running_mean, second.running_mean)

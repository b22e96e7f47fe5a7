"""What networks over padded sequences share: which steps count, batch norm over time, a recurrent layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmtune.networks.norm import EPSILON, MOMENTUM


def valid_steps(audio: Tensor) -> Tensor:
    """Which steps of (B, T, K) are no padding, (B, T) bool.

    Step t is padding where the MFCCs of t and of all later steps are exactly zero. The first step always counts, so
    that a sequence of nothing but zeros is one step of silence.
    """
    sounding = (audio != 0).any(dim=2)
    followed = sounding.flip(1).cumsum(1).flip(1) > 0
    return torch.cat([torch.ones_like(followed[:, :1]), followed[:, 1:]], dim=1)


def evenly(lengths: Tensor, count: int) -> Tensor:
    """`count` >= 2 steps from the first to the last of (B,) lengths, evenly spaced, as (B, count) int64.

    Shorter sequences repeat steps.
    """
    n = torch.arange(count, device=lengths.device)
    return (2 * n * (lengths.unsqueeze(1) - 1) + count - 1) // (2 * (count - 1))


class BatchNormOverTime(nn.Module):
    """Batch norm of (B, T, ...), T <= steps, with one mean, variance, scale and shift for each step.

    This is the authors' normalisation along the axis of time, as their parameter counts need it. Steps that are not
    `valid` (B, T) have no part in the statistics; a step that no sequence has leaves its running ones as they are.
    So a step that no training sequence reaches is never normalised. The running ones are plain means until they
    are older than the momentum, as in `norm.WarmNorm1d`.
    """

    running_mean: Tensor
    running_var: Tensor
    batches: Tensor

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(steps))
        self.bias = nn.Parameter(torch.zeros(steps))
        self.register_buffer("running_mean", torch.zeros(steps))
        self.register_buffer("running_var", torch.ones(steps))
        self.register_buffer("batches", torch.zeros(steps))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        steps, flat = x.shape[1], x.flatten(2)
        mean, var = self.statistics(flat, valid) if self.training else (self.running_mean, self.running_var)
        scale = self.weight[:steps] * (var[:steps] + EPSILON).rsqrt()
        shift = self.bias[:steps] - mean[:steps] * scale
        return (flat * scale[:, None] + shift[:, None]).view(x.shape)

    def statistics(self, flat: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance (T,) of each step of (B, T, F) where valid; the running ones follow."""
        count = valid.sum(0)
        share = valid / count.clamp(min=1)
        mean = (flat.mean(2) * share).sum(0)
        var = ((flat - mean[:, None]).square().mean(2) * share).sum(0)
        seen = self.batches[: len(count)].add_(count > 0)
        rate = (1 / seen.clamp(min=1)).clamp(min=MOMENTUM) * (count > 0)
        for running, batch in ((self.running_mean, mean), (self.running_var, var)):
            running[: len(count)].lerp_(batch.detach(), rate)
        return mean, var


class LSTM(nn.Module):
    """Keras' LSTM over (B, T, F), its output at the last valid step, (B, units).

    One bias where PyTorch has two (the other stays zero), forget gates that begin with a bias of one, orthogonal
    recurrent weights. The gates are sigmoid, where Keras of the authors' day had its piecewise linear likeness.
    """

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(features, units, batch_first=True)
        weights = dict(self.lstm.named_parameters())
        nn.init.xavier_uniform_(weights["weight_ih_l0"])
        nn.init.orthogonal_(weights["weight_hh_l0"])
        nn.init.zeros_(weights["bias_ih_l0"])
        nn.init.ones_(weights["bias_ih_l0"][units : 2 * units])
        nn.init.zeros_(weights["bias_hh_l0"]).requires_grad_(False)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        steps: Tensor = self.lstm(x)[0]
        return steps[torch.arange(len(x), device=x.device), valid.sum(1) - 1]

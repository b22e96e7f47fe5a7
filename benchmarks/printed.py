"""The networks as the reports print them, in plain torch: what somebody types who reads the report and nothing else.

Every convolution is followed by its activation and then by its pool, tensors lie as torch makes them, and layers are
torch's own. They compute what mmtune's networks compute: with the same weights in eval mode they give the same logits.
Each takes what the plain loop's loader yields, image (B, 1, 28, 28) and audio (B, 39, 13) or the one that it needs.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.printed_xflow import XFlow
from mmtune.networks.config import AudioRNNConfig, DualCNNConfig, ImageCNNConfig, MultiheadFusionConfig
from mmtune.networks.config.venkatachalam import numbers
from mmtune.networks.config.xflow import XFlowMLPConfig


class AudioRNN(nn.Module):
    """Joshi, section 2.2, figure 10."""

    def __init__(self, config: AudioRNNConfig) -> None:
        super().__init__()
        self.view = (1, 507) if config.view == "step" else (39, 13)
        self.rnn = nn.RNN(self.view[1], config.hidden, config.layers, batch_first=True)
        self.fc1, self.bn1 = nn.Linear(config.hidden, 100), nn.BatchNorm1d(100)
        self.fc2, self.bn2 = nn.Linear(100, 64), nn.BatchNorm1d(64)
        self.fc3, self.bn3 = nn.Linear(64, 10), nn.BatchNorm1d(10)

    def forward(self, audio: Tensor) -> Tensor:
        steps, _ = self.rnn(audio.view(-1, *self.view))
        hidden = torch.relu(self.bn1(self.fc1(steps[:, -1])))
        return self.bn3(self.fc3(torch.relu(self.bn2(self.fc2(hidden)))))


class ImageCNN(nn.Module):
    """Joshi, section 2.2, figure 9."""

    def __init__(self, config: ImageCNNConfig) -> None:
        super().__init__()
        normed, pooled = config.norm.split("-"), numbers(config.pools)
        activation: type[nn.Module] = nn.Tanh if config.activation == "tanh" else nn.ReLU
        layers: list[nn.Module] = []
        for n, (before, after) in enumerate(itertools.pairwise((1, 6, 12, 24, 48)), start=1):
            layers += [nn.Conv2d(before, after, config.kernel)]
            layers += [nn.BatchNorm2d(after)] if f"l{n}" in normed else []
            layers += [activation()]
            layers += [nn.MaxPool2d(2)] if n in pooled else []
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        norm = [nn.BatchNorm1d(120)] if "l5" in normed and config.l5 == "fc1" else []
        self.linear = nn.Sequential(
            *(nn.Linear(flat_size(self.convolutions), 120), *norm, activation(), nn.Dropout(config.dropout)),
            *(nn.Linear(120, 64), activation(), nn.Dropout(config.dropout)),
            nn.Linear(64, 10),
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.linear(self.convolutions(image))


def flat_size(convolutions: nn.Module) -> int:
    """What the first linear layer must take."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        return int(convolutions.eval()(torch.zeros(1, 1, 28, 28)).shape[1])


class DualCNN(nn.Module):
    """Bajaj, section 2.2; the StandardScaler of section 2.1 is applied to the arrays beforehand, as the report did."""

    def __init__(self, config: DualCNNConfig) -> None:
        super().__init__()
        kernel, stride, rate = config.kernel, config.stride, config.dropout
        self.image = nn.Sequential(
            *(nn.Conv2d(1, 16, kernel, stride, kernel // 2), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(rate)),
            *(nn.Conv2d(16, 32, kernel, stride, kernel // 2), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(rate)),
            *(nn.Flatten(), nn.Linear(32 * config.left_of("image", 28) ** 2, 128), nn.ReLU(), nn.Dropout(rate)),
            *(nn.Linear(128, 64), nn.ReLU()),
        )
        self.audio = nn.Sequential(
            *(nn.Conv1d(1, 32, kernel, stride, kernel // 2), nn.ReLU(), nn.MaxPool1d(2), nn.Dropout(rate)),
            *(nn.Conv1d(32, 64, kernel, stride, kernel // 2), nn.ReLU(), nn.MaxPool1d(2), nn.Dropout(rate)),
            *(nn.Flatten(), nn.Linear(64 * config.left_of("audio", 39 * 13), 128), nn.ReLU(), nn.Dropout(rate)),
            *(nn.Linear(128, 64), nn.ReLU()),
        )
        self.fc = nn.Linear(128, 10)

    def forward(self, image: Tensor, audio: Tensor) -> Tensor:
        return self.fc(torch.cat([self.image(image), self.audio(audio.flatten(1).unsqueeze(1))], dim=1))


class MultiheadFusion(nn.Module):
    """Venkatachalam, sections 2.2 and 2.4; where the softmax is asked for, training sees it and scores do without."""

    def __init__(self, config: MultiheadFusionConfig) -> None:
        super().__init__()
        joined = 2 * config.width
        self.image = picture_layers(config)
        self.audio = heads_layers(config) if config.audio_net == "multihead" else sequential_layers(config)
        self.norm = nn.BatchNorm1d(joined) if config.fusion_norm else nn.Identity()
        hidden = [nn.Linear(joined, 64), nn.ReLU()] if config.fusion_fc == 2 else []
        self.head = nn.Sequential(*hidden, nn.Linear(64 if hidden else joined, 10))
        self.softmax = config.softmax

    def forward(self, image: Tensor, audio: Tensor) -> Tensor:
        joined = torch.cat([self.image(image), self.audio(audio.flatten(1).unsqueeze(1))], dim=1)
        logits = self.head(self.norm(joined))
        return torch.softmax(logits, 1) if self.softmax and self.training else logits


class Heads(nn.Module):
    """Convolutions of 32 channels and different kernels beside each other."""

    def __init__(self, kernels: tuple[int, ...]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Conv1d(1, 32, kernel, padding=kernel // 2) for kernel in kernels)

    def forward(self, audio: Tensor) -> Tensor:
        return torch.cat([head(audio) for head in self.heads], dim=1)


def picture_layers(config: MultiheadFusionConfig) -> nn.Sequential:
    """(B, 1, 28, 28) to (B, width)."""
    kernels, before, side = numbers(config.image_kernels), 1, 28
    layers: list[nn.Module] = []
    for n, (kernel, after) in enumerate(zip(kernels, (32, 64, 128, 256), strict=False), start=1):
        last = n == len(kernels)
        layers += [nn.Conv2d(before, after, kernel, padding=kernel // 2), *relu(config, last)]
        layers += [nn.MaxPool2d(2)] if n <= config.image_pools else []
        layers += dropout(config, config.image_dropouts, n, last)
        before, side = after, side // 2 if n <= config.image_pools else side
    return nn.Sequential(*layers, *linear_layers(config, before * side**2, config.image_fc, config.image_dropouts))


def heads_layers(config: MultiheadFusionConfig) -> nn.Sequential:
    """(B, 1, 507) to (B, width), by parallel heads."""
    heads, code, extra = numbers(config.heads), config.audio_dropouts, config.extra_conv
    layers: list[nn.Module] = [Heads(heads), *relu(config, not extra), nn.MaxPool1d(3, stride=1, padding=1)]
    layers += dropout(config, code, 1, not extra)
    if extra:
        layers += [nn.Conv1d(32 * len(heads), 64, 3), *relu(config, True), nn.MaxPool1d(2)]
        layers += dropout(config, code, 2, True)
    flat = 64 * ((507 - 2) // 2) if extra else 32 * len(heads) * 507
    return nn.Sequential(*layers, *linear_layers(config, flat, config.audio_fc, code))


def sequential_layers(config: MultiheadFusionConfig) -> nn.Sequential:
    """(B, 1, 507) to (B, width), by two convolutions in turn."""
    (first, second), code = numbers(config.audio_kernels), config.audio_dropouts
    layers: list[nn.Module] = [nn.Conv1d(1, 32, first), *relu(config, False), *dropout(config, code, 1, False)]
    layers += [nn.Conv1d(32, 64, second), *relu(config, True), nn.MaxPool1d(config.audio_pool)]
    layers += dropout(config, code, 2, True)
    flat = 64 * ((507 - first - second + 2) // config.audio_pool)
    return nn.Sequential(*layers, *linear_layers(config, flat, config.audio_fc, code))


def linear_layers(config: MultiheadFusionConfig, flat: int, count: int, code: str) -> list[nn.Module]:
    """`count` linear layers on flattened maps, the first one 128 wide unless it is the last."""
    widths = [flat, *([128] if count > 1 else []), *[config.width] * max(count - 1, 1)]
    layers: list[nn.Module] = [nn.Flatten()]
    for n, (before, after) in enumerate(itertools.pairwise(widths), start=1):
        layers += [nn.Linear(before, after)]
        layers += [nn.ReLU()] if n < count else []
        layers += [nn.Dropout(config.dropout)] if n == 1 and "fc1" in code.split("-") else []
    return layers


def relu(config: MultiheadFusionConfig, last: bool) -> list[nn.Module]:
    return [nn.ReLU()] if config.last_relu or not last else []


def dropout(config: MultiheadFusionConfig, code: str, n: int, last: bool) -> list[nn.Module]:
    here = {f"conv{n}", "last"} if last else {f"conv{n}"}
    return [nn.Dropout(config.dropout)] if here & set(code.split("-")) else []


PRINTED: dict[type, Any] = {
    AudioRNNConfig: AudioRNN,
    ImageCNNConfig: ImageCNN,
    DualCNNConfig: DualCNN,
    MultiheadFusionConfig: MultiheadFusion,
    XFlowMLPConfig: XFlow,
}


def printed(config: Any) -> nn.Module:
    """The network of a configuration as its report prints it, with fresh weights."""
    network: nn.Module = PRINTED[type(config)](config)
    return network.train()


def parameters(network: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(math.prod(p.shape) for p in network.parameters() if p.requires_grad)

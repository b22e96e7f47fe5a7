"""Adam is torch's Adam, goes on where it stopped, and costs no import of a compiler."""

from __future__ import annotations

import subprocess
import sys

import torch
from torch import nn

from mmtune.train.adam import Adam


def networks(count: int) -> list[nn.Sequential]:
    """Copies of one network, of which a bias is not trained and another layer never has a gradient."""
    made = []
    for _ in range(count):
        torch.manual_seed(3)
        network = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3), nn.Linear(3, 2))
        network[0].bias.requires_grad_(False)
        made.append(network)
    return made


def gradients(network: nn.Sequential, seed: int) -> None:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(seed))
    network[:3](x).square().sum().backward()


def assert_same(first: nn.Module, second: nn.Module) -> None:
    for mine, theirs in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


def test_it_is_torchs() -> None:
    ours, theirs = networks(2)
    mine, reference = Adam(ours.parameters(), 0.01), torch.optim.Adam(theirs.parameters(), lr=0.01, fused=True)
    for seed in range(20):
        for network, optimizer in ((ours, mine), (theirs, reference)):
            optimizer.zero_grad()
            gradients(network, seed)
            optimizer.step()
    assert_same(ours, theirs)
    assert torch.equal(ours[3].weight, networks(1)[0][3].weight)


def test_it_goes_on_where_it_stopped() -> None:
    whole, halves = networks(2)
    first, second = Adam(whole.parameters(), 0.01), Adam(halves.parameters(), 0.01)
    for seed in range(10):
        if seed == 5:
            stopped = second.named()
            second = Adam(halves.parameters(), 0.01)
            second.load(stopped)
        for network, optimizer in ((whole, first), (halves, second)):
            optimizer.zero_grad()
            gradients(network, seed)
            optimizer.step()
    assert_same(whole, halves)


def test_a_training_imports_no_compiler() -> None:
    code = (
        "import sys, torch; from mmtune.train.fit import fit; from mmtune.train.batches import Rows;"
        "from mmtune.networks.config import AudioRNNConfig; from mmtune.train.recipe import Train, TrialConfig;"
        "from mmtune.train.batches import Held; from mmtune.networks.shapes import Shapes;"
        "index = torch.arange(40); shapes = Shapes(banks={'audio': (39, 13)}, classes=10);"
        "held = {'audio': Held(torch.randn(40, 39, 13), index)};"
        "rows = Rows(banks=held, labels=index % 10, shapes=shapes);"
        "fit(TrialConfig(model=AudioRNNConfig(hidden=8), train=Train(epochs=1)), rows, rows, seed=0);"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

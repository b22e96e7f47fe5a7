"""Fruit told from a photo and two numbers, by a network of its own.

Data: samples/fruit.py makes 288 photos with a weight and a length each, from twelve orchards, which are kept apart.
Commands, where `mmtune` is on the path:

    python docs/examples/samples/fruit.py data/fruit_files
    mmtune data build --table data/fruit_files/samples.csv --image photo:32x32:rgb --vector weight,length \
        --group orchard --keep-apart orchard --out data/fruit
    mmtune study docs/examples/fruit.py --data data/fruit
    mmtune promote docs/examples/fruit.py
    mmtune predict --model fruit --image data/fruit_files/new.png --input vector=70,66 --studies docs/examples

Time, 2 cores: half a minute.
"""

from dataclasses import dataclass

import torch
from torch import nn

from mmtune import Categorical, Real, Study, Train, TrialConfig
from mmtune.networks import Output


@dataclass(frozen=True, kw_only=True)
class Net:
    channels: int = 8
    width: int = 32
    reads: tuple[str, ...] = ("photo", "vector")

    def build(self, shapes):
        return Module(self.channels, self.width, shapes["photo"], shapes["vector"][0], shapes.classes)


class Module(nn.Module):
    def __init__(self, channels, width, photo, numbers, classes):
        super().__init__()
        colours, height, across = photo
        self.see = nn.Sequential(
            nn.Conv2d(colours, channels, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(4),
            nn.Flatten(),
            nn.Linear(channels * (height // 4) * (across // 4), width),
            nn.ReLU(),
        )
        self.weigh = nn.Sequential(nn.Linear(numbers, width), nn.ReLU())
        self.parts = {"photo": width, "vector": width}
        self.seen, self.weighed, self.both = (nn.Linear(size, classes) for size in (width, width, 2 * width))

    def forward(self, photo, vector):  # (B, 3, 32, 32) in [0, 1], (B, 2) standardised
        seen, weighed = self.see(photo), self.weigh(vector)
        together = torch.cat([seen, weighed], dim=1)
        # What each says alone shows where they contradict each other; it trains no encoder.
        alone = {"photo": self.seen(seen.detach()), "vector": self.weighed(weighed.detach())}
        return Output(self.both(together), together, alone)


STUDY = Study(
    name="fruit",
    base=TrialConfig(
        model=Net(), train=Train(epochs=20, weights="last", batch_size=16, learning_rate=0.003, schedule="cosine")
    ),
    space=(
        Categorical(path="model.channels", values=(4, 8, 16)),
        Categorical(path="model.width", values=(16, 32, 64)),
        Real(path="train.learning_rate", low=1e-3, high=1e-2, log=True),
    ),
    trials=6,
)

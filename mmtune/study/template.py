"""my_study: digits told from their picture and their spoken name, by a network of its own."""

from dataclasses import dataclass

import torch
from torch import nn

from mmtune import Categorical, Real, Study, Train, TrialConfig


@dataclass(frozen=True, kw_only=True)
class Net:  # every field can be searched, by its path: model.width
    width: int = 64
    reads: tuple[str, ...] = ("image", "audio")  # the banks that it is given; `mmtune data info FOLDER` names yours

    def build(self, shapes):  # by bank the shape of one value, such as (channels, height, width)
        return Module({bank: torch.Size(shapes[bank]).numel() for bank in self.reads}, self.width, shapes.classes)


class Module(nn.Module):  # plain torch, and all yours
    def __init__(self, sizes, width, classes):
        super().__init__()
        self.encoders = nn.ModuleDict({bank: nn.Linear(size, width) for bank, size in sizes.items()})
        self.head = nn.Linear(width * len(sizes), classes)

    def forward(self, **banks):  # by bank (B, *shape), pictures in [0, 1]; gives logits (B, classes)
        told = [encode(banks[bank].flatten(1)).relu() for bank, encode in self.encoders.items()]
        return self.head(torch.cat(told, dim=1))


STUDY = Study(
    name="my_study",  # as its file
    base=TrialConfig(model=Net(), train=Train(epochs=10, schedule="cosine")),  # the recipe; where a search begins
    space=(
        Categorical(path="model.width", values=(16, 32, 64, 128)),
        Categorical(path="train.optimizer", values=("adam", "adamw", "sgd")),
        Real(path="train.learning_rate", low=1e-4, high=1e-2, log=True),
    ),
)

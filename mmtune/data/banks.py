"""Which banks of a data set a network is to read, and which of them a row may lack."""

from __future__ import annotations

import numpy as np

from mmtune.data.dataset import Dataset
from mmtune.data.forms import Sound

SOUNDS = ("speech", "waveform", "logmel", "mfcc")
"""Of banks that are made of the same recordings, which one is read rather than which."""


def banks_of(dataset: Dataset) -> list[str]:
    """The banks that are read: all, but of those that are made of the same recordings one."""
    sounds = {name: form for name, form in dataset.forms.items() if isinstance(form, Sound)}
    heard: list[str] = []
    for name in sorted(sounds, key=lambda own: SOUNDS.index(sounds[own].kind)):
        if not any(are_one(dataset, name, other) for other in heard):
            heard.append(name)
    return [name for name in dataset.forms if name not in sounds or name in heard]


def are_one(dataset: Dataset, name: str, other: str) -> bool:
    """Whether two banks of sounds are the same recordings in two kinds: the same rows share one in each."""
    one, two = (dataset.train.banks[own].index for own in (name, other))
    if dataset.forms[name].kind == dataset.forms[other].kind or not np.array_equal(one >= 0, two >= 0):
        return False
    pairs = len(np.unique(np.stack([one, two]), axis=1).T)
    # Recordings that differ by nothing that features tell are one value of theirs.
    return pairs <= 1.02 * max(len(np.unique(one)), len(np.unique(two)))


def lacks(dataset: Dataset, bank: str) -> bool:
    """Whether some row has no value in a bank."""
    return any(bool((part.banks[bank].index < 0).any()) for part in dataset.partitions.values())

"""Data sets of pairs: sources, features, pairing, splits. Pure, seeded, and free of torch.

The names below are imported when they are first used, so that `import mmtune.data` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmtune.data.dataset import AUDIO_SHAPE, IMAGE_SHAPE, SAMPLE_RATE, Dataset, Partition
    from mmtune.data.features import FeatureStats, mfcc
    from mmtune.data.pictures import read_digit
    from mmtune.data.recordings import one_second, read_wav
    from mmtune.data.splits import Split, folds, leakage, split
    from mmtune.data.store import load, save

__all__ = [
    "AUDIO_SHAPE",
    "IMAGE_SHAPE",
    "SAMPLE_RATE",
    "Dataset",
    "FeatureStats",
    "Partition",
    "Split",
    "folds",
    "leakage",
    "load",
    "mfcc",
    "one_second",
    "read_digit",
    "read_wav",
    "save",
    "split",
]
MODULES = ("dataset", "features", "pictures", "recordings", "splits", "store")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in map(import_module, (f"{__name__}.{m}" for m in MODULES)):
            if name in vars(module):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

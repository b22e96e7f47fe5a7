"""Data sets of pairs: sources, features, pairing, splits. Pure, seeded, and free of torch.

The names below are imported when they are first used, so that `import mmtune.data` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmtune.data.building import build as build
    from mmtune.data.bundled import sample as sample
    from mmtune.data.bundled import sample_folder as sample_folder
    from mmtune.data.dataset import AUDIO_SHAPE as AUDIO_SHAPE
    from mmtune.data.dataset import IMAGE_SHAPE as IMAGE_SHAPE
    from mmtune.data.dataset import SAMPLE_RATE as SAMPLE_RATE
    from mmtune.data.dataset import Dataset as Dataset
    from mmtune.data.dataset import Partition as Partition
    from mmtune.data.dataset import Progress as Progress
    from mmtune.data.features import FeatureStats as FeatureStats
    from mmtune.data.features import mfcc as mfcc
    from mmtune.data.info import describe as describe
    from mmtune.data.info import draw_pairs as draw_pairs
    from mmtune.data.info import lines as lines
    from mmtune.data.pictures import read_digit as read_digit
    from mmtune.data.protocols import Split as Split
    from mmtune.data.protocols import folds as folds
    from mmtune.data.protocols import leakage as leakage
    from mmtune.data.protocols import split as split
    from mmtune.data.recordings import one_second as one_second
    from mmtune.data.recordings import read_wav as read_wav
    from mmtune.data.store import load as load
    from mmtune.data.store import save as save
    from mmtune.data.zenodo import fetch as fetch

HOMES = {
    "building": ("build",),
    "bundled": ("sample", "sample_folder"),
    "dataset": ("AUDIO_SHAPE", "IMAGE_SHAPE", "SAMPLE_RATE", "Dataset", "Partition", "Progress"),
    "features": ("FeatureStats", "mfcc"),
    "info": ("describe", "draw_pairs", "lines"),
    "pictures": ("read_digit",),
    "protocols": ("Split", "folds", "leakage", "split"),
    "recordings": ("one_second", "read_wav"),
    "store": ("load", "save"),
    "zenodo": ("fetch",),
}


def __getattr__(name: str) -> Any:
    for module, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(name for names in HOMES.values() for name in names)

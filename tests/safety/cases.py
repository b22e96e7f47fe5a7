"""A hostile file in its place, and what is said of it; sound forms to begin with."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import hostile

READY = {"kind": "ready", "of": "float32"}
MFCC = {"kind": "mfcc", "seconds": 1.0, "mean": [0.0] * 13, "std": [1.0] * 13, "low": 0.0, "high": 1.0}


@dataclass(frozen=True, kw_only=True)
class Case:
    """spoil: makes a file hostile, given it and the marker; place: of the file; said: words of the refusal."""

    place: str
    spoil: Callable[[Path, Path], object]
    said: str


def case(place: str, spoil: Callable[[Path], object], said: str) -> Case:
    return Case(place=place, spoil=lambda path, marker: spoil(path), said=said)


def running(place: str, spoil: Callable[[Path, Path], object], said: str) -> Case:
    return Case(place=place, spoil=spoil, said=said)


def npz_running(name: str) -> Callable[[Path, Path], object]:
    return lambda path, marker: hostile.with_member(path, name, hostile.npy_bytes(hostile.pickled_array(marker)))


def npz_bomb(name: str) -> Callable[[Path], object]:
    """300 MB of zeros in 300 KB, as many as the header says."""
    shape = (37_500_000,)
    return lambda path: hostile.with_member(path, name, hostile.zeros_npy(shape, "<i8", 300_000_000))


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def outside(path: Path) -> None:
    """A file, or the folder of a partition, somewhere else."""
    here = next(folder for folder in path.parents if folder.name == "set")
    hostile.link_out(path, here.parent / f"outside-{path.name}")

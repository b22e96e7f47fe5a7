"""What is here and what is missing: versions, devices, the store, the data, the disk, the extras."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from rich.table import Column, Table

from mmtune.base.errors import AwayError, InputError
from mmtune.base.provenance import PACKAGES, describe_device, installed
from mmtune.data.bundled.sample import cache_folder
from mmtune.data.storage.store import load
from mmtune.study.finding import study_files
from mmtune.tracking import MlflowTracker, exists
from mmtune.tracking.address import shown, tracking_uri
from mmtune.tune.machine import default_workers, resolve_device

LEAST_FREE = 2**30
"""Bytes: a study of 20 models and its files need less."""
BAD = "!"
"""What a line begins with that keeps something from working."""
FEATURES: Mapping[str, tuple[str, str]] = {
    "POOL=ray": ("ray", "pip install 'mmtune[ray]'"),
    "POOL=slurm": ("submitit", "pip install 'mmtune[slurm]'"),
    "runs in PostgreSQL": ("psycopg", "pip install 'mmtune[team]'"),
    "make dashboard": ("optuna_dashboard", "pip install 'mmtune[dashboard]'"),
    "m4a, mp3, ogg recordings": ("av", "pip install 'mmtune[media]'"),
    "HEIC pictures": ("pillow_heif", "pip install 'mmtune[media]'"),
    "export to ONNX": ("onnxscript", "pip install 'mmtune[export]'"),
    "system metrics": ("psutil", "pip install psutil"),
}
"""By what it is for, a module that need not be there, and how it comes."""
Line = tuple[str, str, str]


def doctor_table(root: Path, data: Path | None) -> tuple[Table, int]:
    """A line for each thing that matters, and how many of them keep something from working."""
    lines = [*versions(), *machine(), *disk(root), *store(root), *data_lines(data), *features()]
    table = Table(Column("", no_wrap=True), Column("what", no_wrap=True), "found")
    for line in lines:
        table.add_row(*line)
    return table, sum(mark == BAD for mark, _, _ in lines)


def versions() -> Iterator[Line]:
    """Python, and what numbers depend on."""
    yield "", "Python", f"{platform.python_version()} ({sys.executable})"
    for package in PACKAGES:
        found = installed(package)
        yield (BAD if found == "absent" else ""), package, found


def machine() -> Iterator[Line]:
    """What would train."""
    device = resolve_device("auto")
    yield "", "device", f"{device}: {describe_device(device)}, {default_workers(device)} trials at once"
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    if pages:
        yield "", "memory", f"{pages / 2**30:.0f} GiB"


def disk(root: Path) -> Iterator[Line]:
    """Where runs are kept, whether it can be written, and how much room is there."""
    folder = next(own for own in (root, *root.parents) if own.exists())
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    yield (BAD if not writable else ""), "store", f"{root}{'' if writable else ': cannot be written'}"
    yield (BAD if free < LEAST_FREE else ""), "free disk", f"{free / 2**30:.1f} GiB at {folder}"


def store(root: Path) -> Iterator[Line]:
    """What is tracked, and where."""
    try:
        where = shown(tracking_uri(root))
        if not exists(root):
            yield "", "runs", f"none yet ({where})"
            return
        studies = MlflowTracker(root).studies()
        names = dict.fromkeys(own.key.study for own in studies)
        yield "", "runs", f"{len(studies)} studies of {len(names)} names ({where})"
    except (InputError, AwayError) as error:
        yield BAD, "runs", str(error)


def data_lines(data: Path | None) -> Iterator[Line]:
    """The bundled sample, the data that are asked about, and what makes voices."""
    if data is not None:
        try:
            found = load(data)
            test = "no test" if found.test is None else f"{len(found.test):,} test"
            banks = ", ".join(found.forms)
            yield "", "data", f"{found.name}: {len(found.train):,} training and {test} rows of {banks}, {found.folder}"
        except InputError as error:
            yield BAD, "data", str(error)
    cache = cache_folder()
    kept = sorted(own.name for own in cache.glob("sample-*")) if cache.is_dir() else []
    yield "", "bundled sample", f"{', '.join(kept) or 'made in seconds when it is needed'} ({cache})"
    yield "", "studies", f"{len(study_files())} found"


def features() -> Iterator[Line]:
    """What need not be there, and how it comes."""
    for what, (module, how) in FEATURES.items():
        there = find_spec(module) is not None
        yield "", what, "there" if there else f"missing: {how}"

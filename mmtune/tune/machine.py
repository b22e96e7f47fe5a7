"""What trains a study: which device, how many workers, which pool."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from mmtune.base.errors import InputError
from mmtune.base.progress import say
from mmtune.base.provenance import provenance_tags
from mmtune.base.rules import require_count
from mmtune.data.dataset import Dataset
from mmtune.pool.local import LocalPool, loaded_ahead
from mmtune.pool.worker import WorkerSpec
from mmtune.study.options import MOST_THREADS, Options
from mmtune.tune.coordinator import Pool

PoolMaker = Callable[[WorkerSpec, int], AbstractContextManager[Pool]]
"""From what workers need, and how many there are at most, what trains."""
ENDLESS = 100_000
# As many as nobody minds in a queue that is shared.
SLURM_WORKERS = 8
# More gain little for networks of convolutions (benchmarks/results/2026-11-27-gpu.md).
GPU_WORKERS = 8
CLUSTERS = {"ray": "Ray", "slurm": "SLURM"}


def resolve_device(name: str) -> str:
    """A torch device by its name, "auto" being the first GPU or else the CPU; InputError where it is not there."""
    if name == "cpu" or (name == "auto" and not has_driver()):
        return "cpu"

    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    known = re.fullmatch(r"cuda(:\d+)?", name)
    if not known or not torch.cuda.is_available() or int(name[5:] or 0) >= torch.cuda.device_count():
        raise InputError(f"--device must be auto, cpu or a GPU of this machine (cuda, cuda:1), got {name!r}")
    return name


def has_driver() -> bool:
    """Whether there may be a GPU that torch can use: to ask torch itself takes a second to load it."""
    if "rocm" in version("torch"):
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def training_device(options: Options) -> str:
    """The device that workers use; on a cluster it is theirs, whatever this machine has."""
    if options.pool != "local":
        return "cuda" if options.gpus_per_trial else "cpu"
    device = resolve_device(options.device)
    require_threads(options.threads, device)
    return device


def require_threads(threads: int, device: str) -> None:
    """Raise InputError where workers cannot have so many threads."""
    require_count("--threads", threads, 1, MOST_THREADS)
    if threads > 1 and device != "cpu":
        raise InputError(f"--threads is of workers on a CPU, so --device must be cpu, got {device}")


def made_by(options: Options, device: str) -> dict[str, str]:
    """Tags on what runs are made with; a GPU of a cluster's may be any of its GPUs."""
    if options.pool != "local" and device != "cpu":
        return {**provenance_tags("cpu"), "mmtune.device": f"GPU ({CLUSTERS[options.pool]})"}
    made = provenance_tags(device)
    on = f", {options.threads} threads" if options.threads > 1 else ""
    return {**made, "mmtune.device": made["mmtune.device"] + on}


def most_workers(options: Options, device: str) -> int:
    """How many workers there are at most where no number is asked for; Ray knows its own limits."""
    return {"ray": ENDLESS, "slurm": SLURM_WORKERS}.get(options.pool) or default_workers(device, options.threads)


def default_workers(device: str, threads: int = 1) -> int:
    """One worker for each core, or so many of them, on the CPU; several on a GPU, most of which a small network leaves
    idle."""
    if device.startswith("cuda"):
        return GPU_WORKERS
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


@contextmanager
def pool_maker(options: Options, dataset: Dataset, root: Path, console: Console) -> Iterator[PoolMaker]:
    """What makes the pools of a command that runs studies on one data set and keeps what it keeps under `root`."""
    if options.pool == "local":
        with loaded_ahead():
            yield LocalPool
        return
    if options.pool == "slurm":
        from mmtune.pool.slurm import Request, SlurmSession, require_slurm, sbatch_words

        require_slurm()
        request = Request(words=sbatch_words(options.slurm or ""), gpus=options.gpus_per_trial)
        with SlurmSession(request, root, partial(say, console)) as made:
            yield made
        return

    from mmtune.pool.ray import Engine, RaySession

    engine = Engine(address=options.ray_address, gpus=options.gpus_per_trial, workers=options.workers)
    with RaySession(engine, dataset.train, partial(say, console)) as session:
        yield session

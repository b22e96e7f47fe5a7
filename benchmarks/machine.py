"""What the machine is, how fast it can compute and copy, and how much a trial asks of it."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.printed import printed
from mmtune.base.provenance import git_commit, installed
from mmtune.train.recipe import TrialConfig
from mmtune.tune.trying import DIGITS

ROWS = 4
PACKAGES = ("torch", "optuna", "mlflow", "numpy", "scikit-learn")


def describe(device: str) -> dict[str, Any]:
    """The processor or GPU, cores and versions; nothing that names a host or a path."""
    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu",
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {package: installed(package) for package in PACKAGES},
        "commit": git_commit(Path(__file__).parent),
    }


def processor() -> str:
    """The processor's model, as the system names it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def ceiling(device: str) -> dict[str, float]:
    """Floating-point operations a second of a float32 matrix product, and bytes a second of a copy (read + written).

    The best of several runs on all threads: what nothing on this machine goes beyond.
    """
    size, numbers = (8192, 2**28) if device.startswith("cuda") else (2048, 2**25)
    a, b = torch.rand(size, size, device=device), torch.rand(size, size, device=device)
    source, target = torch.rand(numbers, device=device), torch.empty(numbers, device=device)
    return {
        "product_flops": 2 * size**3 / fastest(lambda: torch.mm(a, b), device),
        "copy_bytes": 2 * source.nbytes / fastest(lambda: target.copy_(source), device),
        "threads": torch.get_num_threads(),
    }


def fastest(work: Callable[[], object], device: str, times: int = 10) -> float:
    """Seconds of the fastest of several runs."""

    def once() -> float:
        before = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        return time.perf_counter() - before

    return min(once() for _ in range(times))


def trial_flops(config: TrialConfig, train_rows: int, validation_rows: int) -> float:
    """Floating-point operations of a whole trial by the printed network: forward and backward, and validation.

    Products and convolutions alone, as `FlopCounterMode` counts them; both sides are held against this number.
    """
    model = printed(config.model)
    read = [torch.rand(ROWS, *DIGITS[bank]) for bank in config.model.reads]
    labels = torch.arange(ROWS) % 10
    trained = counted(lambda: nn.functional.cross_entropy(model(*read), labels).backward())
    validated = counted(lambda: evaluated(model, read))
    return config.train.epochs * (trained * train_rows + validated * validation_rows) / ROWS


def counted(work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


@torch.no_grad()
def evaluated(model: nn.Module, read: list[Tensor]) -> Tensor:
    logits: Tensor = model.eval()(*read)
    return logits

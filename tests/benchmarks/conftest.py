"""The benchmarks are scripts beside the package: what tests them must find them from any working directory."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """`prepare_torch` is for the whole process, and this one is the tests'."""
    matmul = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    threads, products = torch.get_num_threads(), matmul.fp32_precision
    deterministic = torch.backends.cudnn.deterministic
    yield
    torch.set_num_threads(threads)
    matmul.fp32_precision = products
    torch.backends.cudnn.deterministic = deterministic

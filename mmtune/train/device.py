"""How this process computes: on one thread, or as many as asked, in full float32, the same result every time."""

from __future__ import annotations

import copy

import torch
from torch import nn

from mmtune.base.errors import InputError
from mmtune.networks.output import answer
from mmtune.networks.randomness import Randomness
from mmtune.train.batches import Rows

CPU_BATCH, GPU_BATCH = 512, 4096


def prepare_torch(device: torch.device, threads: int = 1) -> None:
    """Set torch's switches for a worker that trains on `device`, or on so many threads; for the whole process, once.

    float32 stays float32 on a GPU (no TF32), and only deterministic convolutions are used.
    """
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = True
    # The older switch for the same: whatever reads that one, as torch.export does, refuses where the two differ.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    if device.type == "cpu":
        prefer_onednn()


def prefer_onednn() -> None:
    """Let oneDNN make matrix products where it makes them in float32.

    torch asks it only where bfloat16 would be allowed, but without bfloat16 tiles (AMX) it computes in float32 all the
    same, and on CPUs for which MKL keeps to AVX2 it is twice as fast.
    """
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
    if not products_are_float32():
        torch.backends.mkldnn.matmul.fp32_precision = "ieee"  # type: ignore[attr-defined]


def products_are_float32() -> bool:
    """Whether a matrix product is as exact as float32 makes it; bfloat16's would be a thousand times less so."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(128, 128, generator=generator) for _ in range(2))
    return bool(((a @ b).double() - a.double() @ b.double()).abs().max() < 1e-4)


def require_bfloat16(model: nn.Module, rows: Rows) -> None:
    """Raise InputError where this machine cannot train the model in bfloat16; draws no random number that counts.

    A CPU is not asked what it is but what it does, with two rows and a copy of the model: oneDNN, for one, has LSTMs in
    bfloat16 from AVX-512 on.
    """
    device = rows.labels.device
    inputs, _ = rows.batch(torch.arange(min(2, len(rows)), device=device))
    try:
        with Randomness(0, device):
            with torch.autocast(device.type, torch.bfloat16):
                output = answer(copy.deepcopy(model).train(), inputs)
            output.logits.float().sum().backward()
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        must = f"precision must be float32 on this {device.type} for this network"
        raise InputError(f"{must}, got bfloat16: {reason}") from error


def evaluation_batch(device: torch.device) -> int:
    """Rows that are evaluated together."""
    return GPU_BATCH if device.type == "cuda" else CPU_BATCH

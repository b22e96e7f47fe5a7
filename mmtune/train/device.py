"""How this process computes: one thread a worker, full float32 precision, the same result every time."""

from __future__ import annotations

import torch
from torch import nn

from mmtune.base.errors import InputError

CPU_BATCH, GPU_BATCH = 512, 4096
LAYERS: dict[type[nn.Module], tuple[tuple[int, ...], tuple[int, ...]]] = {
    nn.Linear: ((8, 8), (2, 8)),
    nn.Conv1d: ((8, 8, 3), (2, 8, 8)),
    nn.Conv2d: ((8, 8, 3), (2, 8, 8, 8)),
    nn.RNN: ((8, 8), (2, 2, 8)),
    nn.GRU: ((8, 8), (2, 2, 8)),
    nn.LSTM: ((8, 8), (2, 2, 8)),
}
"""What autocast has in bfloat16: the sizes of a small layer of each kind, and the shape of what it takes."""


def settle(device: torch.device) -> None:
    """Set torch's switches for a worker that trains on `device`; for the whole process, once.

    float32 stays float32 on a GPU (no TF32), and only deterministic convolutions are used.
    """
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
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


def require_bfloat16(model: nn.Module, device: torch.device) -> None:
    """Raise InputError where this machine cannot train one of the model's layers in bfloat16.

    A CPU is not asked what it is but what it does: oneDNN, for one, has LSTMs in bfloat16 from AVX-512 on.
    """
    for kind in LAYERS:
        if any(isinstance(layer, kind) for layer in model.modules()):
            reason = refusal(kind, device)
            if reason:
                must = f"precision must be float32 on this {device.type} for a network with {kind.__name__} layers"
                raise InputError(f"{must}, got bfloat16: {reason}")


def refusal(kind: type[nn.Module], device: torch.device) -> str:
    """Why a layer of that kind cannot be trained in bfloat16 there, "" where it can; draws no random number."""
    sizes, shape = LAYERS[kind]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        layer = kind(*sizes).to(device)
    try:
        with torch.autocast(device.type, torch.bfloat16):
            made = layer(torch.zeros(shape, device=device))
        (made[0] if isinstance(made, tuple) else made).float().sum().backward()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        return str(error).partition("\n")[0].partition(". ")[0]
    return ""


def evaluation_batch(device: torch.device) -> int:
    """Rows that are evaluated together."""
    return GPU_BATCH if device.type == "cuda" else CPU_BATCH

"""A training's own random numbers: several may go on side by side in one process, which has one set of generators."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

ALONE = threading.RLock()
"""Held by a thread for what torch can do for one at a time: drawing from the process's generators, capturing a CUDA
graph, emptying the cache of a GPU's memory."""


CPU = torch.device("cpu")


class Randomness:
    """Everything random in a training, from a seed: what torch draws on the CPU and on a GPU, and the order of rows.

    In `with`, torch draws from it, and whoever else wants to waits; a CUDA graph that is captured there draws from it
    whenever it is launched. On the CPU it is as after `torch.manual_seed(seed)`.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.cpu = torch.Generator().manual_seed(seed).get_state()
        self.order = torch.Generator().manual_seed(seed)
        self.gpu: torch.Generator | None = None
        if device.type == "cuda":
            torch.cuda.init()
            self.shared = torch.cuda.default_generators[device.index or 0]
            self.gpu = self.shared.clone_state()
            self.gpu.manual_seed(seed)

    def __enter__(self) -> Self:
        ALONE.acquire()
        self.outer = torch.get_rng_state()
        torch.set_rng_state(self.cpu)
        if self.gpu is not None:
            self.outer_gpu = self.shared.graphsafe_get_state()
            self.shared.graphsafe_set_state(self.gpu)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cpu = torch.get_rng_state()
        torch.set_rng_state(self.outer)
        if self.gpu is not None:
            self.shared.graphsafe_set_state(self.outer_gpu)
        ALONE.release()

    def named(self) -> dict[str, Tensor]:
        """The states of its generators, uint8."""
        states = {"torch": self.cpu, "order": self.order.get_state()}
        return states if self.gpu is None else {**states, "cuda": self.gpu.get_state()}

    def load(self, states: Mapping[str, Tensor]) -> None:
        """Go on from the states of another one, those of a GPU where both have one; RuntimeError on what is none."""
        self.cpu = torch.Generator().set_state(states["torch"]).get_state()
        self.order.set_state(states["order"])
        if self.gpu is not None and "cuda" in states:
            self.gpu.set_state(states["cuda"])

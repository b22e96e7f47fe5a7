"""Adam (Kingma and Ba, 2015) and AdamW (Loshchilov and Hutter, 2019) in torch's fused kernels.

The same as `torch.optim.Adam(..., fused=True, capturable=True)`, whose class imports torch's compiler when it is first
used and so doubles the time in which a worker starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

BETAS, EPSILON = (0.9, 0.999), 1e-8


class Adam:
    """Steps all trained parameters that have a gradient; its state never moves, so a CUDA graph can hold it.

    rate: a number on the CPU, on a GPU a tensor () that a graph finds at its place. decoupled: AdamW.
    state: by the parameter's number, its tensors `exp_avg` and `exp_avg_sq`, shaped as it is, and `step`, ().
    """

    capturable = True

    def __init__(
        self, parameters: Iterable[Tensor], learning_rate: float, weight_decay: float = 0.0, decoupled: bool = False
    ) -> None:
        self.weight_decay = weight_decay
        self.fused = torch._fused_adamw_ if decoupled else torch._fused_adam_
        self.parameters = {number: p for number, p in enumerate(parameters) if p.requires_grad}
        self.rate: float | Tensor = learning_rate
        on_gpu = next((p.device for p in self.parameters.values() if p.is_cuda), None)
        if on_gpu is not None:
            self.rate = torch.tensor(learning_rate, dtype=torch.float32, device=on_gpu)
        self.state = {
            number: {
                "step": torch.zeros((), dtype=torch.float32, device=p.device),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }
            for number, p in self.parameters.items()
        }

    def zero_grad(self) -> None:
        """Drop every gradient."""
        for parameter in self.parameters.values():
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step along the gradients that there are."""
        found = [(p, p.grad, self.state[n]) for n, p in self.parameters.items() if p.grad is not None]
        steps = [state["step"] for _, _, state in found]
        torch._foreach_add_(steps, 1)
        self.fused(
            [parameter for parameter, _, _ in found],
            [grad for _, grad, _ in found],
            [state["exp_avg"] for _, _, state in found],
            [state["exp_avg_sq"] for _, _, state in found],
            [],
            steps,
            lr=self.rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=self.weight_decay,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def set_rate(self, rate: float) -> None:
        """Go on with another learning rate."""
        if isinstance(self.rate, Tensor):
            self.rate.fill_(rate)
        else:
            self.rate = rate

    def named(self) -> dict[str, Tensor]:
        """The state's own tensors, named `number of the parameter.name`."""
        return {f"{number}.{name}": value for number, own in self.state.items() for name, value in own.items()}

    def load(self, named: Mapping[str, Tensor]) -> None:
        """Go on from the tensors of another one over the same parameters."""
        own = self.named()
        for name, value in named.items():
            own[name].copy_(value)

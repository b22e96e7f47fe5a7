"""Adam (Kingma and Ba, 2015) in torch's one fused kernel.

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

    state: by the parameter's number, its tensors `exp_avg` and `exp_avg_sq`, shaped as it is, and `step`, ().
    """

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        self.learning_rate = learning_rate
        self.parameters = {number: p for number, p in enumerate(parameters) if p.requires_grad}
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
        torch._fused_adam_(
            [parameter for parameter, _, _ in found],
            [grad for _, grad, _ in found],
            [state["exp_avg"] for _, _, state in found],
            [state["exp_avg_sq"] for _, _, state in found],
            [],
            steps,
            lr=self.learning_rate,
            beta1=BETAS[0],
            beta2=BETAS[1],
            weight_decay=0.0,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )

    def named(self) -> dict[str, Tensor]:
        """The state's own tensors, named `number of the parameter.name`."""
        return {f"{number}.{name}": value for number, own in self.state.items() for name, value in own.items()}

    def load(self, named: Mapping[str, Tensor]) -> None:
        """Go on from the tensors of another one over the same parameters."""
        own = self.named()
        for name, value in named.items():
            own[name].copy_(value)

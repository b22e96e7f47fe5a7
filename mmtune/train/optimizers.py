"""Optimisers by their names in torch.optim, with what a step, a checkpoint and a CUDA graph ask of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from mmtune.train.adam import Adam
from mmtune.train.recipe import Train

CLASSES = {
    "nadam": "NAdam",
    "radam": "RAdam",
    "adamax": "Adamax",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "rmsprop": "RMSprop",
    "sgd": "SGD",
}


class Optimizer(Protocol):
    """Steps the parameters that are trained.

    capturable: whether a CUDA graph can hold its step. named, load: its state, named `number of the parameter.name`.
    """

    @property
    def capturable(self) -> bool: ...
    def zero_grad(self) -> None: ...
    def step(self) -> None: ...
    def set_rate(self, rate: float) -> None: ...
    def named(self) -> dict[str, Tensor]: ...
    def load(self, named: Mapping[str, Tensor]) -> None: ...


def make_optimizer(recipe: Train, parameters: Iterable[Tensor]) -> Optimizer:
    """The optimiser of a recipe, fresh, over those of the parameters that are trained."""
    own = list(parameters)
    if recipe.optimizer in ("adam", "adamw"):
        return Adam(own, recipe.learning_rate, recipe.weight_decay, decoupled=recipe.optimizer == "adamw")
    trained = [parameter for parameter in own if parameter.requires_grad]
    if recipe.optimizer == "muon":
        return OfTorch(own, muon(recipe, trained))
    made = getattr(torch.optim, CLASSES[recipe.optimizer])
    takes = inspect.signature(made).parameters
    on_gpu = any(parameter.is_cuda for parameter in trained)
    momentum = {"momentum": recipe.momentum} if recipe.optimizer == "sgd" else {}
    capturable = {"capturable": True} if on_gpu and "capturable" in takes else {}
    rate: float | Tensor = recipe.learning_rate
    if capturable:
        rate = torch.tensor(rate, dtype=torch.float32, device=trained[0].device)
    options = {"lr": rate, "weight_decay": recipe.weight_decay, **momentum, **capturable}
    return OfTorch(own, [made(trained, **options)], bool(capturable))


def muon(recipe: Train, trained: Sequence[Tensor]) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, AdamW for the rest, at one learning rate: Muon's steps are as long as AdamW's."""
    rate, decay = recipe.learning_rate, recipe.weight_decay
    matrices = [parameter for parameter in trained if parameter.ndim == 2]
    others = [parameter for parameter in trained if parameter.ndim != 2]
    made: list[torch.optim.Optimizer] = []
    if matrices:
        how = {"momentum": recipe.momentum, "adjust_lr_fn": "match_rms_adamw"}
        made.append(torch.optim.Muon(matrices, lr=rate, weight_decay=decay, **how))  # type: ignore[arg-type]
    return [*made, torch.optim.AdamW(others, lr=rate, weight_decay=decay)] if others else made


class OfTorch:
    """Optimisers of torch.optim that step together; each parameter belongs to one."""

    def __init__(
        self, parameters: Sequence[Tensor], own: Sequence[torch.optim.Optimizer], capturable: bool = False
    ) -> None:
        self.parameters, self.own, self.capturable = parameters, own, capturable

    def zero_grad(self) -> None:
        """Drop every gradient."""
        for optimizer in self.own:
            optimizer.zero_grad()

    def step(self) -> None:
        """One step along the gradients that there are."""
        for optimizer in self.own:
            optimizer.step()

    def set_rate(self, rate: float) -> None:
        """Go on with another learning rate."""
        for group in (group for optimizer in self.own for group in optimizer.param_groups):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def named(self) -> dict[str, Tensor]:
        """The state's own tensors; none of a parameter that no step has moved."""
        return {
            f"{number}.{name}": value
            for number, parameter in enumerate(self.parameters)
            for name, value in self._state(parameter).items()
        }

    def load(self, named: Mapping[str, Tensor]) -> None:
        """Go on from the tensors of another one over the same parameters."""
        for key, value in named.items():
            number, _, name = key.partition(".")
            parameter = self.parameters[int(number)]
            owner = next(own for own in self.own if any(parameter is p for p in own.param_groups[0]["params"]))
            # A count of steps stays with the CPU, but where a CUDA graph counts them.
            own = parameter.device if value.ndim or self.capturable else value.device
            owner.state[parameter][name] = value.clone().to(own)

    def _state(self, parameter: Tensor) -> dict[str, Any]:
        owner = next((own for own in self.own if parameter in own.state), None)
        found = {} if owner is None else owner.state[parameter]
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

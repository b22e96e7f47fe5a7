"""A user's own network and metrics, tried before a study is begun: a mistake is one line with its place."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.checks import require_banks
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import Split
from mmtune.networks.kinds import parts_of
from mmtune.networks.shapes import Shapes, shapes_of
from mmtune.study.finding import place_of
from mmtune.train.objective import MOST_RANKED, Metric, Objective

OURS = "mmtune."
DIGITS = {"image": (1, 28, 28), "audio": (39, 13), "waveform": (16_000,), "speech": (16_000,)}
"""What a network's banks are of a written digit and its spoken name."""


def require_network(config: Any, dataset: Dataset, missing: Sequence[str] = ()) -> None:
    """Raise InputError, in one line with the file and the line, where a network of the user's own cannot be trained.

    It is built, and given two rows of the data, in training and in evaluation. A network of this package is built
    alone, and for the digits it is known to be right.
    """
    if all(type(part).__module__.startswith(OURS) for part in parts_of(config)):
        require_banks(dataset.train, config.reads, missing)
        shapes = shapes_of(dataset.train, len(dataset.classes))
        if any(shapes[bank] != DIGITS.get(bank) for bank in config.reads):
            lay_out(config, shapes)
        return
    own = next(part for part in parts_of(config) if not type(part).__module__.startswith(OURS))
    path, line = place_of_class(type(own))
    try:
        try_network(config, dataset, missing)
    except InputError as error:
        raise InputError(f"{path}:{line}: {error}") from error
    except Exception as error:
        said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        where = place_of(error, path)
        where = where if where != str(path) else f"{path}:{line}"
        raise InputError(f"{where}: {type(config).__name__} must train on {dataset.name}: {said}") from error


def require_objective(objective: Objective, dataset: Dataset, splits: Sequence[Split]) -> None:
    """Raise InputError, in one line, where a metric cannot be told of the rows that validate.

    One of the study's own is given their labels and probabilities that are drawn, in double precision.
    """
    classes = len(dataset.classes)
    for labels in (dataset.train.labels[split.validation] for split in splits):
        for metric in objective.metrics:
            if metric.name == "auroc":
                require_auroc(labels, classes)
            if metric.function is not None:
                try_metric(metric, labels, classes)


def require_auroc(labels: NDArray[np.int64], classes: int) -> None:
    """Raise InputError where labels have no AUROC, or too many classes for one."""
    if classes > MOST_RANKED:
        raise InputError(f"objective auroc takes data of at most {MOST_RANKED} classes, these have {classes}")
    if len(np.unique(labels)) < 2:
        raise InputError(f"objective auroc needs validation rows of two classes, all {len(labels)} are of one")


def try_metric(metric: Metric, labels: NDArray[np.int64], classes: int) -> None:
    """Raise InputError, with its place, where a study's own function gives no finite number."""
    from mmtune.train.metrics import own_value

    drawn = np.random.default_rng(0).exponential(size=(len(labels), classes))
    try:
        own_value(metric, labels.copy(), drawn / drawn.sum(1, keepdims=True))
    except InputError as error:
        code = getattr(metric.function, "__code__", None)
        if code is None:
            raise
        path = Path(code.co_filename)
        where = place_of(error.__cause__, path) if error.__cause__ else str(path)
        raise InputError(f"{where if where != str(path) else f'{path}:{code.co_firstlineno}'}: {error}") from error


def place_of_class(cls: type[Any]) -> tuple[Path, int]:
    """The file in which a class stands, and the line of its first method."""
    codes = [own.__code__ for own in vars(cls).values() if hasattr(own, "__code__") and own.__name__ != "__init__"]
    codes = [code for code in codes if not code.co_filename.startswith("<")] or codes
    first = min(codes, key=lambda code: code.co_firstlineno, default=None)
    return (Path(cls.__module__), 0) if first is None else (Path(first.co_filename), first.co_firstlineno)


def lay_out(config: Any, shapes: Shapes) -> Any:
    """A network without memory for its weights; raises whatever its building does."""
    import torch

    with torch.device("meta"):
        return config.build(shapes)


def is_frozen(config: object) -> bool:
    """Whether a configuration is a dataclass whose fields nobody changes."""
    return dataclasses.is_dataclass(config) and bool(getattr(type(config), "__dataclass_params__").frozen)  # noqa: B009


def try_network(config: Any, dataset: Dataset, missing: Sequence[str]) -> None:
    """Raise whatever is wrong with a network for a data set."""
    import torch
    from torch import Tensor, nn

    from mmtune.networks.output import answer
    from mmtune.networks.storage import filled
    from mmtune.train.batches import rows_of

    name = type(config).__name__
    if not is_frozen(config):
        raise InputError(f"{name} must be a frozen dataclass: @dataclass(frozen=True, kw_only=True)")
    rows = rows_of(dataset.train, len(dataset.classes), config.reads, missing)
    laid_out = lay_out(config, rows.shapes)
    if not isinstance(laid_out, nn.Module):
        raise InputError(f"build of {name} must return a torch.nn.Module, got {type(laid_out).__name__}")
    model = config.build(rows.shapes)
    lazy = next((path for path, own in model.named_parameters() if isinstance(own, nn.UninitializedParameter)), None)
    if lazy is not None:
        raise InputError(
            f"build of {name} must make all weights, {lazy} has no shape: give what a Lazy layer leaves open"
        )
    if (prepare := getattr(model, "prepare", None)) is not None and not callable(prepare):
        raise InputError(f"prepare of {name}'s module must be a method")
    inputs, _ = rows.batch(torch.arange(min(2, len(rows))))
    for training in (True, False):
        model.train(training)
        output = answer(model, inputs)
        wanted = (len(next(iter(inputs.values()))), rows.shapes.classes)
        for what, logits in {
            "logits": output.logits,
            **{f"{bank} alone": x for bank, x in output.alone.items()},
        }.items():
            found = (tuple(logits.shape), logits.dtype) if isinstance(logits, Tensor) else type(logits).__name__
            if not isinstance(logits, Tensor) or tuple(logits.shape) != wanted or not logits.is_floating_point():
                raise InputError(f"{what} of {name} must be floats {wanted}, one a class, got {found}")
        if output.embedding.ndim != 2 or len(output.embedding) != wanted[0]:
            raise InputError(f"embedding of {name} must be ({wanted[0]}, E), got {tuple(output.embedding.shape)}")
        if sum(dict(getattr(model, "parts", None) or {}).values()) not in (0, output.embedding.shape[1]):
            raise InputError(f"parts of {name} must add up to its embedding of {output.embedding.shape[1]}")
        if training and not output.logits.requires_grad:
            raise InputError(f"logits of {name} must depend on weights that can be trained")
    # As a training's best weights are kept, averaged, saved and loaded.
    filled(config, rows.shapes, model.state_dict())
    copy.deepcopy(model)

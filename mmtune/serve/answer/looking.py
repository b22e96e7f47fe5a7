"""What a network looked at: where in what it was given a change would change its answer most.

Simonyan et al., "Deep inside convolutional networks: visualising image classification models and saliency maps", 2013.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from mmtune.analysis.media import bands_of, frame_of, marked, over_time, pixels, png, power_of
from mmtune.data.forms import Form, Vector
from mmtune.networks.output import answer
from mmtune.networks.vectors import one_at_a_time
from mmtune.serve.answer.nearest import TrainingRows
from mmtune.serve.answer.prediction import Prediction
from mmtune.serve.answer.predictor import Predictor
from mmtune.serve.answer.telling import likeliest, remarks
from mmtune.train.batches import as_input

SIDE = 320
"""Pixels of a picture's height, at most."""


def looked(
    predictor: Predictor,
    values: Mapping[str, NDArray[Any]],
    found: Prediction,
    top: int,
    trained: TrainingRows | None = None,
) -> dict[str, Any]:
    """Beside the record of a row, as plain JSON: what it says in words, `top` classes of each bank alone, `seen`, near.

    values: of that row, (1, *shape) by bank; found: what was answered. seen: by bank what `shown` gives; near: by bank
    the nearest rows of `trained`.
    """
    weights = saliency(predictor, values, found)
    return {
        "alone": {bank: likeliest(own, top) for bank, own in found.alone.items()},
        "remarks": remarks(predictor, found, 0),
        "seen": {bank: shown(predictor.forms[bank], own[0], weights[bank]) for bank, own in values.items()},
        "near": trained.nearest(values) if trained else {},
    }


def saliency(
    predictor: Predictor, values: Mapping[str, NDArray[Any]], found: Prediction
) -> dict[str, NDArray[np.float32]]:
    """By bank that was given, how much the class's log-odds change with each number, (*shape) float32 >= 0.

    values: of one row, (1, *shape) by bank; found: what was answered. It is the gradient of what answered: the fusion,
    or the one bank whose own answer stands for all. That of the log-probability is the same times one less the
    probability, which leaves nothing of it where a class is as good as certain.
    Zeros where nothing leads from an answer back to a bank.
    """
    inputs = {
        name: as_input(torch.from_numpy(own.copy())).requires_grad_() for name, own in predictor.filled(values).items()
    }
    # A network may write into what it is given, which it may not into what is differentiated by.
    copies = {name: own.clone() for name, own in inputs.items()}
    with one_at_a_time(predictor.model), torch.enable_grad(), Attached():
        said = answer(predictor.model, copies)
        by = found.by or "".join(found.decider)
        logits = said.alone[by] if by else said.logits
        scale = predictor.calibration.alone[by] if by else predictor.calibration.fused
        number, scores = int(found.label[0]), logits[0] / scale.temperature
        others = torch.cat([scores[:number], scores[number + 1 :]])
        target = scores[number] - others.logsumexp(0)
    asked = [inputs[name] for name in values]
    nothing = [torch.zeros_like(own) for own in asked]
    slopes = torch.autograd.grad(target, asked, materialize_grads=True) if target.requires_grad else nothing
    sizes = [own.abs().nan_to_num(0.0, 0.0, 0.0).numpy() for own in slopes]
    return {name: own.reshape(values[name].shape[1:]) for name, own in zip(values, sizes, strict=True)}


class Attached(TorchFunctionMode):
    """Lets gradients through `detach`: that a bank's own classifier does not teach its encoder is of training alone."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func is Tensor.detach else func(*args, **(kwargs or {}))


def shown(form: Form, value: NDArray[Any], weights: NDArray[np.float32]) -> dict[str, Any]:
    """A value (*shape) as the network got it, and its weights (*shape), for a page to show; {} where neither can be.

    picture and over: data URIs of two pictures, the second to lie over the first, "" where nothing of it counted.
    numbers: of a vector, by column its weight as a share of all.
    """
    if isinstance(form, Vector):
        shares = weights / (weights.sum() or 1)
        return {"numbers": dict(zip(form.columns, shares.round(4).tolist(), strict=True))}
    if value.dtype == np.uint8:
        frame = frame_of(weights)
        picture, over = pixels(value), marked(frame.max(axis=0) if frame.ndim == 3 else frame)
    elif value.dtype == np.int16 and value.ndim == 1:
        # To silence every answer is most sensitive: what counts is what is there and matters.
        together = np.sqrt(power_of(value.astype(np.float32)) * power_of(weights))
        picture, over = over_time(bands_of(value)), marked(together.T[::-1])
    elif value.ndim == 2:
        picture, over = over_time(value), marked(weights.T[::-1])
    else:
        return {}
    return {"picture": png(picture, SIDE), "over": png(over, SIDE) if weights.any() else ""}

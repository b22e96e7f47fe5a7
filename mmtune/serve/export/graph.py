"""A predictor's network as a graph of torch's own operations, which runs where mmtune is not."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import Parameter, Signature

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from mmtune.base.errors import InputError, first_line
from mmtune.networks.output import answer
from mmtune.serve.answer.predictor import Predictor
from mmtune.train.batches import as_input

PROBABILITIES, LOGITS = "probabilities", "logits"
ROWS = "rows"
"""What the first dimension of all inputs and outputs is called."""


class Graph(nn.Module):
    """Banks by keyword, as a data set has them, (B, *shape), to PROBABILITIES and LOGITS, both (B, C) float32.

    Pictures are uint8, waveforms int16, all else is float32. The probabilities are by the temperature that validation
    gave, as a predictor's are.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.model, self.temperature = predictor.model, predictor.calibration.fused.temperature

        def forward(**banks: Tensor) -> dict[str, Tensor]:
            return self.answers(banks)

        # torch names the inputs of a graph by the signature, and each may have dimensions of its own there.
        names = [Parameter(name, Parameter.KEYWORD_ONLY) for name in predictor.forms]
        forward.__signature__ = Signature(names)  # type: ignore[attr-defined]
        self.forward = forward

    def answers(self, banks: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What a call gives."""
        logits = answer(self.model, {name: as_input(values) for name, values in banks.items()}).logits
        return {PROBABILITIES: (logits / self.temperature).softmax(1), LOGITS: logits}


def traced(predictor: Predictor, example: Mapping[str, Tensor]) -> ExportedProgram:
    """A predictor's Graph for any number of rows, traced with an example of two or more, by bank (B, *shape).

    Raises InputError where the network does what no graph can, such as going another way by what it is given.
    """
    clash = [name for name in (PROBABILITIES, LOGITS) if name in example]
    if clash:
        raise InputError(f"a bank must have another name than what a graph gives, one is {clash[0]}")
    rows = {name: {0: Dim(ROWS)} for name in example}
    try:
        with torch.no_grad(), quietly():
            return torch.export.export(Graph(predictor).eval(), (), dict(example), dynamic_shapes=rows, strict=False)
    except Exception as error:  # anybody may have written the network
        rule = "must be traceable by torch.export, for any number of rows (x.shape[0], not len(x))"
        raise InputError(f"{type(predictor.model).__name__} {rule}: {first_line(error)}") from error


@contextmanager
def quietly() -> Iterator[None]:
    """Without what torch tells its own developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

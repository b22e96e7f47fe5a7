"""What a trained model takes, whatever it answers."""

from __future__ import annotations

import time

import numpy as np
import torch
from torch import nn

from mmtune.networks.output import answer, count_parameters
from mmtune.train.batches import Rows
from mmtune.train.objective import COSTS, MILLISECONDS_SPREAD, Objective

WARM, ANSWERS, SECONDS = 5, 100, 2.0


def costs(objective: Objective, model: nn.Module, rows: Rows) -> dict[str, float]:
    """Of a model in eval mode, what the objective asks for: `parameters`, and `milliseconds` with their spread."""
    asked = {own.name for own in objective.metrics}.intersection(COSTS)
    found = {"parameters": float(count_parameters(model))} if "parameters" in asked else {}
    return found | (latency(model, rows) if "milliseconds" in asked else {})


@torch.no_grad()
def latency(model: nn.Module, rows: Rows) -> dict[str, float]:
    """The median of how long a model takes for one row that lies where it does, in milliseconds, and their spread.

    Of at most 100 rows and two seconds, after a few that do not count. Whatever else the machine does is in it.
    """
    device, took = rows.labels.device, []
    until = time.perf_counter() + SECONDS
    for place in range(WARM + ANSWERS):
        inputs, _ = rows.batch(torch.tensor([place % len(rows)], device=device))
        wait_for(device)
        before = time.perf_counter()
        answer(model, inputs)
        wait_for(device)
        took.append(1000 * (time.perf_counter() - before))
        if len(took) > WARM and time.perf_counter() > until:
            break
    low, middle, high = np.percentile(took[WARM:], [25, 50, 75])
    return {"milliseconds": float(middle), MILLISECONDS_SPREAD: float(high - low)}


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was given by this thread."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()

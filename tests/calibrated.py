"""What validation would say of a model that is never wrong: no answer is doubted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.nn.functional import one_hot

from mmtune.train.calibration import Calibration, calibrate
from mmtune.train.evaluate import Evaluation


def never_wrong(*alone: str, classes: int = 10) -> Calibration:
    """A calibration of 40 rows, with answers of the banks `alone`."""
    labels = torch.arange(40) % classes
    logits = 5.0 * one_hot(labels, classes)
    said = dict.fromkeys(alone, logits)
    found = Evaluation(logits=logits, embedding=logits, alone=said, labels=labels, parts={})
    made = calibrate(found, np.arange(40), dict.fromkeys(alone, np.ones(40, np.bool_)))
    return replace(made, agreement=None if made.agreement is None else 0.0)

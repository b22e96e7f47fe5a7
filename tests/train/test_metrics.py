"""Scores agree with scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from mmtune.train.metrics import accuracy, confusion, f1_per_class, macro_f1


@pytest.mark.parametrize("classes", [10, 4, 1])
@pytest.mark.parametrize("seed", range(5))
def test_scores_match_scikit_learn(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(0, classes, (2, 57))
    counts = confusion(torch.from_numpy(labels), torch.from_numpy(predictions), 10)
    assert np.array_equal(counts.numpy(), confusion_matrix(labels, predictions, labels=range(10)))
    assert accuracy(counts) == pytest.approx(accuracy_score(labels, predictions))
    assert macro_f1(counts) == pytest.approx(f1_score(labels, predictions, average="macro"))
    every = f1_score(labels, predictions, average=None, labels=range(10), zero_division=0)
    assert f1_per_class(counts).numpy() == pytest.approx(every)

"""Scores agree with scikit-learn's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from shapes import built
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    roc_auc_score,
)
from torch import Tensor

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.networks.config import AudioRNNConfig
from mmtune.train.batches import rows_of
from mmtune.train.costs import costs
from mmtune.train.metrics import accuracy, area, by_member, confusion, every_metric, f1_per_class, macro_f1, measure
from mmtune.train.objective import KNOWN, MACRO_F1, MILLISECONDS_SPREAD, MOST_RANKED, Metric, objective_of


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


def answers(rows: int, classes: int, seed: int, steps: int = 0) -> tuple[Tensor, Tensor]:
    """Logits (rows, classes), many of them equal where they come in steps, and labels, some of which may be absent."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, rows)
    logits = rng.normal(0, 2, (rows, classes)) + 2 * np.eye(classes)[labels]
    logits = np.round(logits * steps) / steps if steps else logits
    return torch.from_numpy(logits).float(), torch.from_numpy(labels)


SHAPES = [(57, 10, 0), (400, 4, 1), (12, 10, 1), (300, 2, 2), (90, 3, 0)]


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
@pytest.mark.parametrize(("rows", "classes", "steps"), SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_what_probabilities_say_matches_scikit_learn(rows: int, classes: int, steps: int, seed: int) -> None:
    logits, labels = answers(rows, classes, seed, steps)
    probabilities, true = logits.double().softmax(1).numpy(), labels.numpy()
    # One against the rest for each class that occurs: scikit-learn refuses those that do not.
    areas = [roc_auc_score(true == own, probabilities[:, own]) for own in np.unique(true)]
    assert measure(KNOWN["auroc"], logits, labels) == pytest.approx(np.mean(areas))
    assert measure(KNOWN["balanced_accuracy"], logits, labels) == pytest.approx(
        balanced_accuracy_score(true, probabilities.argmax(1))
    )
    assert measure(KNOWN["loss"], logits, labels) == pytest.approx(
        log_loss(true, probabilities, labels=range(classes)), rel=1e-5
    )
    confidence, right = probabilities.max(1), probabilities.argmax(1) == true
    accurate, sure = calibration_curve(right, confidence, n_bins=15)
    counts = np.histogram(np.searchsorted(np.linspace(0, 1, 16)[1:-1], confidence), range(16))[0]
    expected = np.sum(counts[counts > 0] * np.abs(accurate - sure)) / rows
    assert measure(KNOWN["calibration_error"], logits, labels) == pytest.approx(expected, abs=1e-6)


def test_of_rows_of_one_class_there_is_no_auroc() -> None:
    logits, _ = answers(20, 4, 0)
    assert math.isnan(measure(KNOWN["auroc"], logits, torch.zeros(20, dtype=torch.int64)))


def test_an_area_does_not_depend_on_the_scale_and_turned_round_it_is_the_rest() -> None:
    logits, labels = answers(200, 2, 5, 1)
    one = area(logits[:, 1], labels == 1)
    assert area(torch.exp(logits[:, 1] / 3), labels == 1) == one
    assert float(area(-logits[:, 1], labels == 1)) == pytest.approx(1 - float(one))


@pytest.mark.parametrize("name", [name for name, own in KNOWN.items() if own.validates])
def test_a_metric_is_best_where_every_row_is_right_and_sure(name: str) -> None:
    labels = torch.arange(50) % 5
    sure = 40 * torch.nn.functional.one_hot(labels, 5).float()
    best, worse = measure(KNOWN[name], sure, labels), measure(KNOWN[name], *answers(50, 5, 1))
    assert best == pytest.approx(1.0 if KNOWN[name].maximise else 0.0, abs=1e-6)
    assert KNOWN[name].better(best, worse)


def test_a_function_of_ones_own_gets_labels_and_probabilities() -> None:
    logits, labels = answers(30, 4, 2)
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    def own(true: np.ndarray, probabilities: np.ndarray) -> np.float32:
        seen.append((true, probabilities))
        return np.float32(accuracy_score(true, probabilities.argmax(1)))

    value = measure(Metric(name="own", function=own), logits, labels)
    assert value == pytest.approx(measure(KNOWN["accuracy"], logits, labels))
    assert isinstance(value, float)
    ((true, probabilities),) = seen
    assert (true.dtype, probabilities.dtype, probabilities.shape) == (np.int64, np.float64, (30, 4))
    assert probabilities.sum(1) == pytest.approx(np.ones(30))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "0.5", None, True, np.array([0.5])])
def test_a_function_that_gives_no_number_is_one_line(value: object) -> None:
    with pytest.raises(InputError, match="metric own must be a finite number, got"):
        measure(Metric(name="own", function=lambda labels, probabilities: value), *answers(9, 3, 0))  # type: ignore[arg-type, return-value]


def test_of_many_classes_auroc_is_left_out_and_all_else_is_there() -> None:
    few, many = ([own.name for own in every_metric(MACRO_F1, count)] for count in (MOST_RANKED, MOST_RANKED + 1))
    assert set(few) - set(many) == {"auroc"}


def test_what_a_model_takes_is_told_where_it_is_asked_for(tiny: Dataset) -> None:
    rows = rows_of(tiny.train, 10, ("audio",))
    model = built(AudioRNNConfig(hidden=8)).eval()
    assert costs(MACRO_F1, model, rows) == {}
    found = costs(objective_of(("loss", "parameters", "milliseconds")), model, rows)
    assert found["parameters"] == sum(own.numel() for own in model.parameters())
    assert found["milliseconds"] > 0
    assert found[MILLISECONDS_SPREAD] >= 0
    model.requires_grad_(False)
    assert costs(objective_of(("loss", "parameters")), model, rows) == {"parameters": 0.0}


def test_a_function_that_writes_into_its_labels_changes_nobody_elses() -> None:
    def merged(labels: np.ndarray, probabilities: np.ndarray) -> float:
        labels[labels == 2] = 1
        return float((labels == 1).mean())

    labels, logits = torch.tensor([0, 1, 2, 2]), torch.eye(3)[[0, 1, 2, 2]]
    assert measure(Metric(name="merged", function=merged), logits, labels) == 0.75
    assert labels.tolist() == [0, 1, 2, 2]


def test_accuracy_by_member_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    members, right = rng.choice(["b", "a", "ä"], 50), rng.random(50) < 0.6
    names, counts, shares = by_member(members, right)
    assert names.tolist() == sorted(set(members.tolist()))
    assert counts.tolist() == [int((members == name).sum()) for name in names]
    assert shares == pytest.approx([right[members == name].mean() for name in names])

"""The test partition, scored once for each trial that is to be promoted or compared."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmtune.base.clock import milliseconds
from mmtune.base.errors import InputError
from mmtune.base.files import write_whole
from mmtune.data.dataset import Dataset
from mmtune.networks.card import FINAL, MODEL
from mmtune.networks.storage import load_model
from mmtune.serve.predictor import as_prediction, write_submission
from mmtune.tracking import MlflowTracker, TrialRun
from mmtune.train.answers import read_answers
from mmtune.train.batches import rows_of
from mmtune.train.evaluate import Evaluation, evaluate
from mmtune.train.staging import Point
from mmtune.train.trial import npz

TEST, SUBMISSION, TEST_DIGEST = "test.npz", "submission.csv", "mmtune.test_digest"


def score_test(tracker: MlflowTracker, trial: TrialRun, dataset: Dataset) -> NDArray[np.int64]:
    """A trial's predictions of the test partition, (N,) int64: those stored, or new ones, stored with their scores.

    Beside them stands `submission.csv`. Where a trial kept the weights of its last epoch, those are scored too.
    """
    if trial.tags.get(TEST_DIGEST) != dataset.digest:
        found = scored(tracker.artifact(trial.run_id, MODEL), dataset)
        scores = {**found.scores("test"), **found.details("test")}
        if f"{FINAL}_val_accuracy" in trial.metrics:
            scores |= scored(tracker.artifact(trial.run_id, FINAL), dataset).scores(f"{FINAL}_test")
        with tempfile.TemporaryDirectory() as folder:
            write_whole(Path(folder) / TEST, predictions_file(found))
            write_submission(Path(folder) / SUBMISSION, as_prediction({"": found.logits}))
            # The tag is written last: whatever carries it has its scores and its file.
            tracker.add_files(trial.run_id, Path(folder))
            told = Point(epoch=0, time=milliseconds(), metrics=scores)
            tracker.log(trial.run_id, [told], tags={TEST_DIGEST: dataset.digest})
    return read_predictions(tracker.artifact(trial.run_id, TEST), dataset)


def scored(folder: Path, dataset: Dataset) -> Evaluation:
    """A saved model over the test partition, on the CPU."""
    model, config = load_model(folder)
    return evaluate(model, rows_of(dataset.require_test(), config.modalities, torch.device("cpu")))


def predictions_file(found: Evaluation) -> bytes:
    """An .npz of row, label, prediction (N,) int64 and probability (N, 10) float32 of the test rows."""
    return npz(
        {
            "row": np.arange(len(found.labels)),
            "label": found.labels.numpy(),
            "prediction": found.predictions.numpy(),
            "probability": torch.softmax(found.logits, 1).numpy(),
        }
    )


def read_predictions(path: Path, dataset: Dataset) -> NDArray[np.int64]:
    """The predictions in a `predictions_file`; InputError unless it is whole and of this test partition."""
    found = read_answers(path, ("label", "prediction"))
    if not np.array_equal(found["label"], dataset.require_test().labels):
        raise InputError(f"{path} must hold the labels of {dataset.name}'s test partition, it holds others")
    return found["prediction"]

"""Test partitions: a trial's, scored once when it is promoted or compared, and any that a predictor is given."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mmtune.base.clock import milliseconds
from mmtune.base.errors import InputError
from mmtune.base.files import write_whole
from mmtune.data.checks import require_modalities
from mmtune.data.dataset import Dataset
from mmtune.data.features import FeatureStats
from mmtune.networks.card import FINAL, MODEL
from mmtune.networks.storage import load_model
from mmtune.serve.predictor import Prediction, Predictor, as_prediction
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
    Raises InputError where what is stored is damaged, or of another test partition.
    """
    if trial.tags.get(TEST_DIGEST) != dataset.digest:
        found = scored(tracker.artifact(trial.run_id, MODEL), dataset)
        scores = {**found.scores("test"), **found.details("test")}
        if f"{FINAL}_val_accuracy" in trial.metrics:
            scores |= scored(tracker.artifact(trial.run_id, FINAL), dataset).scores(f"{FINAL}_test")
        with tempfile.TemporaryDirectory() as folder:
            write_test(Path(folder), found)
            # The tag is written last: whatever carries it has its scores and its file.
            tracker.add_files(trial.run_id, Path(folder))
            told = Point(epoch=0, time=milliseconds(), metrics=scores)
            tracker.log(trial.run_id, [told], tags={TEST_DIGEST: dataset.digest})
    path = tracker.artifact(trial.run_id, TEST)
    stored = read_answers(path, ("label", "prediction"))
    if not np.array_equal(stored["label"], dataset.require_test().labels):
        raise InputError(f"{path} must hold the labels of {dataset.name}'s test partition, it holds others")
    return stored["prediction"]


def scored(folder: Path, dataset: Dataset) -> Evaluation:
    """A saved model over the test partition, on the CPU."""
    model, config = load_model(folder)
    return evaluate(model, rows_of(dataset.require_test(), config.modalities, torch.device("cpu")))


def write_test(folder: Path, found: Evaluation) -> None:
    """Write row, label, prediction (N,) int64 and probability (N, 10) float32 of the test rows, and the CSV."""
    said = as_prediction(found.logits, {})
    arrays = {
        "row": np.arange(len(found.labels)),
        "label": found.labels.numpy(),
        "prediction": said.digit,
        "probability": said.probabilities,
    }
    write_whole(folder / TEST, npz(arrays))
    write_submission(folder / SUBMISSION, said)


def write_submission(path: Path, prediction: Prediction) -> None:
    """Write a CSV of row, digit, probability, whole or not at all; InputError where it cannot be written."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "digit", "probability"])
    for row, (digit, probability) in enumerate(zip(prediction.digit, prediction.probability, strict=True)):
        writer.writerow([row, int(digit), f"{probability:.6f}"])
    if path.is_dir():
        raise InputError(f"{path} must be a file to write to, it is a folder")
    try:
        write_whole(path, text.getvalue().encode())
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def predict_partition(predictor: Predictor, dataset: Dataset) -> Prediction:
    """Predict the whole test partition of a data set, in its order."""
    test = dataset.require_test()
    require_modalities(test, predictor.modalities)
    images = test.images if "image" in predictor.modalities else None
    bank = test.waveforms if "waveform" in predictor.modalities else None
    if "audio" in predictor.modalities:
        return predictor.predict(images, on_scale(predictor, dataset)[test.clip_index])
    return predictor.predict(images, None if bank is None else bank[test.clip_index])


def on_scale(predictor: Predictor, dataset: Dataset) -> NDArray[np.float32]:
    """The test clips (M, 39, 13) on the scale of the model's own data, whose statistics may be others.

    Raises InputError where only one of the two scales is known.
    """
    mine, clips = predictor.features, dataset.require_test().clips
    theirs = None if dataset.features is None else FeatureStats.from_json(dataset.features)
    if mine == theirs:
        return clips
    if mine is None or theirs is None:
        unknown = predictor.card["data"]["name"] if mine is None else dataset.name
        raise InputError(
            f"the audio of {dataset.name} must be on the scale the model was trained on, that of {unknown} is unknown"
        )
    return mine.apply(unscaled(theirs, clips))


def unscaled(stats: FeatureStats, clips: NDArray[np.float32]) -> NDArray[np.float32]:
    """The inverse of `FeatureStats.apply`."""
    scaled = clips.astype(np.float64) * (stats.high - stats.low) + stats.low
    features: NDArray[np.float64] = scaled * np.array(stats.std) + np.array(stats.mean)
    return features.astype(np.float32)

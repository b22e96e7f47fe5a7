"""Test partitions: a trial's, scored once when it is promoted or compared, and any that a predictor is given."""

from __future__ import annotations

import csv
import io
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.clock import milliseconds
from mmtune.base.errors import InputError
from mmtune.base.files import write_named, write_whole
from mmtune.data.checks import require_banks
from mmtune.data.dataset import Bank, Dataset
from mmtune.data.info import of_columns
from mmtune.data.protocols import independent
from mmtune.networks.card import CALIBRATION, FINAL, MODEL
from mmtune.networks.storage import load_model
from mmtune.serve.answer.prediction import Caution, Prediction, as_prediction
from mmtune.serve.answer.predictor import Predictor
from mmtune.study.key import StudyKey
from mmtune.tracking import MlflowTracker, TrialRun
from mmtune.train.answers import read_answers
from mmtune.train.batches import rows_of
from mmtune.train.calibration import Calibration
from mmtune.train.calibration_file import read_calibration
from mmtune.train.evaluate import Evaluation, evaluate
from mmtune.train.metrics import every_metric
from mmtune.train.objective import Objective
from mmtune.train.staging import Point
from mmtune.train.trial import npz

TEST, SUBMISSION, TEST_DIGEST = "test.npz", "submission.csv", "mmtune.test_digest"


def score_test(
    tracker: MlflowTracker, key: StudyKey, trial: TrialRun, dataset: Dataset, objective: Objective | None = None
) -> NDArray[np.int64]:
    """A study's trial's predictions of the test partition, (N,) int64: those stored, or new ones, stored with scores.

    Beside them stands `submission.csv`. Where a trial kept the weights of its last epoch, those are scored too.
    objective: the study's, with the functions of its own, where they are at hand; a score of one that is missing is
    made up for. Raises InputError where what is stored is damaged, or of another test partition.
    """
    asked = objective or key.objective
    own = {f"test_{metric.name}" for metric in asked.metrics if metric.function is not None}
    if trial.tags.get(TEST_DIGEST) != dataset.digest or not own <= trial.metrics.keys():
        found = scored(tracker.artifact(trial.run_id, MODEL), dataset)
        more = every_metric(asked, len(dataset.classes))
        calibration = read_calibration(tracker.artifact(trial.run_id, CALIBRATION))
        scores = {**found.scores("test", *more), **found.details("test")}
        scores |= found.scaled("test", calibration.fused.temperature)
        if f"{FINAL}_val_accuracy" in trial.metrics:
            scores |= scored(tracker.artifact(trial.run_id, FINAL), dataset).scores(f"{FINAL}_test")
        with tempfile.TemporaryDirectory() as folder:
            write_test(Path(folder), found, dataset, key.protocol, calibration)
            # The tag is written last: whatever carries it has its scores and its file.
            tracker.replace_files(trial.run_id, Path(folder))
            told = Point(epoch=0, time=milliseconds(), metrics=scores)
            tracker.log(trial.run_id, [told], tags={TEST_DIGEST: dataset.digest})
    path = tracker.artifact(trial.run_id, TEST)
    stored = read_answers(path, ("label", "prediction"))
    if not np.array_equal(stored["label"], dataset.require_test().labels):
        raise InputError(f"{path} must hold the labels of {dataset.name}'s test partition, it holds others")
    return stored["prediction"]


def scored(folder: Path, dataset: Dataset) -> Evaluation:
    """A saved model over the test partition, on the CPU."""
    loaded = load_model(folder)
    banks = loaded.config.reads
    return evaluate(loaded.model, rows_of(dataset.require_test(), len(dataset.classes), banks, missing=banks))


def write_test(folder: Path, found: Evaluation, dataset: Dataset, protocol: str, calibration: Calibration) -> None:
    """Write row, label, prediction, unit (N,) int64 and probability (N, C) float32 of the test rows, and the CSV."""
    present = {name: bank.index >= 0 for name, bank in dataset.require_test().banks.items()}
    said = as_prediction(found.logits, found.alone, dataset.classes, calibration, Caution(), present)
    arrays = {
        "row": np.arange(len(found.labels)),
        "label": found.labels.numpy(),
        "prediction": said.label,
        "unit": independent(dataset.require_test(), protocol, dataset.train)[1],
        "probability": said.probabilities,
    }
    write_whole(folder / TEST, npz(arrays))
    write_submission(folder / SUBMISSION, said)


def write_submission(path: Path, prediction: Prediction) -> None:
    """Write a CSV of row, class, probability, agree and set, whole or not at all.

    What is like training, and so abstaining, is not known before a model is registered. Classes in a set are joined by
    ", ". Raises InputError where it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "class", "probability", "agree", "set"])
    told = zip(prediction.names, prediction.probability, prediction.agree, prediction.set, strict=True)
    for row, (name, probability, agree, own) in enumerate(told):
        writer.writerow([row, name, f"{probability:.6f}", int(agree), ", ".join(own)])
    write_named(path, text.getvalue().encode())


def predict_partition(predictor: Predictor, dataset: Dataset, decide: bool = True) -> Prediction:
    """Predict the whole test partition of a data set, in its order; a row without a value has zeros.

    decide: as of `Predictor.predict_rows`.
    """
    test = dataset.require_test()
    require_banks(test, tuple(predictor.forms), tuple(predictor.forms))
    every = np.arange(len(test))
    given = {
        name: Bank(values=on_scale(predictor, dataset, name), index=test.banks[name].index).of_rows(every)
        for name in predictor.forms
    }
    present = {name: test.banks[name].index >= 0 for name in predictor.forms}
    if any(dataset.forms[name] != form for name, form in predictor.forms.items()):
        # On another scale and back the last bits change, by which values are known again.
        predictor = replace(predictor, usual=replace(predictor.usual, trained={}))
    return predictor.predict_rows(given, present, decide)


def predicted_labels(predictor: Predictor, dataset: Dataset) -> NDArray[np.int64]:
    """The test rows' classes (N,) by the data set's own numbers, whatever order the model has them in.

    They are what the network says, as a trial's scores are. InputError where it tells other classes apart.
    """
    if set(predictor.classes) != set(dataset.classes):
        own, theirs = (", ".join(names[:10]) for names in (predictor.classes, dataset.classes))
        raise InputError(f"the model must tell the classes of {dataset.name} apart ({theirs}), it knows {own}")
    number = np.array([dataset.classes.index(name) for name in predictor.classes], np.int64)
    found: NDArray[np.int64] = number[predict_partition(predictor, dataset, decide=False).label]
    return found


def on_scale(predictor: Predictor, dataset: Dataset, name: str) -> NDArray[Any]:
    """The test values of a bank on the scale of the model's own data, which may be another.

    Values of a data set that has no scale are taken to be in plain units. Raises InputError where they are of another
    kind or of other columns, or the model has no scale and they have one.
    """
    mine, theirs, values = predictor.forms[name], dataset.forms[name], dataset.require_test().banks[name].values
    if mine == theirs:
        return values
    if mine.unfitted != theirs.unfitted or mine.scaled(values) is values:
        own, found = (f"{form.kind} {form.shape}{of_columns(form)}" for form in (mine, theirs))
        raise InputError(
            f"{name} of {dataset.name} must be what the model was trained on, {own} as in "
            f"{predictor.card['data']['name']}, it is {found}"
        )
    return mine.scaled(theirs.unscaled(values))

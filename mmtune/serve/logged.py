"""The models that a study keeps, as MLflow's logged models: its Models tab compares them by their scores."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mmtune.data.dataset import Dataset
from mmtune.data.forms import form_to_json
from mmtune.networks.card import CALIBRATION, MODEL
from mmtune.serve.answer.usual import NOTHING, Usual
from mmtune.serve.loader import write_pyfunc
from mmtune.tracking import COMPLETE, MISSING, REMOVED, DataInput, MlflowTracker, StudyRun, TrialRun, front_trials
from mmtune.tracking.entities import LONGEST_DIGEST
from mmtune.tracking.reading import pages
from mmtune.tracking.trouble import reached
from mmtune.train.calibration_file import read_calibration

MOST = 20
"""So many of a study's best models are logged; all of them have their files with their runs."""
SCORES = ("val_macro_f1", "val_accuracy", "val_loss")
READY = "READY"
DROPOUT = "train.modality_dropout"


def log_models(
    tracker: MlflowTracker,
    study: StudyRun,
    dataset: Dataset,
    inputs: Sequence[DataInput],
    advance: Callable[[str, int, int], None],
) -> None:
    """Make a logged model of each of the best trials, and of the front, whose model is kept and that has none yet.

    inputs: the study's data, the rows that validate among them. What a kill has left half-made is made again.
    """
    trials = [t for t in tracker.trials(study.run_id) if t.state == COMPLETE and REMOVED not in t.tags]
    objective = study.key.objective
    ranked = sorted(trials, key=lambda t: (-objective.rank(t.metrics), t.number))
    best = list({t.run_id: t for t in (*ranked[:MOST], *front_trials(ranked, objective))}.values())
    experiment = tracker.experiment(study.key.study)
    with reached(tracker.uri):
        there = logged_runs(tracker, experiment, {trial.run_id for trial in best})
    validating = next((own for own in inputs if own.use == "validation"), None)
    missing = [trial for trial in best if trial.run_id not in there]
    for done, trial in enumerate(missing):
        advance("models", done, len(missing))
        with reached(tracker.uri):
            log_one(tracker, experiment, study, trial, dataset, validating)
    if missing:
        advance("models", len(missing), len(missing))


def logged_runs(tracker: MlflowTracker, experiment: str, runs: Collection[str]) -> set[str]:
    """Of some runs those that have a logged model; one that is not ready is deleted on the way."""
    # Others in the same experiment may be another command's, which makes them just now.
    logged = pages(partial(tracker.client.search_logged_models, [experiment]))
    found = [model for model in logged if model.source_run_id in runs]
    for model in found:
        if model.status.name != READY:
            tracker.client.delete_logged_model(model.model_id)
    return {model.source_run_id for model in found if model.status.name == READY}


def log_one(
    tracker: MlflowTracker,
    experiment: str,
    study: StudyRun,
    trial: TrialRun,
    dataset: Dataset,
    seen: DataInput | None,
) -> None:
    """A trial's model, with its params and its scores on what it was validated on."""
    from mlflow.entities import LoggedModelOutput, Metric

    client = tracker.client
    with tempfile.TemporaryDirectory() as folder:
        write_trial(Path(folder) / "logged", tracker, study, trial, dataset)
        made = client.create_logged_model(
            experiment,
            name=f"{study.key.study}-{trial.number:02d}",
            source_run_id=trial.run_id,
            params={path: str(value) for path, value in trial.params.items()},
            tags={"mmtune.study": study.key.slug, "mmtune.trial": trial.name},
            model_type="classifier",
        )
        client.log_model_artifacts(made.model_id, str(Path(folder) / "logged"))
    where = {} if seen is None else {"dataset_name": seen.name, "dataset_digest": seen.digest[:LONGEST_DIGEST]}
    objective = study.key.objective
    names = dict.fromkeys((*objective.names, *map(objective.at_best, SCORES)))
    scores = [metric for name in names for metric in client.get_metric_history(trial.run_id, name)[-1:]]
    # The same values at the same times: the run has them once, now with a link to the model.
    linked = [Metric(m.key, m.value, m.timestamp, m.step, model_id=made.model_id, **where) for m in scores]
    client.log_batch(trial.run_id, linked)
    client.log_outputs(trial.run_id, [LoggedModelOutput(made.model_id, int(trial.metrics.get("epoch_at_best", 0)))])
    client.finalize_logged_model(made.model_id, READY)


def write_trial(
    target: Path, tracker: MlflowTracker, study: StudyRun, trial: TrialRun, dataset: Dataset, usual: Usual = NOTHING
) -> None:
    """Write what predicts as a trial's model does into the new folder `target`."""
    model = tracker.artifact(trial.run_id, MODEL)
    card = {
        "forms": {name: form_to_json(form) for name, form in dataset.forms.items()},
        "classes": list(dataset.classes),
        "missing": missing_in(study, trial, dataset),
        "data": {"name": dataset.name, "digest": dataset.digest},
        "scores": scores_of(study, trial),
        "calibration": read_calibration(tracker.artifact(trial.run_id, CALIBRATION)).told(),
        **facts(study, trial),
    }
    write_pyfunc(target, model, card, trial.run_id, usual)


def missing_in(study: StudyRun, trial: TrialRun, dataset: Dataset) -> list[str]:
    """The banks without which a model has learnt to answer: rows to train on, or modality dropout, lacked them."""
    dropped = trial.params.get(DROPOUT, 0.0)
    if isinstance(dropped, int | float) and dropped > 0:
        return list(dataset.forms)
    allowed = [bank for bank in study.tags.get(MISSING, "").split(",") if bank in dataset.train.banks]
    return [bank for bank in allowed if bool((dataset.train.banks[bank].index < 0).any())]


def scores_of(study: StudyRun, trial: TrialRun) -> dict[str, float]:
    """The objective of a trial, and its scores on the test partition where it was scored there."""
    names = study.key.objective.names
    return {name: value for name, value in trial.metrics.items() if name in names or name.startswith("test_")}


def facts(study: StudyRun, trial: TrialRun) -> dict[str, Any]:
    """Where a model comes from."""
    return {"study_key": study.key.slug, "trial": trial.name, "protocol": study.key.protocol}

"""What a study that has ended leaves in MLflow for people to look at: its models, its pictures, its page."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from mmtune.analysis.pictures import confusion_picture, curves_picture
from mmtune.base.files import write_whole
from mmtune.data.dataset import Dataset
from mmtune.networks.card import VALIDATION
from mmtune.report.page import class_names, write_report
from mmtune.report.printing import print_figures
from mmtune.serve.logged import log_models
from mmtune.serve.scoring import TEST_DIGEST
from mmtune.study import Study
from mmtune.tracking import COMPLETE, MlflowTracker, StudyRun, TrialRun, best_trial
from mmtune.train.answers import read_answers
from mmtune.train.objective import Objective
from mmtune.tune.plan import data_inputs

MOST_CURVES = 50
FIGURES = "figures"
PUBLISHED = "mmtune.published"
"""The tag of a study's run that says of which best trial, and of which of its scores, its pictures and its page are."""


def publish(
    tracker: MlflowTracker, study: StudyRun, told: Study, dataset: Dataset, advance: Callable[[str, int, int], None]
) -> None:
    """Log the models that are kept, and pictures and the page with the study's run; what is there is not made again.

    told: the study as its file has it. advance: told of (step, done, total).
    """
    trials = tracker.trials(study.run_id)
    best = best_trial(trials, study.key.objective)
    if best is None:
        return
    tested = ", tested" if TEST_DIGEST in best.tags else ""
    shown = f"{best.run_id} of {sum(trial.state == COMPLETE for trial in trials)}{tested}"
    if study.tags.get(PUBLISHED) == shown:
        return
    log_models(tracker, study, dataset, data_inputs(dataset, study.key, ()), advance)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        advance("pictures", 0, 2)
        write_whole(folder / "confusion.png", picture_of_best(tracker, study, best))
        write_whole(folder / "curves.png", picture_of_curves(tracker, trials, best, study.key.objective))
        advance("pictures", 1, 2)
        write_report(tracker, study, told, (), folder / "report.html", dataset)
        tracker.replace_files(study.run_id, folder)
        tracker.log(study.run_id, tags={PUBLISHED: shown})
        advance("pictures", 2, 2)


def renew(
    tracker: MlflowTracker, study: StudyRun, told: Study, dataset: Dataset, advance: Callable[[str, int, int], None]
) -> None:
    """Make anew what `publish` has left, if it has, where the best trial has been tested since."""
    if PUBLISHED in study.tags:
        publish(tracker, study, told, dataset, advance)


def keep_figures(tracker: MlflowTracker, study: StudyRun, page: str, out: Path) -> list[Path]:
    """Write the figures of a study's page into the folder `out`, keep them with its run, and return their files."""
    with tempfile.TemporaryDirectory() as name:
        kept = Path(name) / FIGURES
        kept.mkdir()
        written = print_figures(page, out)
        for picture in written:
            shutil.copyfile(picture, kept / picture.name)
        tracker.add_files(study.run_id, Path(name))
    return written


def picture_of_best(tracker: MlflowTracker, study: StudyRun, best: TrialRun) -> bytes:
    """The confusion matrix of the best trial on its validation rows."""
    found = read_answers(tracker.artifact(best.run_id, VALIDATION), ("label", "prediction"))
    names = class_names(study, found["label"], found["prediction"])
    return confusion_picture(found["label"], found["prediction"], names, f"trial {best.name}, validation rows")


def picture_of_curves(tracker: MlflowTracker, trials: list[TrialRun], best: TrialRun, objective: Objective) -> bytes:
    """The first metric by epoch of the best trials."""
    ranked, curve = sorted(trials, key=lambda t: -objective.rank(t.metrics))[:MOST_CURVES], objective.first.curve
    curves = tracker.curves_of([trial.run_id for trial in ranked], [curve])
    named = {trial.name: curves[trial.run_id][curve] for trial in ranked}
    label = f"validation {objective.first.words}"
    return curves_picture(named, best.name, label, f"{len(named)} best of {len(trials)} trials")

"""What follows the last training: what answers best together, scored once, registered and certified."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from mmtune.base.progress import steps
from mmtune.best.certificate import Certificate, write_certificate
from mmtune.best.members import Validation
from mmtune.best.task import CLOSING, Clock, Found, Task
from mmtune.best.together import asked_rows, candidates_of, choices_of, complete_trials, ensemble_key
from mmtune.best.tracked import track_finals
from mmtune.networks.card import MODEL
from mmtune.networks.storage import load_model
from mmtune.serve.measured import VALIDATES
from mmtune.serve.promotion import promote
from mmtune.serve.robustness import measure
from mmtune.serve.scoring import score_test
from mmtune.study import StudyKey
from mmtune.tracking import COMPLETE, MlflowTracker, StudyRun, TrialRun
from mmtune.train.objective import objective_of
from mmtune.train.recipe import MOST_RELIED
from mmtune.train.reliance import reliance

AGAIN_NAME = "_again_"
RELIED = 1_000
"""Rows on which the model is asked what it relies on."""
MEASURED, LEAST_SECONDS, LEAST_MOST = 40, 5.0, (100, 2_000)
"""Levels of robustness, or so, and for how long at least: what one row costs decides on how many rows, from and to."""


def trained_studies(task: Task, tracker: MlflowTracker, search: StudyKey) -> dict[str, StudyRun]:
    """The search as "search", and what was trained again of it, in turn "again", "again2" and so on with more hours."""
    own, data = tracker.study(search), (search.digest, search.protocol, search.seed)
    assert own is not None
    begins = f"{task.study.name}{AGAIN_NAME}"
    later = [
        run
        for run in tracker.studies()
        if run.key.study.startswith(begins) and (run.key.digest, run.key.protocol, run.key.seed) == data
    ]
    later.sort(key=lambda run: (run.started, run.run_id))
    return {"search": own} | {f"again{turn if turn > 1 else ''}": run for turn, run in enumerate(later, 1)}


def named_trials(tracker: MlflowTracker, studies: Mapping[str, StudyRun]) -> dict[str, TrialRun]:
    """The complete trials of studies, by name."""
    return {
        f"{what}_{trial.number:02d}": trial
        for what, own in studies.items()
        for trial in complete_trials(tracker, own, own.key.objective)
    }


def reliance_of(tracker: MlflowTracker, promoted: TrialRun, asked: Validation, most: int) -> dict[str, float]:
    """Of a promoted network that reads several banks how much of the accuracy over rows each of them makes."""
    loaded = load_model(tracker.artifact(promoted.run_id, MODEL))
    several = 1 < len(loaded.config.reads) <= MOST_RELIED
    return reliance(loaded.model, asked.rows(loaded), most) if several else {}


def finished(task: Task, clock: Clock, search: StudyKey) -> Found | None:
    """Choose, track, score once, register and certify; None where it was stopped."""
    tracker, end = MlflowTracker(task.root), clock.share(1.0)
    studies = trained_studies(task, tracker, search)
    objective = objective_of(task.study.objective)
    some, sides = asked_rows(task.study, task.dataset, task.protocol, task.options.seed)

    def enough(asked: int) -> bool:
        return task.stopped() or (asked > 1 and time.monotonic() > clock.share(1 - 0.7 * CLOSING))

    with steps(task.console) as advance:
        began = time.monotonic()
        candidates = candidates_of(tracker, named_trials(tracker, studies), some, objective, advance, enough)
        row_seconds = (time.monotonic() - began) / max(1, len(candidates)) / len(some)
        if task.stopped():
            return None
        finals = choices_of(candidates, some)
        key = ensemble_key(search)
        study, trials = track_finals(tracker, task.study, task.dataset, key, finals, some.resident, sides)
        promoted = promote(tracker, study, task.dataset, told=objective, advance=advance)
        single = trials[-1]
        if single.run_id != promoted.trial.run_id:
            score_test(tracker, key, single, task.dataset, objective)
        left = max(LEAST_SECONDS, (end - time.monotonic()) / 2)
        one = row_seconds * len(finals[0].members)
        banks = len(task.study.base.model.reads)
        relied = reliance_of(tracker, promoted.trial, some, int(np.clip(left / (4 * 2**banks * one), 100, RELIED)))
        most = int(np.clip(left / (MEASURED * one), *LEAST_MOST))
        measured = measure(tracker, study, promoted.trial, task.dataset, VALIDATES, advance, most)
    told = Certificate(
        study=study,
        promoted=promoted,
        finals=[own for own in tracker.trials(study.run_id) if own.state == COMPLETE],
        searches=[(own.key, tracker.tally(own.run_id)) for own in studies.values()],
        members={one.name: one.run for one in candidates},
        measured=measured,
        reliance=relied,
        space=task.study.space,
        seconds=time.monotonic() - clock.started,
        asked=task.seconds,
        given=task.given,
    )
    path, lines = write_certificate(tracker, told, task.dataset)
    for line in lines:
        task.say(line)
    return Found(study=task.study, path=path, version=promoted.version, is_champion=promoted.is_champion)

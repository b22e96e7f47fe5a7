"""The best trained networks of a study, answering together where that is better than the best one alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mmtune.analysis.embeddings import sample_rows
from mmtune.base.errors import InputError
from mmtune.best.folds import of_folds
from mmtune.best.members import (
    Candidate,
    Validation,
    answered,
    candidate,
    drawn_members,
    ensemble_of,
    log_loss,
    soup_of,
    soups,
)
from mmtune.best.tracked import SINGLE, Final, track_finals
from mmtune.data.dataset import Dataset, Progress
from mmtune.data.protocols import Split, split
from mmtune.networks.card import MODEL
from mmtune.networks.kinds import remember
from mmtune.networks.randomness import CPU
from mmtune.networks.storage import Loaded
from mmtune.serve.logged import DROPOUT
from mmtune.study import Study, StudyKey
from mmtune.study.key import ENSEMBLE
from mmtune.tracking import COMPLETE, PARENT, REMOVED, MlflowTracker, StudyRun, TrialRun
from mmtune.train.batches import Resident
from mmtune.train.objective import Objective, objective_of
from mmtune.tune.parts import part_of

CANDIDATES, ASKED = 10, 4_000
"""At most so many networks are asked about at most so many validation rows."""


def together(
    tracker: MlflowTracker, study: Study, searched: StudyRun, dataset: Dataset, advance: Progress
) -> tuple[StudyRun, list[TrialRun]]:
    """What the best trials of a tracked study make together, tracked as a study of its own beside it, and its runs.

    Each of these is a model: an ensemble, a soup, as far as they are better, and the best single network. Validation
    rows choose; the test partition is not looked at. Of a cross-validated study it is the networks of its best trial,
    all of them (`mmtune.best.folds`). What other trials of a study of that name have made stays in the same study.
    Raises InputError where the study is of other data, searches for something else by now, or has no complete trial
    whose model is kept.
    """
    key, objective = searched.key, objective_of(study.objective)
    key.require_data(dataset, f"the trials of {key.slug} must be asked about")
    if key.sampler == ENSEMBLE:
        raise InputError(f"what answers together must be networks that were trained, {key.slug} is of such together")
    if objective != key.objective:
        raise InputError(f"{study.name} must search for what its trials did, {key.objective.words}; it does not now")
    trials = complete_trials(tracker, searched, key.objective)
    if not trials:
        raise InputError(f"{key.slug} must have a complete trial whose model is kept, it has none")
    remember(study.base.model, study.name)
    # With functions of the user's own, which a store does not have.
    made = replace(ensemble_key(key), objective=objective)
    if key.folds:
        final, sides = of_folds(tracker, searched, trials[0])
        return track_finals(tracker, study, dataset, made, [final], resident_of(study, dataset), sides)
    asked, sides = asked_rows(study, dataset, key.protocol, key.seed)
    finals = choices_of(candidates_of(tracker, trained(tracker, searched, trials), asked, objective, advance), asked)
    return track_finals(tracker, study, dataset, made, finals, asked.resident, sides)


def resident_of(study: Study, dataset: Dataset) -> Resident:
    """All training rows, as networks of the study read them."""
    return Resident(dataset.train, len(dataset.classes), CPU, study.missing)


def trained(tracker: MlflowTracker, searched: StudyRun, trials: Sequence[TrialRun]) -> dict[str, TrialRun]:
    """By name what a study has trained and kept: its complete trials, or, where these have several, their repeats."""
    if searched.key.repeats == 1:
        return {f"trial_{own.number:02d}": own for own in trials}
    kept = {own.run_id for own in trials}
    parts = [own for own in tracker.parts(searched.run_id) if own.state == COMPLETE and own.tags.get(PARENT) in kept]
    return {f"trial_{own.number:02d}_repeat_{part_of(own.tags).repeat + 1}": own for own in parts}


def ensemble_key(searched: StudyKey) -> StudyKey:
    """What makes the study of what others make together the same study."""
    return replace(searched, sampler=ENSEMBLE, prune=False, repeats=1)


def complete_trials(tracker: MlflowTracker, searched: StudyRun | None, objective: Objective) -> list[TrialRun]:
    """The complete trials of a study whose files are kept, the best first."""
    found = [] if searched is None else tracker.trials(searched.run_id)
    kept = [own for own in found if own.state == COMPLETE and REMOVED not in own.tags and objective.values(own.metrics)]
    return sorted(kept, key=lambda own: (-objective.rank(own.metrics), own.number))


def asked_rows(study: Study, dataset: Dataset, protocol: str, seed: int) -> tuple[Validation, Split]:
    """Some of the rows that validate, which candidates are asked about, and both sides of the split."""
    sides = split(dataset.train, protocol, seed)
    chosen = sides.validation[sample_rows(len(sides.validation), ASKED, seed)]
    return Validation(resident=resident_of(study, dataset), numbers=chosen), sides


def candidates_of(
    tracker: MlflowTracker,
    trials: Mapping[str, TrialRun],
    asked: Validation,
    objective: Objective,
    advance: Progress,
    enough: Callable[[int], bool] = lambda count: False,
) -> list[Candidate]:
    """The best trained networks by their names, asked about rows. enough: told how many were, whether no more are."""
    ranked = sorted(trials, key=lambda name: -objective.rank(trials[name].metrics))[:CANDIDATES]
    found: list[Candidate] = []
    for name in ranked:
        advance("validation answers", len(found), len(ranked))
        if enough(len(found)):
            break
        found.append(candidate(name, trials[name], tracker.artifact(trials[name].run_id, MODEL), asked))
    advance("validation answers", len(ranked), len(ranked))
    return found


def choices_of(candidates: Sequence[Candidate], asked: Validation) -> list[Final]:
    """The ensemble, where it has more than one member; soups that beat the single network of least log loss; that one;
    and last the one that the study's objective likes best, which is first among the candidates."""
    labels = asked.labels
    losses = [log_loss(one.shares, labels) for one in candidates]
    best = int(np.argmin(losses))
    singles = dict.fromkeys((0, best))
    finals = [final(SINGLE, candidates, {place: 1}, candidates[place].loaded) for place in singles]
    for places in soups(candidates):
        loaded = soup_of(candidates, places)
        if log_loss(answered(loaded, asked.rows(loaded))[1], labels) < losses[best]:
            finals.append(final("soup", candidates, dict.fromkeys(places, 1), loaded))
    drawn = drawn_members([one.shares for one in candidates], labels)
    if len(drawn) > 1:
        finals.append(final("ensemble", candidates, drawn, ensemble_of(candidates, drawn)))
    return finals[::-1]


def final(what: str, candidates: Sequence[Candidate], drawn: Mapping[int, int], loaded: Loaded) -> Final:
    """A network made of candidates, by their places, each as often as it was drawn."""
    count = sum(drawn.values())
    members = {candidates[place].name: times / count for place, times in drawn.items()}
    dropouts = [candidates[place].run.params.get(DROPOUT, 0.0) for place in drawn]
    runs = tuple(candidates[place].run.run_id for place in drawn)
    name = f"{what} of {' and '.join(members)}"
    return Final(name=name, loaded=loaded, members=members, runs=runs, dropout=min(dropouts))

"""The networks of a cross-validation as one model, which has seen every training row and is judged by none that it saw.

Each row is answered by those networks alone that it was held out of (cross-validation committees: Parmanto et al.,
"Improving committee diagnosis with resampling techniques", 1996). So the score is that of one network, as is what the
confidence is fitted to: together they are rather better than that, and less sure than they could be.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmtune.base.errors import InputError
from mmtune.best.members import Member, ensemble_of
from mmtune.best.tracked import Final
from mmtune.data.protocols import Split
from mmtune.networks.card import HELD, MODEL
from mmtune.networks.config.ensemble import MOST_MEMBERS
from mmtune.networks.storage import Loaded, load_model
from mmtune.serve.logged import DROPOUT
from mmtune.tracking import COMPLETE, PARENT, MlflowTracker, StudyRun, TrialRun
from mmtune.train.answers import read_answers
from mmtune.tune.parts import Part, part_of


def of_folds(tracker: MlflowTracker, searched: StudyRun, trial: TrialRun) -> tuple[Final, Split]:
    """What the networks of a cross-validated trial make together, and the rows: all of them train, and all validate.

    Raises InputError where they are too many to answer together.
    """
    key = searched.key
    own = [run for run in tracker.parts(searched.run_id) if run.tags.get(PARENT) == trial.run_id]
    runs = {part_of(run.tags): run for run in own if run.state == COMPLETE}
    if len(runs) < key.trainings:
        there = f"{len(runs)} of {key.trainings} of trial {trial.name} are"
        raise InputError(f"all folds of {key.slug} must be tracked, {there}: run the study again")
    if len(runs) > MOST_MEMBERS:
        raise InputError(f"at most {MOST_MEMBERS} networks may answer together, {key.slug} has {len(runs)} a trial")
    members = {part: member(tracker, part, runs[part], key.repeats > 1) for part in sorted(runs)}
    answering = []
    for fold in range(key.folds):
        parts = [part for part in members if part.fold == fold]
        held = read_answers(tracker.artifact(runs[parts[0]].run_id, HELD), ("row",))["row"]
        answering.append((all_of([members[part] for part in parts]).model, held))
    every = np.sort(np.concatenate([held for _, held in answering]))
    final = Final(
        name=f"ensemble of {' and '.join(key.division)} of trial_{trial.number:02d}",
        loaded=all_of(list(members.values())),
        members={one.name: 1 / len(members) for one in members.values()},
        runs=tuple(one.run.run_id for one in members.values()),
        dropout=trial.params.get(DROPOUT, 0.0),
        answering=answering,
    )
    return final, Split(train=every, validation=every)


def member(tracker: MlflowTracker, part: Part, run: TrialRun, repeated: bool) -> Member:
    """The network of a part, with the temperature that the rows gave it by which its epochs were chosen."""
    return Member(
        name=f"fold_{part.fold + 1}" + (f"_repeat_{part.repeat + 1}" if repeated else ""),
        run=run,
        loaded=load_model(tracker.artifact(run.run_id, MODEL)),
        temperature=run.metrics["temperature"],
    )


def all_of(members: Sequence[Member]) -> Loaded:
    """The network in which all answer together and count the same."""
    return ensemble_of(members, dict.fromkeys(range(len(members)), 1))

"""What is made of trained networks, tracked as trials of a study of its own, beside the search that they come from."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import nn

from mmtune.base.clock import milliseconds
from mmtune.base.files import locked
from mmtune.data.dataset import Dataset
from mmtune.data.dataset import Rows as RowNumbers
from mmtune.data.protocols import Split
from mmtune.networks.card import MODEL
from mmtune.networks.output import count_parameters
from mmtune.networks.storage import Loaded, save_model
from mmtune.serve.logged import DROPOUT
from mmtune.study import Study, StudyKey
from mmtune.tracking import COMPLETE, NOTE, PARENT, RUNNING, MlflowTracker, StudyRun, TrialRun, best_trial
from mmtune.tracking.runs import NUMBER, PARAMS
from mmtune.train.batches import Resident, Rows
from mmtune.train.costs import costs, latency
from mmtune.train.evaluate import Evaluation, evaluate
from mmtune.train.metrics import every_metric
from mmtune.train.objective import Objective
from mmtune.train.robustness import robustness
from mmtune.train.staging import WEIGHTS, Point
from mmtune.train.trial import finite, take, write_rows
from mmtune.tune.opening import data_tags
from mmtune.tune.plan import data_inputs

MEMBERS, RUNS = "mmtune.members", "mmtune.member_runs"
"""The tags of a run that say, as JSON, of which networks a model is made, how much each counts, and their runs."""
SINGLE = "single"
"""How the name of the best single network begins."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Final:
    """A network that may be the best one.

    members: by name, how much each counts; runs: of these, which trained them; dropout: the least of theirs.
    answering: who answers which of the rows that validate, in its place: of a cross-validation the members that were
    not trained on them. Nobody, if not given.
    """

    name: str
    loaded: Loaded
    members: Mapping[str, float]
    runs: tuple[str, ...] = ()
    dropout: float = 0.0
    answering: Sequence[tuple[nn.Module, RowNumbers]] = ()


def track_finals(
    tracker: MlflowTracker,
    study: Study,
    dataset: Dataset,
    key: StudyKey,
    finals: Sequence[Final],
    resident: Resident,
    sides: Split,
) -> tuple[StudyRun, list[TrialRun]]:
    """A run of each, in their order, with its model and its scores on validation rows, in a study that has ended then.

    What a kill has left half-made is made again; earlier ones, of a shorter search, stay, and none is made twice.
    """
    note = f"pid {os.getpid()} on {os.uname().nodename}"
    refusal = f"what trials of {key.study} make together is tracked already, by one process at a time"
    with locked(tracker.root / "locks" / key.slug, refusal, note):
        what = f"What the best trained networks of {study.name} make together.\n\n{study.doc}"
        tags = {**data_tags(study, dataset), NOTE: what}
        parent = tracker.open_study(key, tags)
        inputs = data_inputs(dataset, key, study.base.model.reads)
        tracker.add_inputs(parent, inputs)
        there = tracker.trials(parent)
        for half in there:
            if half.state == RUNNING:
                tracker.discard(half.run_id)
        number = 1 + max((own.number for own in there), default=-1)
        new = [final for final in finals if not any(own.state == COMPLETE and is_of(own, final) for own in there)]
        for place, final in enumerate(new):
            track(tracker, key, parent, number + place, final, resident, sides)
        best = best_trial(tracker.trials(parent), key.objective)
        tracker.end_study(parent, True, best, key.objective)
        found = tracker.study(key)
        assert found is not None
        trials = tracker.trials(parent)
    return found, [next(own for own in trials if is_of(own, final)) for final in finals]


def is_of(run: TrialRun, final: Final) -> bool:
    """Whether a run is that of a network: made of the same trained ones in the same way."""
    return run.name.startswith(f"{final.name} #") and run.tags.get(RUNS) == json.dumps(final.runs)


def track(
    tracker: MlflowTracker,
    key: StudyKey,
    parent: str,
    number: int,
    final: Final,
    resident: Resident,
    sides: Split,
) -> None:
    """One run, which has ended when it has everything."""
    model, loaded = final.loaded.model, final.loaded
    rows = resident.rows(loaded.config.reads)
    validation = take(rows, sides.validation)
    params: dict[str, Any] = {"members": list(final.members), DROPOUT: final.dropout}
    told = {
        "mmtune.kind": "trial",
        PARENT: parent,
        NUMBER: str(number),
        PARAMS: json.dumps(params),
        "mmtune.drawn": "{}",
        "mmtune.id": f"{parent}-{number}",
        "mmtune.seed": str(key.seed),
        WEIGHTS: str(count_parameters(model)),
        MEMBERS: json.dumps(dict(final.members)),
        RUNS: json.dumps(final.runs),
    }
    run_id = tracker.begin(tracker.experiment(key.study), f"{final.name} #{number}", milliseconds(), told)
    found, judges = evaluate(model, validation), [(model, validation)]
    if final.answering:
        judges = [(own, take(rows, some)) for own, some in final.answering]
        found = judged(found, judges, np.concatenate([some for _, some in final.answering]))
    robust = [robustness(key.objective, own, some) for own, some in judges]
    with tempfile.TemporaryDirectory() as name:
        files = Path(name)
        save_model(files / MODEL, model, loaded.config, loaded.shapes)
        measured = write_rows(files, found, None, rows, resident.units(key.protocol), sides, key.objective)
        tracker.add_files(run_id, files)
    asked = costs(key.objective, model, validation) | {name: fmean(own[name] for own in robust) for name in robust[0]}
    metrics = {**scores_of(found, key.objective), **measured, **latency(model, validation), **asked}
    tracker.log(run_id, [Point(epoch=0, time=milliseconds(), metrics=metrics)], {**params})
    tracker.end(run_id, COMPLETE, milliseconds())


def judged(found: Evaluation, judges: Sequence[tuple[nn.Module, Rows]], numbers: RowNumbers) -> Evaluation:
    """What a network says of rows in their order, with the answers of others in the place of its own.

    judges: each with the rows that it answers, whose numbers, one after the other, are `numbers`.
    """
    said, order = [evaluate(own, part) for own, part in judges], torch.from_numpy(np.argsort(numbers))
    alone = {bank: torch.cat([own.alone[bank] for own in said])[order] for bank in found.alone}
    return replace(found, logits=torch.cat([own.logits for own in said])[order], alone=alone)


def scores_of(found: Evaluation, objective: Objective) -> dict[str, float]:
    """What a trial's run has of validation rows."""
    measured = finite(found.scores("val", *every_metric(objective, found.logits.shape[1])))
    at_best = {objective.at_best(name): value for name, value in measured.items()}
    return {"epoch_at_best": 0, **at_best, **found.details("val")}

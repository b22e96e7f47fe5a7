"""What the UI says of experiments, studies and trials in plain words, the key sentence first."""

from __future__ import annotations

from collections.abc import Mapping

from mmtune.study.key import StudyKey
from mmtune.tracking.runs import COMPLETE, PRUNED, TrialRun
from mmtune.train.objective import Objective
from mmtune.train.staging import Result, StagedRun

NOTE = "mlflow.note.content"


def study_note(key: StudyKey, trials: int, doc: str, best: TrialRun | None, state: str, failed: int) -> str:
    """A study: how it stands, what it is, how to go on with it."""
    if best is None:
        stands = "No trial of it is complete."
    else:
        accuracy = best.metrics.get("val_accuracy_at_best", float("nan"))
        beside = "" if key.objective.first.name == "accuracy" else f", accuracy {accuracy:.4f}"
        stands = f"**Best: trial {best.name}, {validation(key.objective, best.metrics)}{beside}.**"
    what = f"{trials} trial{'s' * (trials > 1)} of `{key.study}`, {key.title}; {state}"
    lost = f", {failed} failed" if failed else ""
    return f"{stands} {what}{lost}.\n\n{doc.strip()}"


def validation(objective: Objective, metrics: Mapping[str, float]) -> str:
    """What a run has of the first metric, in words."""
    return f"validation {objective.first.words} {objective.first.show(metrics.get(objective.name, float('nan')))}"


def trial_note(run: StagedRun, objective: Objective, result: Result | None = None) -> str:
    """A trial or a part: what it was made from, and how it ended."""
    drawn = ", ".join(f"{path} = {value}" for path, value in run.values.items())
    made = f"Drawn for it: {drawn}." if drawn else "Nothing was drawn for it."
    seed = f"Seed {run.tags.get('mmtune.seed', 'unknown')}."
    return " ".join(filter(None, [ending(result, objective), made if not run.parent else "", seed]))


def ending(result: Result | None, objective: Objective) -> str:
    """How a run ended, in a sentence."""
    if result is None:
        return "Under way."
    if result.state not in (COMPLETE, PRUNED):
        return f"**Failed:** {result.reason.partition(chr(10))[0]}."
    told = f"{validation(objective, result.metrics)} after epoch {result.metrics.get('epoch_at_best', 0):.0f}"
    trained = result.metrics.get("epochs_trained", 0)
    return f"**{told}** of {trained:.0f}." if result.state == COMPLETE else f"Stopped early: {told} of {trained:.0f}."

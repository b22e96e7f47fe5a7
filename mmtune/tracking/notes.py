"""What the UI says of experiments, studies and trials in plain words, the key sentence first."""

from __future__ import annotations

from mmtune.study.key import StudyKey
from mmtune.tracking.runs import COMPLETE, OBJECTIVE, PRUNED, TrialRun
from mmtune.train.staging import Result, StagedRun

NOTE = "mlflow.note.content"


def study_note(key: StudyKey, trials: int, doc: str, best: TrialRun | None, finished: bool, failed: int) -> str:
    """A study: how it stands, what it is, how to go on with it."""
    if best is None:
        stands = "No trial of it is complete."
    else:
        score, accuracy = best.metrics[OBJECTIVE], best.metrics.get("val_accuracy_at_best", float("nan"))
        stands = f"**Best: trial {best.name}, validation macro-F1 {score:.4f}, accuracy {accuracy:.4f}.**"
    state = "finished" if finished else "not finished: the same command goes on"
    what = f"{trials} trial{'s' * (trials > 1)} of `{key.study}`, {key.title}; {state}"
    lost = f", {failed} failed" if failed else ""
    return f"{stands} {what}{lost}.\n\n{doc.strip()}"


def trial_note(run: StagedRun, result: Result | None = None) -> str:
    """A trial or a part: what it was made from, and how it ended."""
    drawn = ", ".join(f"{path} = {value}" for path, value in run.values.items())
    made = f"Drawn for it: {drawn}." if drawn else "Nothing was drawn for it."
    seed = f"Seed {run.tags.get('mmtune.seed', 'unknown')}."
    return " ".join(filter(None, [ending(result), made if not run.parent else "", seed]))


def ending(result: Result | None) -> str:
    """How a run ended, in a sentence."""
    if result is None:
        return "Under way."
    if result.state not in (COMPLETE, PRUNED):
        return f"**Failed:** {result.reason.partition(chr(10))[0]}."
    score, epoch = result.metrics.get(OBJECTIVE, float("nan")), result.metrics.get("epoch_at_best", 0)
    told = f"validation macro-F1 {score:.4f} after epoch {epoch:.0f}"
    trained = result.metrics.get("epochs_trained", 0)
    return f"**{told}** of {trained:.0f}." if result.state == COMPLETE else f"Stopped early: {told} of {trained:.0f}."

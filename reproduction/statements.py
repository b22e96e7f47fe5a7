"""What the results say together: the gains from fusion and from connections, and the reports' words on embeddings."""

from __future__ import annotations

from collections.abc import Sequence

from mmtune.analysis.embeddings import split_parts
from mmtune.data.dataset import Dataset
from mmtune.networks.card import VALIDATION
from mmtune.report.comparing import Answers, answers_of, compared
from mmtune.tracking import MlflowTracker
from mmtune.train.answers import read_answers
from reproduction.claims import Claim, embedding_claims
from reproduction.measured import Result
from reproduction.tasks import Task

CLAIMED_UNDER = "clip_disjoint"
FIELDS = ("label", "unit", "embedding", "parts", "widths")


def statements(tracker: MlflowTracker, dataset: Dataset, results: Sequence[Result]) -> list[str]:
    """Every comparison that the studies themselves name, corrected together, then every claim, of the first seed."""
    first = min((result.task.seed for result in results), default=0)
    done = [result for result in results if result.task.seed == first and result.trial is not None]
    return [*gains(tracker, dataset, done), *claims(tracker, done)]


def gains(tracker: MlflowTracker, dataset: Dataset, done: Sequence[Result]) -> list[str]:
    """Fusion against each of its encoders, and a network with connections against its baseline."""
    pairs = [(own, other) for own in done for other in done if is_reference(own, other)]
    asked = {result.task: result.run for pair in pairs for result in pair if result.run is not None}
    answers: dict[Task, Answers] = {task: answers_of(tracker, run, dataset) for task, run in asked.items()}
    found = compared([(answers[own.task], answers[other.task]) for own, other in pairs])
    return [comparison.sentence() for comparison in found]


def is_reference(own: Result, other: Result) -> bool:
    """Whether the second result is what the first one's study names as its part or partner, on the same rows."""
    named = {*own.study.encoders.values(), own.study.baseline}
    same = (own.task.protocol, own.task.folds) == (other.task.protocol, other.task.folds)
    return same and other.task.study in named


def claims(tracker: MlflowTracker, done: Sequence[Result]) -> list[str]:
    """What the reports say of embeddings, held against the validation rows of every network with both modalities."""
    found: dict[str, list[tuple[str, Claim]]] = {}
    for result in done:
        for claim in claims_of(tracker, result):
            found.setdefault(claim.claim, []).append((result.task.study, claim))
    return [told(own) for own in found.values()]


def claims_of(tracker: MlflowTracker, result: Result) -> list[Claim]:
    """The claims on one network's validation rows under CLAIMED_UNDER."""
    if result.task.protocol != CLAIMED_UNDER or result.task.folds or result.trial is None:
        return []
    rows = read_answers(tracker.artifact(result.trial.run_id, VALIDATION), FIELDS)
    parts = split_parts(rows["embedding"], rows["parts"], rows["widths"])
    return embedding_claims(rows["label"], parts, rows["unit"], result.task.seed)


def told(found: Sequence[tuple[str, Claim]]) -> str:
    """One claim in all networks."""
    first, held = found[0][1], sum(claim.holds for _, claim in found)
    each = [f"{study} {'yes' if claim.holds else 'no'} ({claim.measured})" for study, claim in found]
    quoted = f"\N{LEFT DOUBLE QUOTATION MARK}{first.claim}\N{RIGHT DOUBLE QUOTATION MARK}"
    return (
        f"{quoted} ({first.source}) holds in {held} of {len(found)} networks ({CLAIMED_UNDER}, validation rows, "
        f"95 % bootstrap intervals over recordings): {'; '.join(each)}."
    )

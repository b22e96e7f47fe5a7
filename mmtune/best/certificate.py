"""One page on a model: what was tried, what won, what it scores on whom, where it fails, what it is not for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtune.base.commands import command_line
from mmtune.base.files import make_folder, write_whole
from mmtune.base.templates import templates
from mmtune.best.held_out import HeldOut, held_out
from mmtune.data.dataset import SPEAKER, Dataset
from mmtune.data.protocols import share_members
from mmtune.report.page import HERE, policy, protocol_note
from mmtune.report.robustness import points, robustness_lines
from mmtune.report.tables import duration, percent, title
from mmtune.serve.measured import Measured
from mmtune.serve.promotion import Promotion
from mmtune.serve.scoring import TEST
from mmtune.serve.versions import Registry
from mmtune.study.key import StudyKey
from mmtune.study.schedule import TRY
from mmtune.study.space import Space, describe
from mmtune.tracking import COMPLETE, PRUNED, MlflowTracker, StudyRun, TrialRun
from mmtune.tracking.runs import drawn_values
from mmtune.tracking.trouble import reached
from mmtune.train.evaluate import SCALED
from mmtune.train.staging import WEIGHTS

FALLEN = 0.1
"""Of accuracy: what costs as much is named as what the model is not for."""
MOST_FALLS = 6
FEW_UNITS, MOST_CLASSES = 20, 20


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """All that the page says. finals: the single network, the soup, the ensemble, as tracked, with the one promoted.

    searches: each study that trained, and how many of its trials are in each state. members: by name, the trials that
    were asked. reliance: by bank, how much of the accuracy on validation rows it makes, where there are several.
    seconds: what all calls took, of those that were asked for. given: the options of the command, as they were given.
    """

    study: StudyRun
    promoted: Promotion
    finals: Sequence[TrialRun]
    searches: Sequence[tuple[StudyKey, Mapping[str, int]]]
    members: Mapping[str, TrialRun]
    measured: Measured
    reliance: Mapping[str, float]
    space: Space
    seconds: float
    asked: float
    given: Mapping[str, object]

    @property
    def looked_at(self) -> int:
        """How many trainings validation rows have chosen among, those that were stopped early too."""
        return sum(tally.get(state, 0) for _, tally in self.searches for state in (COMPLETE, PRUNED))


def write_certificate(tracker: MlflowTracker, own: Certificate, dataset: Dataset) -> tuple[Path, list[str]]:
    """Write the page into the store's reports, and the same in short as the registered version's description.

    Returns where, and what a command says in the end.
    """
    key, promoted = own.study.key, own.promoted
    found = {
        trial.run_id: held_out(tracker.artifact(trial.run_id, TEST), dataset, key.protocol, key.seed)
        for trial in own.finals
        if "test_accuracy" in trial.metrics
    }
    path = tracker.root / "reports" / f"{key.slug}.certificate.html"
    make_folder(path.parent)
    write_whole(path, page(own, dataset, found).encode())
    of_best = found[promoted.trial.run_id]
    lines = plain_lines(own, of_best)
    card = "\n".join([f"# {verdict(own, of_best)}", "", *(f"- {line}" for line in lines)])
    registry = Registry(tracker, promoted.name)
    with reached(tracker.registry):
        registry.client.update_model_version(promoted.name, promoted.version, description=card)
    return path, [verdict(own, of_best), *lines, f"certificate: {path}"]


def verdict(own: Certificate, found: HeldOut) -> str:
    """The model and its score in a sentence."""
    value, low, high = found.macro_f1
    return (
        f"{own.promoted.name} version {own.promoted.version}: macro-F1 {percent(value)} % "
        f"({percent(low)} to {percent(high)}) on {found.rows:,} test rows"
    )


def plain_lines(own: Certificate, found: HeldOut) -> list[str]:
    """What the certificate says beside the verdict, a line each."""
    trial, objective = own.promoted.trial, own.study.key.objective
    value, low, high = found.accuracy
    before, after = (trial.metrics.get(f"test_{name}") for name in ("calibration_error", SCALED))
    named = {re.fullmatch("test_accuracy_(.+)_alone", name): own for name, own in sorted(trial.metrics.items())}
    alone = {found[1]: own for found, own in named.items() if found}
    chosen = objective.values(trial.metrics)[0]
    lines = [
        f"accuracy {percent(value)} % ({percent(low)} to {percent(high)}); intervals are 95 %, over {found.units:,} "
        f"independent units ({found.unit})",
        f"{trial.name}; {objective.first.label} {objective.first.show(chosen)}, by which the best of what "
        f"{own.looked_at} trainings gave was chosen; the test partition has chosen nothing",
        own.promoted.reason,
    ]
    if before is not None and after is not None:
        lines.append(f"calibration error on the test rows {before:.4f}, with its temperature {after:.4f}")
    if alone:
        told = ", ".join(f"{name} {percent(score)} %" for name, score in alone.items())
        lines.append(f"with one bank alone: {told}")
    if own.reliance:
        told = ", ".join(f"{bank} {100 * value:.1f}" for bank, value in own.reliance.items())
        lines.append(f"of the accuracy on validation rows each bank makes so many points (Shapley values): {told}")
    if found.constant:
        lines.insert(0, f"it answers {found.constant} for every test row, and tells nothing")
    weights, took = trial.tags.get(WEIGHTS, "?"), trial.metrics.get("milliseconds", float("nan"))
    lines.append(f"{int(weights):,} weights, {took:.1f} ms a row on the machine that made it")
    return lines


def limits(own: Certificate, dataset: Dataset, found: HeldOut) -> list[str]:
    """What the model must not be used for, as far as what was measured says."""
    known = ", ".join(dataset.classes[:MOST_CLASSES]) + (" and so on" if len(dataset.classes) > MOST_CLASSES else "")
    lines = [f"Anything but {known}: it has no class for it, and tells only what is unlike all it was trained on."]
    if found.constant:
        lines.insert(0, f"Anything at all: it answers {found.constant} for every test row.")
    elif found.missed:
        more = f" and {len(found.missed) - MOST_CLASSES} more" if len(found.missed) > MOST_CLASSES else ""
        lines.append(f"Finding {', '.join(found.missed[:MOST_CLASSES])}{more}: of these test rows it has none right.")
    train, test = dataset.train, dataset.require_test()
    shared = [name for name in train.groups if train.known(name) and share_members(test, train, name)]
    if shared:
        lines.append(
            f"Claims about a {' or '.join(shared)} that it never met: test rows are of the same ones as training. "
            "A test partition of others would tell."
        )
    if not dataset.train.known(SPEAKER) and any(form.source == "recording" for form in dataset.forms.values()):
        lines.append("Claims about voices that it never heard: who speaks is not known of these recordings.")
    falls = fallen(own.measured)
    if falls:
        lines.append(f"Values as bad as these, of {own.measured.rows:,} validation rows: {'; '.join(falls)}.")
    if found.units < FEW_UNITS:
        lines.append(f"Small differences: {found.units} independent units are too few to tell models apart.")
    return lines


def fallen(measured: Measured) -> list[str]:
    """For each way in which values go wrong, the mildest level that costs FALLEN of accuracy."""
    clean, found = measured.robustness.clean.accuracy, []
    for curve in measured.robustness.curves:
        worse = [(words, own.accuracy) for words, own in points(curve) if own.accuracy < clean - FALLEN]
        found += [f"{words} ({percent(accuracy)} %)" for words, accuracy in worse[:1]]
    return found[:MOST_FALLS]


def page(own: Certificate, dataset: Dataset, scores: Mapping[str, HeldOut]) -> str:
    """The page. scores: by run, of those that were scored on the test partition."""
    key, found = own.study.key, scores[own.promoted.trial.run_id]
    values: dict[str, Any] = {
        "own": own,
        "key": key,
        "dataset": dataset,
        "found": found,
        "verdict": verdict(own, found),
        "lines": plain_lines(own, found),
        "limits": limits(own, dataset, found),
        "robustness": robustness_lines(own.measured),
        "finals": [(final, scores.get(final.run_id)) for final in own.finals],
        "searches": own.searches,
        "members": [(name, trial, choices_of(trial)) for name, trial in own.members.items()],
        "space": describe(own.space),
        "note": protocol_note(key.protocol),
        "again": command_line("best", None, **own.given),
        "ui": command_line("ui"),
        "duration": duration,
        "percent": percent,
        "policy": policy([]),
    }
    return templates("mmtune.best", HERE).get_template("certificate.html").render(**values)


def choices_of(trial: TrialRun) -> str:
    """What was drawn for a trial, or which trial it trains again."""
    drawn = drawn_values(trial)
    again = re.fullmatch(r"trial_(\d+)_seed_(\d+)", str(drawn.get(TRY, "")))
    return f"search_{again[1]} again, with another seed ({again[2]})" if again else title(trial, list(drawn))

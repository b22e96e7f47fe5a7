"""One page on a model: what was tried, what won, what it scores on whom, where it fails, what it is not for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from mmtune.base.commands import command_line
from mmtune.base.files import make_folder, write_whole
from mmtune.best.held_out import HeldOut, held_out
from mmtune.data.dataset import RECORDING, SPEAKER, Dataset
from mmtune.data.protocols import DISJOINT, meaning
from mmtune.report.page import policy, protocol_note
from mmtune.report.robustness import points, robustness_lines
from mmtune.report.tables import duration, percent, title
from mmtune.serve.measured import Measured
from mmtune.serve.promotion import Promotion
from mmtune.serve.scoring import TEST
from mmtune.serve.versions import Registry
from mmtune.study.schedule import TRY
from mmtune.study.space import Space, describe
from mmtune.tracking import COMPLETE, MlflowTracker, StudyRun, TrialRun
from mmtune.tracking.runs import drawn_values
from mmtune.tracking.trouble import reached
from mmtune.train.evaluate import SCALED
from mmtune.train.staging import WEIGHTS
from mmtune.tune.run import Outcome

FALLEN = 0.1
"""Of accuracy: what costs as much is named as what the model is not for."""
MOST_FALLS = 6
FEW_UNITS, MOST_CLASSES = 20, 20


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """All that the page says. finals: the single network, the soup, the ensemble, as tracked, with the one promoted.

    searches: each study that trained, and how many of its trials are in each state. members: by name, the trials that
    were asked. seconds: what all calls took, of those that were asked for. data: the folder
    that was named, None for the bundled sample.
    """

    study: StudyRun
    promoted: Promotion
    finals: Sequence[TrialRun]
    searches: Sequence[tuple[Outcome, Mapping[str, int]]]
    members: Mapping[str, TrialRun]
    measured: Measured
    space: Space
    seconds: float
    asked: float
    data: Path | None

    @property
    def looked_at(self) -> int:
        """How many trained networks validation rows have chosen among."""
        return sum(tally.get(COMPLETE, 0) for _, tally in self.searches)


def write_certificate(tracker: MlflowTracker, own: Certificate, dataset: Dataset) -> Path:
    """Write the page into the store's reports, and the same in short as the registered version's description."""
    key, promoted = own.study.key, own.promoted
    found = scored(tracker, own, dataset, promoted.trial)
    path = tracker.root / "reports" / f"{key.slug}.certificate.html"
    make_folder(path.parent)
    write_whole(path, page(tracker, own, dataset, found).encode())
    card = "\n".join(["# " + verdict(own, found), "", *(f"- {line}" for line in plain_lines(own, dataset, found))])
    registry = Registry(tracker, promoted.name)
    with reached(tracker.registry):
        registry.client.update_model_version(promoted.name, promoted.version, description=card)
    return path


def scored(tracker: MlflowTracker, own: Certificate, dataset: Dataset, trial: TrialRun) -> HeldOut:
    """What a trial scores on the test partition."""
    return held_out(tracker.artifact(trial.run_id, TEST), dataset, own.study.key.protocol, own.study.key.seed)


def verdict(own: Certificate, found: HeldOut) -> str:
    """The model and its score in a sentence."""
    value, low, high = found.macro_f1
    return (
        f"{own.promoted.name} version {own.promoted.version}: macro-F1 {percent(value)} % "
        f"({percent(low)} to {percent(high)}) on {found.rows:,} test rows"
    )


def plain_lines(own: Certificate, dataset: Dataset, found: HeldOut) -> list[str]:
    """What the certificate says beside the verdict, a line each."""
    trial, objective = own.promoted.trial, own.study.key.objective
    value, low, high = found.accuracy
    before, after = (trial.metrics.get(f"test_{name}") for name in ("calibration_error", SCALED))
    alone = {name: score for name, score in sorted(trial.metrics.items()) if name.startswith("test_accuracy_")}
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
        told = ", ".join(f"{name[14:-6].replace('_', ' ')} {percent(score)} %" for name, score in alone.items())
        lines.append(f"with one bank alone: {told}")
    weights, took = trial.tags.get(WEIGHTS, "?"), trial.metrics.get("milliseconds", float("nan"))
    lines.append(f"{int(weights):,} weights, {took:.1f} ms a row on the machine that made it")
    return lines


def limits(own: Certificate, dataset: Dataset, found: HeldOut) -> list[str]:
    """What the model must not be used for, as far as what was measured says."""
    kept, groups = meaning(own.study.key.protocol).removeprefix(DISJOINT), dataset.train.groups
    known = ", ".join(dataset.classes[:MOST_CLASSES]) + (" and so on" if len(dataset.classes) > MOST_CLASSES else "")
    lines = [f"Anything but {known}: it has no class for it, and tells only what is unlike all it was trained on."]
    unseen = [name for name in groups if name not in (kept, RECORDING) and dataset.train.known(name)]
    seen = [name for name in unseen if is_shared(dataset, name)]
    if seen:
        lines.append(
            f"Claims about a {' or '.join(seen)} that it never met: test rows are of the same ones as training. "
            f"Search with --protocol disjoint:{seen[0]} on a test of others to know."
        )
    if SPEAKER not in groups and any(form.source == "recording" for form in dataset.forms.values()):
        lines.append("Claims about voices that it never heard: who speaks is not known of these recordings.")
    falls = fallen(own.measured)
    if falls:
        lines.append(f"Values as bad as these, of {own.measured.rows:,} validation rows: {'; '.join(falls)}.")
    if found.units < FEW_UNITS:
        lines.append(f"Small differences: {found.units} independent units are too few to tell models apart.")
    return lines


def is_shared(dataset: Dataset, group: str) -> bool:
    """Whether test rows are of members of a group that training rows are of."""
    test = dataset.require_test()
    return bool(set(test.groups[group].tolist()) & set(dataset.train.groups[group].tolist()) - {""})


def fallen(measured: Measured) -> list[str]:
    """For each way in which values go wrong, the mildest level that costs FALLEN of accuracy."""
    clean, found = measured.robustness.clean.accuracy, []
    for curve in measured.robustness.curves:
        worse = [(words, own.accuracy) for words, own in points(curve) if own.accuracy < clean - FALLEN]
        found += [f"{words} ({percent(accuracy)} %)" for words, accuracy in worse[:1]]
    return found[:MOST_FALLS]


def lines(tracker: MlflowTracker, own: Certificate, dataset: Dataset, path: Path) -> list[str]:
    """What a command says in the end."""
    found = scored(tracker, own, dataset, own.promoted.trial)
    return [verdict(own, found), *plain_lines(own, dataset, found), f"certificate: {path}"]


def page(tracker: MlflowTracker, own: Certificate, dataset: Dataset, found: HeldOut) -> str:
    """The page."""
    loader = jinja2.ChoiceLoader([jinja2.PackageLoader("mmtune.best"), jinja2.PackageLoader("mmtune.report")])
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    key = own.study.key
    values: dict[str, Any] = {
        "own": own,
        "key": key,
        "dataset": dataset,
        "found": found,
        "verdict": verdict(own, found),
        "lines": plain_lines(own, dataset, found),
        "limits": limits(own, dataset, found),
        "robustness": robustness_lines(own.measured),
        "finals": [(final, scores_of(tracker, own, dataset, final)) for final in own.finals],
        "searches": [(outcome.key, tally) for outcome, tally in own.searches],
        "members": [(name, trial, choices_of(trial)) for name, trial in own.members.items()],
        "space": describe(own.space),
        "note": protocol_note(key.protocol),
        "again": command_line("best", None, hours=f"{own.asked / 3600:g}", data=own.data),
        "ui": command_line("ui"),
        "duration": duration,
        "percent": percent,
        "policy": policy(["none"]),
    }
    return environment.get_template("certificate.html").render(**values)


def choices_of(trial: TrialRun) -> str:
    """What was drawn for a trial, or which trial it trains again."""
    drawn = drawn_values(trial)
    again = re.fullmatch(r"trial_(\d+)_seed_(\d+)", str(drawn.get(TRY, "")))
    return f"search_{again[1]} again, with another seed ({again[2]})" if again else title(trial, list(drawn))


def scores_of(tracker: MlflowTracker, own: Certificate, dataset: Dataset, trial: TrialRun) -> HeldOut | None:
    """What one of the finals scores on the test partition, None where it was not scored."""
    return scored(tracker, own, dataset, trial) if "test_accuracy" in trial.metrics else None

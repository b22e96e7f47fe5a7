"""Tracked runs to one HTML page that needs nothing but itself.

The page is laid out by templates/report.html; this file gathers what stands in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plotly.offline import get_plotlyjs

from mmtune.analysis.figures.look import shown
from mmtune.base.errors import InputError
from mmtune.base.files import make_folder, write_whole
from mmtune.base.templates import fingerprint, source_of, templates
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import CONTENT, DISJOINT, RANDOM, meaning
from mmtune.networks.card import CALIBRATION, VALIDATION
from mmtune.report import figures as drawn
from mmtune.report import tables
from mmtune.report.embeddings import embedding_section
from mmtune.report.explorer import explorer
from mmtune.report.folds import fold_table
from mmtune.report.gallery import gallery_section
from mmtune.report.intervals import Scored, scored
from mmtune.report.maps import map_section
from mmtune.report.robustness import robustness_section
from mmtune.report.search import findings, search_section
from mmtune.study import Study
from mmtune.tracking import CLASSES, COMPLETE, MlflowTracker, StudyRun, TrialRun, best_trial, front_trials
from mmtune.train.answers import read_answers
from mmtune.train.calibration_file import read_calibration
from mmtune.train.objective import MILLISECONDS_SPREAD, MOST_RANKED

FIELDS = ("row", "label", "prediction", "embedding", "parts", "widths")
OF_UNITS = ("unit",)
"""What answers have that were not written by an earlier version."""
MOST_ROWS, MOST_CURVES, MOST_OTHERS = 100, 50, 20
HERE = "mmtune.report"
"""The package whose templates all pages of one file build on."""


def write_report(
    tracker: MlflowTracker,
    run: StudyRun,
    study: Study,
    others: Sequence[StudyRun],
    out: Path | None = None,
    dataset: Dataset | None = None,
) -> Path:
    """Write the page of a tracked study to `out`, whole or not at all, and return where: in the store, if not given.

    others: more runs of the same study, to be compared in one table. dataset: what it was run on, of which rows are
    shown and played, where it is at hand.
    Raises InputError where no trial of the study is complete, or `out` is a folder.
    """
    objective = run.key.objective
    out = out or tracker.root / "reports" / f"{run.key.slug}.html"
    asked = [*(column.name for column in tables.score_columns(objective)), MILLISECONDS_SPREAD]
    trials = tables.ranked(tracker.trials(run.run_id, tables.TAGS, asked), objective)
    if best_trial(trials, objective) is None:
        found = ", ".join(f"{n} {state}" for state, n in tables.tally(trials).items()) or "no trial"
        raise InputError(f"a report needs a complete trial, study {run.key.slug} has {found}")
    if out.is_dir():
        raise InputError(f"a report is written to a file, {out} is a folder")
    # All that is known of the best one, of the others what stands in the tables.
    trials[0] = tracker.trial(run.run_id, trials[0].run_id) or trials[0]
    choices = tables.differing(trials)
    compared = [run, *others[:MOST_OTHERS]] if others else []
    values = {
        "run": run,
        "study": study,
        "trials": trials,
        "best": trials[0],
        "front": front_trials(trials, objective),
        "choices": choices,
        "protocol_note": protocol_note(run.key.protocol),
        "is_random": meaning(run.key.protocol) == RANDOM,
        "shared": {path: value for path, value in trials[0].params.items() if path not in choices},
        "runs": [(own, tracker.tally(own.run_id), tracker.best(own.run_id, own.key.objective)) for own in compared],
        "runs_left_out": max(0, len(others) - MOST_OTHERS),
        "most_rows": MOST_ROWS,
        "most_ranked": MOST_RANKED,
        "written": datetime.now(UTC),
        "tables": tables,
        "shown": shown,
    }
    page = render("report", values | plots_of(tracker, run, study, trials, choices, dataset), script="report.js")
    make_folder(out.parent)
    write_whole(out, page.encode())
    return out


def protocol_note(protocol: str) -> str:
    """What a protocol keeps apart, in words."""
    kept = meaning(protocol)
    if kept == RANDOM:
        return "random split over rows, as in the papers: a recording may stand on both sides of the split"
    group = kept.removeprefix(DISJOINT)
    return f"no {'equal content' if group == CONTENT else group} stands on both sides of the split"


def class_names(run: StudyRun, *numbers: NDArray[np.int64]) -> list[str]:
    """The names of a study's classes, as it was tracked, or their numbers where there were too many to be kept."""
    try:
        told = json.loads(run.tags.get(CLASSES, "[]"))
    except (ValueError, RecursionError):
        told = []
    found = told if isinstance(told, list) and all(isinstance(name, str) for name in told) else []
    count = max(int(own.max(initial=0)) + 1 for own in numbers)
    return found if len(found) >= count else [str(number) for number in range(count)]


def plots_of(
    tracker: MlflowTracker,
    run: StudyRun,
    study: Study,
    trials: Sequence[TrialRun],
    choices: Sequence[str],
    dataset: Dataset | None,
) -> dict[str, Any]:
    """What the template draws, and the numbers that need the best trial's files. `trials` are ranked."""
    best, key = trials[0], run.key
    validation = read_answers(tracker.artifact(best.run_id, VALIDATION), FIELDS, OF_UNITS)
    names = class_names(run, validation["label"], validation["prediction"])
    tested = "test_accuracy" in best.metrics
    on = {"validation": scored("validation", validation, key.seed), "test": Scored(split="test")}
    if tested:
        answers = read_answers(tracker.artifact(best.run_id, "test.npz"), ("label", "prediction"), OF_UNITS)
        on["test"] = scored("test", answers, key.seed)
    objective = key.objective
    complete = [t for t in trials if t.state == COMPLETE and objective.values(t.metrics)]
    calibration = read_calibration(tracker.artifact(best.run_id, CALIBRATION))
    importance = drawn.importance_section(study.space, complete, choices, objective, key.seed)
    embeddings = embedding_section(best, validation, key, names)
    return {
        "curves": drawn.curve_section(tracker, trials[:MOST_CURVES], choices, objective.first),
        **importance,
        "search": search_section(trials, choices, importance["weights"], key),
        "learnt": findings(complete, choices, importance["weights"], importance["spread"], objective, calibration),
        "strips": drawn.strip_section(complete, choices, key.seed, objective),
        "fronts": drawn.front_section(complete, front_trials(complete, objective), choices, key),
        "classes": drawn.class_section(validation, names),
        "gallery": gallery_section(tracker, run, best, validation, names, dataset),
        "calibration": drawn.calibration_section(calibration),
        "embeddings": embeddings,
        "explorer": explorer(tracker, run, best, validation, embeddings["rows"], names, dataset),
        "robustness": robustness_section(tracker, best),
        "maps": map_section(tracker, best, names),
        "folds": fold_table(tracker, key, best),
        "scored": on,
        "validation_rows": on["validation"].rows,
        "test_rows": on["test"].rows,
        "most_strip": drawn.MOST_STRIP,
        "most_curves": MOST_CURVES,
    }


def render(name: str, values: Mapping[str, Any], *packages: str, script: str = "") -> str:
    """The template `name`.html, of `packages` or this one; what it does not mark as safe is escaped.

    script: what runs beside what draws the figures, "" for nothing.
    """
    environment = templates(*packages, HERE)
    plots: dict[str, Any] = {}

    def plot(name: str, figure: Any) -> str:
        plots[name] = json.loads(figure.to_json())
        return name

    own = [source_of(environment, source) for source in ("figures.js", script) if source]
    scripts = [get_plotlyjs(), "\n".join(own)]
    helpers = {"plot": plot, "plots": plots, "safe_json": safe_json, "scripts": scripts, "policy": policy(scripts)}
    return environment.get_template(f"{name}.html").render(**values, **helpers)


def safe_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def policy(scripts: Sequence[str]) -> str:
    """A content security policy: these scripts and no others run, and nothing is ever fetched."""
    allowed = " ".join(f"'{fingerprint(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )

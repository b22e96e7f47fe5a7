"""Tracked runs to one HTML page that needs nothing but itself.

The page is laid out by templates/report.html; this file gathers what stands in it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
from plotly.offline import get_plotlyjs

from mmtune.analysis.figures import shown
from mmtune.base.errors import InputError
from mmtune.base.files import write_whole
from mmtune.networks.card import VALIDATION
from mmtune.report import figures as drawn
from mmtune.report import tables as tables
from mmtune.report.comparison import fold_table, published_table
from mmtune.report.embeddings import embedding_section
from mmtune.report.maps import map_section
from mmtune.tracking import COMPLETE, OBJECTIVE, MlflowTracker, StudyRun, TrialRun, best_trial

MOST_ROWS, MOST_CURVES, MOST_OTHERS = 100, 50, 20
PROTOCOL_NOTES = {
    "as_reported": "random split over pairs, as in the reports: a recording may stand on both sides of the split",
    "clip_disjoint": "no recording stands on both sides of the split",
    "speaker_disjoint": "no speaker stands on both sides of the split",
}


def write_report(
    tracker: MlflowTracker,
    study_run: StudyRun,
    importances: Mapping[str, float],
    reported: Mapping[str, float],
    out: Path,
    paper: str = "",
    others: Sequence[StudyRun] = (),
    *,
    published: Mapping[str, float] = {},
    published_source: str = "",
    folds: Sequence[Mapping[str, object]] = (),
    trials: Sequence[TrialRun] | None = None,
    estimated_from: int | None = None,
) -> Path:
    """Write the page of a study to `out`, whole or not at all, and return `out`.

    importances: share of each choice in the objective, by dotted path; empty where there are too few trials.
    reported: the paper's numbers as fractions, by metric without prefix, such as {"accuracy": 0.9848}.
    others: more runs of the same study, to be compared in one table.
    published: accuracies of other models as shares, by name; published_source says where they stand.
    folds: what `comparison.fold_table` takes.
    trials: those of the study, read here if not given.
    estimated_from: how many complete trials told the importances, all of them if not given.
    Raises InputError where no trial of the study is complete, or `out` is a folder.
    """
    trials = tables.ranked(tracker.trials(study_run.run_id) if trials is None else trials)
    if best_trial(trials) is None:
        found = ", ".join(f"{n} {state}" for state, n in tables.tally(trials).items()) or "no trial"
        raise InputError(f"a report needs a complete trial, study {study_run.key.slug} has {found}")
    if out.is_dir():
        raise InputError(f"a report is written to a file, {out} is a folder")
    choices = tables.differing(trials)
    words = text_of(study_run, trials, choices, reported, paper) | runs_compared(tracker, study_run, others)
    plots = plots_of(tracker, study_run, trials, choices, importances)
    counts = plots["validation_rows"], plots["test_rows"]
    tables_more = {
        "published": published_table(trials[0], published, study_run.key.study, *counts),
        "published_source": published_source,
        "folds": fold_table(folds) if folds else None,
        "estimated_from": words["tally"]["complete"] if estimated_from is None else estimated_from,
    }
    page = render(words | plots | tables_more)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page.encode())
    return out


def text_of(
    study: StudyRun, trials: Sequence[TrialRun], choices: Sequence[str], reported: Mapping[str, float], paper: str
) -> dict[str, Any]:
    """What the template says and tabulates. `trials` are ranked, the first one is complete; `choices` differ."""
    best = trials[0]
    return {
        "study": study,
        "paper": paper,
        "written": datetime.now(UTC),
        "best": best,
        "best_title": tables.title(best, choices),
        "objective": best.metrics[OBJECTIVE],
        "objective_name": OBJECTIVE,
        "states": tables.STATES,
        "tally": tables.tally(trials),
        "protocol_note": PROTOCOL_NOTES[study.key.protocol],
        "facts": tables.facts(study, trials),
        "command": study.tags.get("mmtune.command", ""),
        "fixed": {path: shown(value) for path, value in best.params.items() if path not in choices},
        "reported": reported,
        "columns": tables.leaderboard_columns(trials, choices),
        "trials": trials[:MOST_ROWS],
        "all_trials": len(trials),
        "failures": tables.failures(trials),
    }


def runs_compared(tracker: MlflowTracker, study: StudyRun, others: Sequence[StudyRun]) -> dict[str, Any]:
    """The table of runs of this study under other protocols, data, seeds or budgets."""
    runs = [study, *others[:MOST_OTHERS]]
    lines = [tables.run_line(run, tracker.tally(run.run_id), tracker.best(run.run_id)) for run in runs if others]
    return {"runs": lines, "runs_left_out": max(0, len(others) - MOST_OTHERS)}


def plots_of(
    tracker: MlflowTracker,
    study: StudyRun,
    trials: Sequence[TrialRun],
    choices: Sequence[str],
    importances: Mapping[str, float],
) -> dict[str, Any]:
    """What the template draws, and the numbers that need the best trial's validation file."""
    best = trials[0]
    fields, optional = ("row", "label", "prediction", "embedding"), ("parts", "widths")
    validation = drawn.load_rows(tracker, best, VALIDATION, *fields, optional=optional)
    test = drawn.load_rows(tracker, best, "test.npz", "label") if "test_accuracy" in best.metrics else {"label": ()}
    complete = [t for t in trials if t.state == COMPLETE and OBJECTIVE in t.metrics]
    return {
        "curves": drawn.curve_section(tracker, trials[:MOST_CURVES], choices),
        "importances": drawn.importance_section(importances, choices),
        "strips": drawn.strip_section(complete, choices, study.key.seed),
        "classes": drawn.class_section(validation),
        "embeddings": embedding_section(best, validation, study.key),
        "maps": map_section(tracker, best),
        "validation_rows": len(validation["label"]),
        "test_rows": len(test["label"]),
        "most_strip": drawn.MOST_STRIP,
        "most_curves": MOST_CURVES,
    }


def render(values: Mapping[str, Any]) -> str:
    """The template, filled; what it does not mark as safe is escaped."""
    loader, environment = templates()
    plots: dict[str, Any] = {}

    def plot(name: str, figure: Any) -> str:
        plots[name] = json.loads(figure.to_json())
        return name

    scripts = [get_plotlyjs(), loader.get_source(environment, "report.js")[0]]
    helpers = {"plot": plot, "plots": plots, "measured": tables.measured, "safe_json": safe_json, "shown": shown}
    return environment.get_template("report.html").render(
        **values, **helpers, last_line=tables.last_line, scripts=scripts, policy=policy(scripts)
    )


def templates(*packages: str) -> tuple[jinja2.BaseLoader, jinja2.Environment]:
    """Where pages come from: `packages`, then this one; what a template does not mark as safe is escaped."""
    loader = jinja2.ChoiceLoader([jinja2.PackageLoader(name) for name in (*packages, "mmtune.report")])
    return loader, jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def safe_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def policy(scripts: Sequence[str]) -> str:
    """A content security policy: these scripts and no others run, and nothing is ever fetched."""
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{h}'" for h in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )

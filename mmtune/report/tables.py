"""The words and tables of a report: tracked runs to text, with no figure and no mark-up."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmtune.analysis.figures import DASH, is_number, shown
from mmtune.networks.card import FINAL
from mmtune.tracking import COMPLETE, FAIL, INTERRUPTED, OBJECTIVE, PRUNED, RUNNING, StudyRun, TrialRun

STATES = {COMPLETE: "complete", PRUNED: "pruned", FAIL: "failed", RUNNING: "running", INTERRUPTED: "interrupted"}


def ranked(trials: Sequence[TrialRun]) -> list[TrialRun]:
    """Complete trials, best validation macro-F1 first, then pruned, failed, running; a tie to the lower number."""
    return sorted(trials, key=lambda t: (list(STATES).index(t.state), -t.metrics.get(OBJECTIVE, -math.inf), t.number))


def tally(trials: Sequence[TrialRun]) -> dict[str, int]:
    """How many trials are in each state that occurs, in words."""
    counts = Counter(t.state for t in trials)
    return {word: counts[state] for state, word in STATES.items() if counts[state]}


def facts(study: StudyRun, trials: Sequence[TrialRun]) -> dict[str, str]:
    """What a colleague asks first, by name; what was never tracked is left out."""
    key, best = study.key, trials[0]
    tags = {**study.tags, **best.tags}
    parts = max(key.folds, 1) * key.repeats
    seconds = parts * sum(t.metrics.get("fit_seconds", 0.0) for t in trials)
    found = {
        "Data": f"{key.data}, digest {key.digest[:12]}",
        "Data folder": tags.get("mmtune.data_dir", ""),
        "Budget": f"{key.epochs} epochs a trial, {len(trials)} trials, {duration(seconds)} of training in all",
        "Sampler": key.sampler,
        "Pinned by the user": ", ".join(f"{path} = {shown(value)}" for path, value in key.fixed),
        "Seed": f"{key.seed} (each trial's own seed follows from it and the trial's number)",
        "Device": tags.get("mmtune.device", ""),
        "Versions": plain_versions(tags.get("mmtune.versions", "")),
        "Git commit": tags.get("mmtune.git_commit", ""),
        "Mixture": tags.get("mmtune.mixture", ""),
        "First opened": f"{study.started:%Y-%m-%d %H:%M} UTC",
    }
    return {name: value for name, value in found.items() if value}


def plain_versions(text: str) -> str:
    """Versions as `name version, ...` where the tag is a JSON object, else as they are."""
    try:
        versions = json.loads(text)
    except ValueError:
        return text
    return ", ".join(f"{n} {v}" for n, v in versions.items()) if isinstance(versions, dict) else text


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    size, unit = next(((s, u) for s, u in ((3600, "h"), (60, "min")) if seconds >= 2 * s), (1, "s"))
    return f"{seconds / size:.1f} {unit}"


def differing(trials: Sequence[TrialRun]) -> list[str]:
    """The dotted paths whose value is not the same in all trials, in the order of the configuration."""
    paths = dict.fromkeys(path for t in trials for path in t.params)
    first = {path: repr(trials[0].params.get(path)) for path in paths}
    return [p for p in paths if any(repr(t.params.get(p)) != first[p] for t in trials)]


def short_names(paths: Sequence[str]) -> dict[str, str]:
    """The shortest ending of each dotted path that no other path shares: kernel, or image.dropout."""
    endings = {p: [p.split(".", i)[-1] for i in range(p.count("."), -1, -1)] for p in paths}
    shared = Counter(ending for own in endings.values() for ending in own)
    return {p: next((e for e in own if shared[e] == 1), p) for p, own in endings.items()}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the leaderboard: what to show of a trial, and how; `value` is also what it is sorted by."""

    heading: str
    value: Callable[[TrialRun], Any]
    show: Callable[[Any], str]
    unit: str = ""
    numeric: bool = True
    choice: bool = False


def metric(heading: str, name: str, show: str, unit: str = "", scale: float = 1.0) -> Column:
    """A column of a metric, formatted by a format specification."""

    def value(trial: TrialRun) -> float | None:
        return scale * trial.metrics[name] if name in trial.metrics else None

    return Column(heading=heading, unit=unit, value=value, show=lambda v: DASH if v is None else format(v, show))


def leaderboard_columns(trials: Sequence[TrialRun], choices: Sequence[str]) -> list[Column]:
    """A column for each choice that differs, then the scores; test scores only where some trial was promoted."""
    names = short_names(choices)
    tested = any(name in t.metrics for t in trials for name in ("test_macro_f1", "test_accuracy"))
    test = [
        metric("test macro-F1", "test_macro_f1", ".2f", "%", 100),
        metric("test accuracy", "test_accuracy", ".2f", "%", 100),
    ]
    return [
        *(choice_column(path, names[path], trials) for path in choices),
        metric("best epoch", "best_epoch", ".0f"),
        metric("val macro-F1", OBJECTIVE, ".2f", "%", 100),
        metric("val accuracy", "best_val_accuracy", ".2f", "%", 100),
        metric("val loss", "best_val_loss", ".4f", "nats"),
        *(test if tested else []),
        metric("ARI", "val_ari", ".3f"),
        metric("NMI", "val_nmi", ".3f"),
        metric("purity", "val_purity", ".3f"),
        *(
            [metric("silhouette", "val_silhouette", ".3f")]
            if any("val_silhouette" in t.metrics for t in trials)
            else []
        ),
        metric("weights", "parameters", ",.0f"),
        metric("time", "fit_seconds", ".1f", "s"),
    ]


def choice_column(path: str, name: str, trials: Sequence[TrialRun]) -> Column:
    """A column of one choice."""
    numeric = all(is_number(t.params[path]) for t in trials if t.params.get(path) is not None)
    return Column(heading=name, value=lambda t: t.params.get(path), show=shown, numeric=numeric, choice=True)


def measured(best: TrialRun, reported: Mapping[str, float], rows: int, test_rows: int) -> list[dict[str, Any]]:
    """Reported against measured, in percent, also of the weights of the last epoch where those were kept.

    An accuracy on one split has Wilson's 95 % interval, the mean over folds or repeats the one that is tracked with it.
    """
    kept = f"{FINAL}_val_accuracy" in best.metrics
    return [
        line
        for last in ([False, True] if kept else [False])
        for line in measured_lines(best, reported, rows, test_rows, last)
    ]


def measured_lines(
    best: TrialRun, reported: Mapping[str, float], rows: int, test_rows: int, last: bool
) -> list[dict[str, Any]]:
    """`measured` of the best epoch's weights, or of the last one's."""
    table = []
    validation, test = (f"{FINAL}_val", f"{FINAL}_test") if last else ("best_val", "test")
    for name in dict.fromkeys([*reported, "accuracy", "macro_f1"]):
        paper = reported.get(name)
        heading = name.replace("macro_f1", "macro-F1") + (", last epoch" if last else "")
        line: dict[str, Any] = {"name": heading, "reported": percent(paper)}
        for split, own, count in (("validation", f"{validation}_{name}", rows), ("test", f"{test}_{name}", test_rows)):
            value = best.metrics.get(own)
            gap = None if value is None or paper is None else 100 * (value - paper)
            line[split] = percent(value)
            line[f"{split}_gap"] = DASH if gap is None else f"{gap:+.2f}".replace("-", "\N{MINUS SIGN}")
            tracked = [best.metrics.get(f"{own}_{end}") for end in ("low", "high")]
            wilson = interval(value, count) if name == "accuracy" and f"{own}_sd" not in best.metrics else ""
            line[f"{split}_interval"] = wilson if None in tracked else " to ".join(map(percent, tracked))
        table.append(line)
    return table


def published_table(
    best: TrialRun, published: Mapping[str, float], name: str, rows: int, test_rows: int
) -> dict[str, Any]:
    """Published accuracies (shares) and this study's, on test rows if it was scored there, the highest first."""
    tested = "test_accuracy" in best.metrics
    own = best.metrics.get("test_accuracy", best.metrics.get("best_val_accuracy"))
    split, count = ("test", test_rows) if tested else ("validation", rows)
    found = [(value, model, "", False) for model, value in published.items()]
    ours = [] if own is None else [(own, f"{name}, {split} accuracy", interval(own, count), True)]
    order = sorted([*found, *ours], key=lambda line: (-line[0], not line[3]))
    lines = [{"name": line[1], "value": percent(line[0]), "interval": line[2], "own": line[3]} for line in order]
    return {"lines": lines if published else [], "split": split}


def percent(fraction: float | None) -> str:
    """A fraction in percent with two decimals."""
    return DASH if fraction is None else f"{100 * fraction:.2f}"


def interval(accuracy: float | None, rows: int) -> str:
    """Wilson's 95 % interval of an accuracy over `rows` rows, in percent."""
    if accuracy is None or rows == 0:
        return ""
    from scipy.stats import binomtest

    found = binomtest(round(accuracy * rows), rows).proportion_ci(method="wilson")
    return f"{100 * found.low:.2f} to {100 * found.high:.2f}"


def run_line(run: StudyRun, counts: Mapping[str, int], best: TrialRun | None) -> dict[str, Any]:
    """A run of a study in one line: its key, how many trials it completed, and its best trial's scores in percent.

    counts: trials by state.
    """
    metrics = best.metrics if best else {}
    scores = {n: percent(metrics.get(n)) for n in (OBJECTIVE, "best_val_accuracy", "test_macro_f1", "test_accuracy")}
    return {"key": run.key, "complete": counts.get(COMPLETE, 0), **scores}


def failures(trials: Sequence[TrialRun]) -> list[dict[str, Any]]:
    """The reasons of failed trials, the commonest first, each with the numbers of its trials."""
    failed = [t for t in trials if t.state == FAIL]
    groups: dict[str, list[int]] = {}
    for trial in failed:
        groups.setdefault(trial.tags.get("mmtune.reason", "no reason was kept").strip(), []).append(trial.number)
    return [
        {"reason": reason, "last": last_line(reason), "trials": numbers}
        for reason, numbers in sorted(groups.items(), key=lambda g: -len(g[1]))
    ]


def last_line(reason: str) -> str:
    """The line of a traceback that says what went wrong."""
    return reason.strip().rpartition("\n")[2][:200]


def title(trial: TrialRun, choices: Sequence[str]) -> str:
    """A trial by number and what sets it apart: `#4 kernel 3, norm l1-l2`."""
    names = short_names(choices)
    parts = [f"{names[p]} {shown(trial.params.get(p))}" for p in choices]
    return f"#{trial.number} {', '.join(parts) or trial.name}"

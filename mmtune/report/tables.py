"""The words and tables of a report: tracked runs to text, with no figure and no mark-up."""

from __future__ import annotations

import json
import re
import statistics
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mmtune.analysis.figures.look import DASH, is_number, shown
from mmtune.base.fields import short_names
from mmtune.networks.card import FINAL
from mmtune.report.intervals import Scored
from mmtune.study import StudyKey
from mmtune.tracking import COMPLETE, FAIL, INTERRUPTED, PRUNED, REASON, RUNNING, StudyRun, TrialRun
from mmtune.train.objective import KNOWN, MILLISECONDS_SPREAD, Metric, Objective
from mmtune.train.staging import WEIGHTS

STATES = {COMPLETE: "complete", PRUNED: "pruned", FAIL: "failed", RUNNING: "running", INTERRUPTED: "interrupted"}


def ranked(trials: Sequence[TrialRun], objective: Objective) -> list[TrialRun]:
    """Complete trials, the best by the first metric first, then pruned, failed, running; a tie to the lower number."""
    return sorted(trials, key=lambda t: (list(STATES).index(t.state), -objective.rank(t.metrics), t.number))


def tally(trials: Sequence[TrialRun]) -> dict[str, int]:
    """How many trials are in each state that occurs, in words."""
    counts = Counter(t.state for t in trials)
    return {word: counts[state] for state, word in STATES.items() if counts[state]}


def facts(study: StudyRun, trials: Sequence[TrialRun]) -> dict[str, str]:
    """What a colleague asks first, by name; what was never tracked is left out."""
    key, best = study.key, trials[0]
    tags = {**study.tags, **best.tags}
    parts = key.trainings
    seconds = parts * sum(t.metrics.get("fit_seconds", 0.0) for t in trials)
    # One that was stopped early may have trained fewer parts.
    most = "up to " * (parts > 1 and any(t.state == PRUNED for t in trials))
    # What is made of trained networks has trained nothing.
    trained = [f"{most}{duration(seconds)} of training in all"] if seconds else []
    found = {
        "Data": f"{key.data}, digest {key.digest[:12]}",
        "Data folder": tags.get("mmtune.data_dir", ""),
        "Budget": ", ".join([f"{key.epochs} epochs a trial", f"{len(trials)} trials", *trained]),
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
    except (ValueError, RecursionError):
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


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the leaderboard: of a choice, by its path, or of a metric, by its name, as scale * value."""

    heading: str
    name: str
    show: str = ""
    unit: str = ""
    scale: float = 1.0
    choice: bool = False
    numeric: bool = True

    def value(self, trial: TrialRun) -> Any:
        """What is shown of a trial, and what the column is sorted by."""
        if self.choice:
            return trial.params.get(self.name)
        if self.name == WEIGHTS:
            return int(trial.tags[WEIGHTS]) if trial.tags.get(WEIGHTS, "").isdecimal() else None
        return self.scale * trial.metrics[self.name] if self.name in trial.metrics else None

    def text(self, value: Any) -> str:
        """A value as it is shown."""
        return shown(value) if self.choice or value is None else format(value, self.show)


def share(heading: str, name: str) -> Column:
    """A column of a metric in percent."""
    return Column(heading=heading, name=name, show=".2f", unit="%", scale=100)


def metric_column(metric: Metric, name: str) -> Column:
    """A column of a metric, which a run has by that name."""
    if metric.is_share:
        return share(metric.label, name)
    units = {"loss": "nats", "milliseconds": "ms"}
    show = {"loss": ".4f", "parameters": ",.0f", "milliseconds": ".3g"}.get(metric.name, ".4g")
    return Column(heading=metric.label, name=name, show=show, unit=units.get(metric.name, ""))


def score_columns(objective: Objective) -> list[Column]:
    """What a trial is judged by, the metrics of the objective first, then what else it has come to."""
    asked = dict(zip(objective.names, objective.metrics, strict=True))
    asked |= {objective.at_best(KNOWN[name].curve): KNOWN[name] for name in VALIDATED}
    tested = dict.fromkeys((objective.first, KNOWN["macro_f1"], KNOWN["accuracy"]))
    return [
        Column(heading="best epoch", name="epoch_at_best", show=".0f"),
        *(metric_column(metric, name) for name, metric in asked.items()),
        *(replace(metric_column(own, f"test_{own.name}"), heading=f"test {own.words}") for own in tested),
        *(
            Column(heading=name, name=f"val_{name.lower()}", show=".3f")
            for name in ("ARI", "NMI", "purity", "silhouette")
        ),
        *(() if "parameters" in asked else (Column(heading="weights", name=WEIGHTS, show=",.0f"),)),
        Column(heading="time", name="fit_seconds", show=".1f", unit="s"),
    ]


VALIDATED = ("macro_f1", "accuracy", "loss", "balanced_accuracy", "auroc", "calibration_error")


TAGS = (REASON, WEIGHTS)
"""What a trial's tags say in the tables."""


def leaderboard_columns(trials: Sequence[TrialRun], choices: Sequence[str], objective: Objective) -> list[Column]:
    """Columns of what is searched for, of each choice that differs, and of the other scores that any trial has."""
    names = short_names(choices)
    given = {path: [t.params[path] for t in trials if t.params.get(path) is not None] for path in choices}
    own = [
        Column(heading=names[path], name=path, choice=True, numeric=all(map(is_number, given[path])))
        for path in choices
    ]
    scores = [column for column in score_columns(objective) if any(column.value(t) is not None for t in trials)]
    first = [column for column in scores if column.name in objective.names]
    return [*first, *own, *(column for column in scores if column not in first)]


def measured(
    best: TrialRun, objective: Objective, reported: Mapping[str, float], validates: Scored, test: Scored
) -> list[dict[str, Any]]:
    """Reported against measured, in percent, also of the weights of the last epoch where those were kept.

    Accuracy and macro-F1 have their 95 % intervals, Wilson's, over rows, where it is not known what is one piece of
    evidence, and a mean over folds or repeats the one that is tracked with it; others have none.
    """
    shares = [own.name for own in objective.metrics if own.is_share and own.validates]
    names = list(dict.fromkeys([*reported, "accuracy", "macro_f1", *shares]))
    weights: dict[str, tuple[Callable[[str], str], str]] = {"": (objective.at_best, "test")}
    if f"{FINAL}_val_accuracy" in best.metrics:
        weights[", last epoch"] = (f"{FINAL}_{{}}".format, f"{FINAL}_test")
    whole = [
        {
            "name": KNOWN[name].words + which if name in KNOWN else name + which,
            "reported": percent(reported.get(name)),
            **measured_on(validates, best, at(f"val_{name}"), reported.get(name), "" if which else name),
            **measured_on(test, best, f"{tested}_{name}", reported.get(name), "" if which else name),
        }
        for which, (at, tested) in weights.items()
        for name in names
    ]
    return [*whole, *(alone_line(best, bank, validates, test) for bank in banks_alone(best.metrics))]


def banks_alone(metrics: Mapping[str, float]) -> list[str]:
    """The banks of which a run tells how often they are right without the others."""
    found = [re.fullmatch("val_accuracy_(.+)_alone", name) for name in metrics]
    return sorted(own[1] for own in found if own)


def alone_line(best: TrialRun, bank: str, validates: Scored, test: Scored) -> dict[str, Any]:
    """The accuracy of what a bank says by itself, which is what is left where the others are missing."""
    name = f"accuracy_{bank}_alone"
    return {
        "name": f"accuracy, {bank} alone",
        "reported": percent(None),
        **measured_on(validates, best, f"val_{name}", None),
        **measured_on(test, best, f"test_{name}", None),
    }


def measured_on(on: Scored, best: TrialRun, name: str, paper: float | None, metric: str = "") -> dict[str, str]:
    """A metric on one split, its difference from the paper's in points, and its interval, as text.

    metric: what it is called among the split's own intervals.
    """
    value, low, high = (best.metrics.get(f"{name}{end}") for end in ("", "_low", "_high"))
    gap = None if value is None or paper is None else 100 * (value - paper)
    known = on.intervals.get(metric) if low is None or high is None else (low, high)
    # The balanced one is a mean over classes, of which Wilson's interval says nothing.
    of_rows = "accuracy" in name and "balanced" not in name and not name.endswith("_alone") and not on.units
    wilson = interval(value, on.rows) if of_rows else ""
    return {
        on.split: percent(value),
        f"{on.split}_gap": DASH if gap is None else signed(gap),
        f"{on.split}_interval": wilson if known is None or value is None else between(known),
    }


def between(interval: tuple[float, float]) -> str:
    """From where to where, in percent."""
    return f"{percent(interval[0])} to {percent(interval[1])}"


def signed(points: float) -> str:
    """Percentage points with their sign."""
    return f"{points:+.2f}".replace("-", "\N{MINUS SIGN}")


def published_table(
    best: TrialRun, key: StudyKey, published: Mapping[str, float], validates: Scored, test: Scored
) -> dict[str, Any]:
    """Published accuracies (shares) and this study's, on test rows if it was scored there, the highest first."""
    tested = "test_accuracy" in best.metrics
    name = "test_accuracy" if tested else key.objective.at_best("val_accuracy")
    own, low, high = (best.metrics.get(f"{name}{end}") for end in ("", "_low", "_high"))
    on = test if tested else validates
    found = [(value, model, "", False) for model, value in published.items()]
    known = on.intervals.get("accuracy") if low is None or high is None else (low, high)
    told = interval(own, on.rows) if known is None or own is None else between(known)
    ours = [] if own is None else [(own, f"{key.study}, {on.split} accuracy", told, True)]
    order = sorted([*found, *ours], key=lambda line: (-line[0], not line[3]))
    lines = [{"name": line[1], "value": percent(line[0]), "interval": line[2], "own": line[3]} for line in order]
    return {"lines": lines if published else [], "split": on.split}


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


def failures(trials: Sequence[TrialRun]) -> list[dict[str, Any]]:
    """The reasons of failed trials, the commonest first, each with the numbers of its trials."""
    failed = [t for t in trials if t.state == FAIL]
    groups: dict[str, list[int]] = {}
    for trial in failed:
        groups.setdefault(trial.tags.get(REASON, "no reason was kept").strip(), []).append(trial.number)
    return [
        {"reason": reason, "last": last_line(reason), "trials": numbers}
        for reason, numbers in sorted(groups.items(), key=lambda g: -len(g[1]))
    ]


def last_line(reason: str) -> str:
    """The line of a traceback that says what went wrong."""
    return reason.strip().rpartition("\n")[2][:200]


def spread_of(trials: Sequence[TrialRun]) -> str:
    """How far the middle half of a trial's answers lie apart, in milliseconds: the median over trials."""
    found = [t.metrics[MILLISECONDS_SPREAD] for t in trials if MILLISECONDS_SPREAD in t.metrics]
    return f"{statistics.median(found):.3g}" if found else DASH


def title(trial: TrialRun, choices: Sequence[str]) -> str:
    """A trial by number and what sets it apart: `#4 kernel 3, norm l1-l2`."""
    names = short_names(choices)
    parts = [f"{names[p]} {shown(trial.params.get(p))}" for p in choices]
    return f"#{trial.number} {', '.join(parts) or trial.name}"

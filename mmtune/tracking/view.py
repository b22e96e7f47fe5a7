"""What MLflow's UI shows of a study at first sight: its trials sorted by the objective, and their charts.

MLflow keeps such a view as a tag of the experiment and opens it by an address (MLflow 3.17: "share view"). A view
cannot be nested and sorted by a metric at once, so that the trials stand alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from mmtune.base.clock import milliseconds
from mmtune.study.key import StudyKey
from mmtune.tracking.runs import PARENT
from mmtune.train.objective import Objective

TAG = "mlflow.sharedViewState."
LONGEST = 5_000
CURVES = ("val_loss", "train_loss")
SHOWN = ("val_accuracy", "test_macro_f1")
COLUMN_WIDTH = 170
SECTION = {"isReordered": False, "deleted": False, "isGenerated": False}
MOST_CHOICES = 8
FACE = {"workflowType": "machine_learning"}


def view_key(key: StudyKey) -> str:
    """The name of a study's view in an address."""
    return f"{key.study}-{hashlib.sha256(key.slug.encode()).hexdigest()[:8]}"


def view_tag(key: StudyKey, parent: str, choices: Sequence[str]) -> tuple[str, str]:
    """The experiment's tag that keeps the view of a study: its name, its value. choices: the params that differ."""
    state: dict[str, Any] = {}
    # A value that MLflow would cut is no view at all, so that a study of very many choices shows the first of them.
    for most in range(min(MOST_CHOICES, len(choices)), -1, -1):
        state = {**table_state(parent, key.objective, choices[:most]), **chart_state(key.objective, choices[:most])}
        value = packed(key.title, state)
        if len(value) <= LONGEST:
            return TAG + view_key(key), value
    return TAG + view_key(key), packed(key.study, table_state(parent, key.objective, ()))


def address(page: str, experiment: str, key: StudyKey, charts: bool = False) -> str:
    """Where the UI shows a study's trials, as a table or as charts; `page` is its address, with a query if need be."""
    query = {**FACE, "viewStateShareKey": view_key(key), **({"compareRunsMode": "CHART"} if charts else {})}
    return f"{page if '?' in page else f'{page}/'}#/experiments/{experiment}/runs?{urlencode(query)}"


def packed(name: str, state: Mapping[str, Any]) -> str:
    """A view as MLflow's UI reads it."""
    now = milliseconds()
    text = json.dumps(state, separators=(",", ":")).encode()
    deflated = "deflate;" + base64.b64encode(zlib.compress(text, 9)).decode()
    return json.dumps({"name": name, "createdAt": now, "updatedAt": now, "state": deflated})


def table_state(parent: str, objective: Objective, choices: Sequence[str]) -> dict[str, Any]:
    """The trials of a study, the best first, with their scores and choices as columns."""
    shown = (objective.at_best(name) if name.startswith("val_") else name for name in SHOWN)
    metrics = [f"metrics.`{name}`" for name in dict.fromkeys((*objective.names, *shown))]
    columns = [*metrics, *(f"params.`{path}`" for path in choices)]
    return {
        "searchFilter": f"tags.{PARENT} = '{parent}'",
        "orderByKey": metrics[0],
        "orderByAsc": not objective.first.maximise,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": dict.fromkeys(columns, COLUMN_WIDTH),
        "runsHiddenMode": "SHOW_ALL",
    }


def chart_state(objective: Objective, choices: Sequence[str]) -> dict[str, Any]:
    """Where there are several metrics the first against the others; choices against the first; curves by epoch."""
    score, *others = ({"key": name, "type": "METRIC"} for name in objective.names)
    generated = {**SECTION, "isGenerated": True}
    line = {"scaleType": "linear", "xAxisScaleType": "linear", "lineSmoothness": 0, "xAxisKey": "step"}
    search: list[dict[str, Any]] = [
        *({"type": "SCATTER", "xaxis": other, "yaxis": score} for other in others),
        {
            "type": "PARALLEL",
            "selectedParams": list(choices),
            "selectedMetrics": list(objective.names),
            "showAllRuns": True,
        },
        {"type": "BAR", "metricKey": objective.name},
        *({"type": "SCATTER", "xaxis": {"key": path, "type": "PARAM"}, "yaxis": score} for path in choices),
    ]
    names = dict.fromkeys((objective.first.curve, *CURVES))
    curves = [{"type": "LINE", "metricKey": name, "selectedMetricKeys": [name], **line} for name in names]
    return {
        "compareRunCharts": [*placed("search", search), *placed("curves", curves)],
        "compareRunSections": [
            {"uuid": "search", "name": "Search", "display": True, **SECTION},
            {"uuid": "curves", "name": "Model metrics", "display": True, **generated},
            {"uuid": "system", "name": "System metrics", "display": False, **generated, "deleted": True},
        ],
        "hideEmptyCharts": True,
    }


def placed(section: str, charts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Charts in a section of the page."""
    own = {"metricSectionId": section, "runsCountToCompare": 100, "deleted": False, "isGenerated": False}
    return [{**own, "uuid": f"{section}-{number}", **chart} for number, chart in enumerate(charts)]

"""What mmtune tracks in MLflow's own words, within the limits of its stores."""

from __future__ import annotations

import getpass
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmtune.tracking.runs import divided
from mmtune.train.staging import Point

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric

# MLflow's limits of one request, and of what it keeps.
MOST_METRICS, MOST_OTHERS = 1_000, 100
LONGEST_NAME, LONGEST_PARAM, LONGEST_DIGEST = 250, 6_000, 36


@dataclass(frozen=True, kw_only=True)
class DataInput:
    """Rows of a data set that a run is made on. digest: of its content; use: "train", "validation" and so on.

    columns: by name, what MLflow calls their types.
    """

    name: str
    digest: str
    source: str
    rows: int
    use: str
    columns: Mapping[str, str]


def user() -> str:
    """Who runs this, as MLflow shows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def dataset_input(own: DataInput) -> DatasetInput:
    """MLflow's name for rows of a data set."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    columns = [{"name": name, "type": kind} for name, kind in own.columns.items()]
    dataset = Dataset(
        name=own.name,
        digest=own.digest[:LONGEST_DIGEST],
        source_type="local",
        source=json.dumps({"uri": own.source}),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps({"num_rows": own.rows}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", own.use)])


def metrics_of(point: Point) -> list[Metric]:
    """MLflow's metrics of a point; SQLite would store an infinity as 1.797e308, so that such a one is left out."""
    from mlflow.entities import Metric

    finite = {name: float(value) for name, value in point.metrics.items() if math.isfinite(value)}
    return [Metric(name, value, point.time, point.epoch) for name, value in finite.items()]


def fitting(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as every store takes them."""
    return {name: text for own, value in tags.items() for name, text in divided(own, value).items()}

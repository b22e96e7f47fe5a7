"""The tables of MLflow's SQL store that mmtune reads and writes by itself; a test holds them against MLflow's models.

Importing those models takes a second, which is most of what a reader of a store would wait for.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Float, Integer, String, column, select, table

EXPERIMENTS = table(
    "experiments",
    column("experiment_id", Integer),
    *(column(name, String) for name in ("name", "lifecycle_stage", "artifact_location")),
)
RUNS = table(
    "runs",
    *(column(name, String) for name in ("run_uuid", "name", "status", "lifecycle_stage", "artifact_uri")),
    *(column(name, String) for name in ("source_type", "source_name", "source_version", "entry_point_name", "user_id")),
    column("experiment_id", Integer),
    *(column(name, BigInteger) for name in ("start_time", "end_time")),
)
TAGS = table("tags", column("run_uuid", String), column("key", String), column("value", String))
PARAMS = table("params", column("run_uuid", String), column("key", String), column("value", String))
METRICS, LATEST_METRICS = (
    table(
        name,
        column("run_uuid", String),
        column("key", String),
        column("value", Float(precision=53)),
        column("timestamp", BigInteger),
        column("step", BigInteger),
        column("is_nan", Boolean),
    )
    for name in ("metrics", "latest_metrics")
)
# What every MLflow store answers, whatever is in it.
ANY_RUN = select(RUNS).join(TAGS, TAGS.c.run_uuid == RUNS.c.run_uuid).limit(1)

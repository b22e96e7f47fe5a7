"""What the machine is busy with while a study runs, as MLflow measures it, where MLflow's own variable asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from mmtune.base.errors import InputError
from mmtune.tracking.tracker import MlflowTracker

ASKED = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"


def require_monitor() -> bool:
    """Whether system metrics are asked for; InputError where they are and cannot be had."""
    asked = os.environ.get(ASKED, "").lower() in ("true", "1")
    if asked and find_spec("psutil") is None:
        raise InputError(f"{ASKED} must be unset where psutil is not installed: pip install psutil")
    return asked


@contextmanager
def system_metrics(tracker: MlflowTracker, run_id: str) -> Iterator[None]:
    """Add processor, memory, disk, network and GPU use of this machine to a run, every ten seconds, if asked for."""
    if not require_monitor():
        yield
        return
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    monitor = SystemMetricsMonitor(run_id, resume_logging=True, tracking_uri=tracker.uri)
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()

"""MLflow in, MLflow out: a parent run for a study, a child run for each trial."""

from mmtune.tracking.address import kept_in, tracking_database
from mmtune.tracking.courier import Tally, delivering, sync
from mmtune.tracking.runs import (
    COMPLETE,
    FAIL,
    INTERRUPTED,
    OBJECTIVE,
    PRUNED,
    RUN_STATUS,
    RUNNING,
    UNIT,
    StudyRun,
    TrialRun,
    best_trial,
    trial_run,
)
from mmtune.tracking.spool import Entry, Spool, read_spool
from mmtune.tracking.store import store_at
from mmtune.tracking.tracker import MlflowTracker

__all__ = [
    "COMPLETE",
    "FAIL",
    "INTERRUPTED",
    "OBJECTIVE",
    "PRUNED",
    "RUNNING",
    "RUN_STATUS",
    "UNIT",
    "Entry",
    "MlflowTracker",
    "Spool",
    "StudyRun",
    "Tally",
    "TrialRun",
    "best_trial",
    "delivering",
    "kept_in",
    "read_spool",
    "store_at",
    "sync",
    "tracking_database",
    "trial_run",
]

"""MLflow in, MLflow out: a parent run for a study, a child run for each trial."""

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
from mmtune.tracking.store import DATABASE, has_store, open_client, store_uri
from mmtune.tracking.tracker import MlflowTracker

__all__ = [
    "COMPLETE",
    "DATABASE",
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
    "has_store",
    "open_client",
    "read_spool",
    "store_uri",
    "sync",
    "trial_run",
]

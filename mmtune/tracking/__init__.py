"""MLflow in, MLflow out: a parent run for a study, a child run for each trial."""

from mmtune.tracking.heartbeat import Heartbeat, TakenOverError
from mmtune.tracking.recorder import Recorder
from mmtune.tracking.runs import (
    COMPLETE,
    FAIL,
    INTERRUPTED,
    LOST,
    OBJECTIVE,
    OWNER,
    PARENT,
    PRUNED,
    RUNNING,
    STATUS,
    UNIT,
    StudyRun,
    TrialRun,
    best_trial,
    trial_run,
)
from mmtune.tracking.store import exists
from mmtune.tracking.tracker import MlflowTracker

__all__ = [
    "COMPLETE",
    "FAIL",
    "INTERRUPTED",
    "LOST",
    "OBJECTIVE",
    "OWNER",
    "PARENT",
    "PRUNED",
    "RUNNING",
    "STATUS",
    "UNIT",
    "Heartbeat",
    "MlflowTracker",
    "Recorder",
    "StudyRun",
    "TakenOverError",
    "TrialRun",
    "best_trial",
    "exists",
    "trial_run",
]

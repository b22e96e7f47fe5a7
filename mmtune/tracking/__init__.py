"""MLflow in, MLflow out: a parent run for a study, a child run for each trial."""

from mmtune.tracking.entities import DataInput
from mmtune.tracking.heartbeat import Heartbeat, TakenOverError
from mmtune.tracking.notes import NOTE, study_note
from mmtune.tracking.recorder import Recorder
from mmtune.tracking.runs import (
    CLASSES,
    COMPLETE,
    FAIL,
    INTERRUPTED,
    LOST,
    MISSING,
    OWNER,
    PARENT,
    PRUNED,
    REASON,
    REMOVED,
    RUNNING,
    STATUS,
    UNIT,
    StudyRun,
    TrialRun,
    best_trial,
    front_trials,
    of_key,
)
from mmtune.tracking.store import exists
from mmtune.tracking.tracker import MlflowTracker
from mmtune.tracking.view import address, view_tag

__all__ = [
    "CLASSES",
    "COMPLETE",
    "FAIL",
    "INTERRUPTED",
    "LOST",
    "MISSING",
    "NOTE",
    "OWNER",
    "PARENT",
    "PRUNED",
    "REASON",
    "REMOVED",
    "RUNNING",
    "STATUS",
    "UNIT",
    "DataInput",
    "Heartbeat",
    "MlflowTracker",
    "Recorder",
    "StudyRun",
    "TakenOverError",
    "TrialRun",
    "address",
    "best_trial",
    "exists",
    "front_trials",
    "of_key",
    "study_note",
    "view_tag",
]

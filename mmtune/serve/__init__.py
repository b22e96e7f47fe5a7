"""From a study's best trial to digits: the registry that promotes it, and predictors, which check all that comes in.

The names below are imported when they are first used: who predicts, as MLflow's scoring server does, needs no MLflow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmtune.serve.predictor import Prediction as Prediction
    from mmtune.serve.predictor import Predictor as Predictor
    from mmtune.serve.predictor import describe as describe
    from mmtune.serve.predictor import predict_files as predict_files
    from mmtune.serve.predictor import predict_partition as predict_partition
    from mmtune.serve.predictor import write_submission as write_submission
    from mmtune.serve.promotion import Promotion as Promotion
    from mmtune.serve.promotion import VersionRecord as VersionRecord
    from mmtune.serve.promotion import champion_folder as champion_folder
    from mmtune.serve.promotion import history as history
    from mmtune.serve.promotion import promote as promote
    from mmtune.serve.promotion import rollback as rollback

HOMES = {
    "predictor": ("Prediction", "Predictor", "describe", "predict_files", "predict_partition", "write_submission"),
    "promotion": ("Promotion", "VersionRecord", "champion_folder", "history", "promote", "rollback"),
}


def __getattr__(name: str) -> Any:
    for module, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(name for names in HOMES.values() for name in names)

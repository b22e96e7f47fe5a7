"""Trained encoders that another study starts from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmtune.base.errors import InputError
from mmtune.base.fields import replace_path
from mmtune.networks.card import read_card
from mmtune.networks.kinds import model_from_json
from mmtune.study import Study, load_study
from mmtune.study.key import ENSEMBLE
from mmtune.study.options import Options
from mmtune.tracking import MlflowTracker, TrialRun, best_trial
from mmtune.train.objective import objective_of
from mmtune.train.recipe import TrialConfig


def needed_encoders(study: Study, base: TrialConfig, options: Options) -> Mapping[str, str]:
    """By bank, the study whose best model this one starts from; none where it trains from fresh weights.

    Raises InputError where the options fix what such an encoder decides, or hold out what it has seen.
    """
    needed = study.encoders if getattr(base.model, "frozen", False) else {}
    if needed and options.folds:
        raise InputError(
            f"--folds must be 0 where {study.name} starts from trained encoders, got {options.folds}: they have seen "
            "what a fold holds out; use --fix encoders=joint"
        )
    for path in options.fixed:
        if any(path.startswith(f"model.{bank}.") for bank in needed):
            raise InputError(f"{path} is decided by the trained encoder; fix it with --fix encoders=joint, or there")
    return needed


def best_encoder(tracker: MlflowTracker, study: str, digest: str, protocol: str, options: Options) -> TrialRun | None:
    """The best tracked trial of a finished study on the same data, protocol and seed, whatever its budget.

    The same seed means the same split: no validation row was trained on. A cross-validation trains on other rows,
    and the report's own configuration starts from the report's own encoders, of which nobody fixed a choice, so those
    are kept apart.
    """
    objective = objective_of(load_study(study).objective)
    same = [
        run
        for run in tracker.studies(study)
        if (run.key.digest, run.key.protocol, run.key.seed) == (digest, protocol, options.seed)
        and (run.key.objective, run.key.folds) == (objective, 0)
        and (options.sampler != "reported" or (run.key.sampler == "reported" and not run.key.fixed))
        and run.status == "FINISHED"
        and run.key.sampler != ENSEMBLE
    ]
    return best_trial((best for run in same if (best := tracker.best(run.run_id, objective))), objective)


def with_encoders(base: TrialConfig, folders: Mapping[str, Path]) -> TrialConfig:
    """The configuration of a fusion model with the architectures of the encoders in `folders`."""
    for bank, folder in folders.items():
        base = replace_path(base, f"model.{bank}", model_from_json(read_card(folder)["model"]))
    return base

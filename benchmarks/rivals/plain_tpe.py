"""The plain loop of `benchmarks.plain` over TPE's draws: no pruning, a loader, a model logged for each trial."""

from __future__ import annotations

from pathlib import Path

import mlflow
import optuna
import torch

from benchmarks.plain import plain_trial, tensors
from benchmarks.rivals.asked import COMPLETE, PROTOCOL, Asked, flat, leave
from benchmarks.rivals.data import set_up
from benchmarks.rivals.training import Journal
from mmtune.data.protocols import split
from mmtune.data.storage.store import load
from mmtune.tune.search import derive_seed


def search(asked: Asked) -> None:
    """The whole search, with all threads on one trial at a time; one that is cut short begins anew."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    set_up(asked)
    partition = load(Path(asked.data)).train
    train, validation = tensors(asked.base, partition, split(partition, PROTOCOL, asked.seed))

    def objective(trial: optuna.Trial) -> float:
        values = asked.suggest(trial)
        config, journal = asked.config(values), Journal(asked, str(trial.number), values)
        with mlflow.start_run():
            mlflow.log_params(flat(config))
            seed = derive_seed(asked.seed, trial.number)
            model, best = plain_trial(config, train, validation, "cpu", seed, journal.epoch)
            requirements = [f"torch=={torch.__version__}"]
            mlflow.pytorch.log_model(model, name="model", pip_requirements=requirements, serialization_format="pickle")
        return best

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=asked.seed))
    study.optimize(objective, n_trials=asked.trials)
    leave(asked, {str(trial.number): COMPLETE for trial in study.trials})

"""The rows of a search as a rival has them, and MLflow as it sets it up."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.rivals.asked import PROTOCOL, Asked, flat
from benchmarks.rivals.training import Data, Tensors, best_trial, saved
from mmtune.data.protocols import split
from mmtune.data.storage.store import load
from mmtune.train.recipe import TrialConfig

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "search"


def resident(asked: Asked) -> Data:
    """Training and validation rows as tensors."""
    from benchmarks.plain import tensors

    partition = load(Path(asked.data)).train
    train, validation = tensors(asked.base, partition, split(partition, PROTOCOL, asked.seed))
    return Data(train=train.tensors, validation=validation.tensors)


def held_out(asked: Asked) -> Tensors:
    """The rows of the test partition as tensors."""
    from benchmarks.plain import reading

    dataset = load(Path(asked.data))
    test = dataset.require_test()
    read = reading(asked.base, dataset.train, split(dataset.train, PROTOCOL, asked.seed))
    return read(test, np.arange(len(test))).tensors


def set_up(asked: Asked) -> str:
    """Make MLflow's store and experiment if there are none, and use them; the experiment's id."""
    import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(asked.tracking_uri)
    found = mlflow.get_experiment_by_name(EXPERIMENT)
    artifacts = (asked.folder / "artifacts").as_uri()
    own = found.experiment_id if found else mlflow.create_experiment(EXPERIMENT, artifacts)
    mlflow.set_experiment(experiment_id=own)
    return str(own)


def log_best(asked: Asked) -> None:
    """Log the best trial's model in MLflow's own format, from its weights, with its requirements given."""
    import mlflow

    model, config = saved(asked, best_trial(asked.folder))
    with mlflow.start_run(run_name="best"):
        mlflow.log_params(flat(config))
        requirements = [f"torch=={torch.__version__}"]
        mlflow.pytorch.log_model(model, name="model", pip_requirements=requirements, serialization_format="pickle")


class Runs:
    """One MLflow run a trial, by a client, for a tool whose driver hears of all trials."""

    def __init__(self, client: MlflowClient, experiment: str) -> None:
        self.client, self.experiment = client, experiment
        self.ids: dict[str, str] = {}

    def begin(self, trial: str, config: TrialConfig) -> None:
        """A trial has begun."""
        from mlflow.entities import Param

        self.ids[trial] = self.client.create_run(self.experiment, run_name=trial).info.run_id
        self.client.log_batch(self.ids[trial], params=[Param(key, str(value)) for key, value in flat(config).items()])

    def epoch(self, trial: str, epoch: int, scores: Mapping[str, float]) -> None:
        """A trial has an epoch more."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [Metric(name, value, now, epoch) for name, value in scores.items()]
        self.client.log_batch(self.ids[trial], metrics=points)

    def end(self, trial: str) -> None:
        """A trial has ended."""
        self.client.set_terminated(self.ids[trial])

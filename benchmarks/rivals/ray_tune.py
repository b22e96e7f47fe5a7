"""Ray Tune: OptunaSearch over a define-by-run space, ASHA, MLflow by Ray's own callback, one core a trial.

Actors are used again from trial to trial, the rows are arrays in Ray's object store that every worker reads in place,
and of Ray's other loggers none is on. A search that was cut short is restored as the documentation says; its unfinished
trials begin anew, as a checkpoint an epoch would cost more than it saves here.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.rivals.asked import COMPLETE, PRUNED, RUNNING, SCORE, Asked, cores, leave
from benchmarks.rivals.data import EXPERIMENT, log_best, resident, set_up

if TYPE_CHECKING:
    import optuna

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TQDM": "0",
}
NUMBER = "number"


def search(asked: Asked) -> None:
    """The whole search, or what is missing of it."""
    os.environ |= QUIET
    import ray
    from ray import tune

    set_up(asked)
    ray.init(address="local", num_cpus=cores(), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    rows = resident(asked)
    arrays = {name: tuple(tensor.numpy() for tensor in getattr(rows, name)) for name in ("train", "validation")}
    trainable = tune.with_resources(tune.with_parameters(one, told=asked.to_json(), arrays=arrays), {"cpu": 1})
    folder = asked.folder / "ray" / EXPERIMENT
    if tune.Tuner.can_restore(str(folder)):
        tuner = tune.Tuner.restore(str(folder), trainable=trainable, resume_unfinished=True, restart_errored=True)
    else:
        tuner = fresh(asked, trainable)
    found = tuner.fit()
    log_best(asked)
    leave(asked, dict(state_of(result, asked.epochs) for result in found))
    ray.shutdown()


def fresh(asked: Asked, trainable: Any) -> Any:
    """A tuner that begins with nothing."""
    import optuna
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    space = partial(suggest, told=asked.to_json())
    sampler = optuna.samplers.TPESampler(seed=asked.seed)
    halving = ASHAScheduler(time_attr="training_iteration", max_t=asked.epochs, grace_period=1, reduction_factor=3)
    tracked = MLflowLoggerCallback(tracking_uri=asked.tracking_uri, experiment_name=EXPERIMENT)
    return tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric=SCORE,
            mode="max",
            search_alg=OptunaSearch(space, metric=SCORE, mode="max", sampler=sampler),
            scheduler=halving,
            num_samples=asked.trials,
            max_concurrent_trials=cores(),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=EXPERIMENT, storage_path=str(asked.folder / "ray"), callbacks=[tracked], verbose=0
        ),
    )


def suggest(trial: optuna.Trial, told: str) -> dict[str, Any]:
    """Draw a trial's values; what is returned beside them reaches the trial as a constant."""
    Asked.read(told).suggest(trial)
    return {NUMBER: trial.number}


def one(config: dict[str, Any], told: str, arrays: dict[str, tuple[Any, ...]]) -> None:
    """One trial, in a worker of Ray's."""
    import warnings

    import torch
    from ray import tune

    from benchmarks.rivals.training import Data, Journal, train
    from mmtune.tune.search import derive_seed

    torch.set_num_threads(1)
    with warnings.catch_warnings(action="ignore"):  # arrays in the object store cannot be written to, and none is
        data = Data(**{name: tuple(map(torch.from_numpy, own)) for name, own in arrays.items()})
    asked, number = Asked.read(told), config[NUMBER]
    values = {path: value for path, value in config.items() if path != NUMBER}

    def on_epoch(epoch: int, scores: Any) -> bool:
        tune.report(dict(scores))
        return True

    journal = Journal(asked, str(number), values)
    train(asked.config(values), data, derive_seed(asked.seed, number), journal, on_epoch)


def state_of(result: Any, epochs: int) -> tuple[str, str]:
    """A trial's number, and how Ray has it: one that stopped before its last epoch was pruned."""
    metrics = result.metrics or {}
    number = str((result.config or {})[NUMBER])
    if result.error is not None or "training_iteration" not in metrics:
        return number, RUNNING if result.error is None else "FAIL"
    return number, COMPLETE if metrics["training_iteration"] >= epochs else PRUNED

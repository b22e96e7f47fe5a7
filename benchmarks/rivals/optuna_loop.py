"""Optuna's own loop over one JournalStorage file: TPE, successive halving, and as many processes as are asked for.

One process has all threads on one trial. Of two or more each has one thread, as if the script were started so often
side by side; they share the file and MLflow's store. Trials that a kill has left RUNNING stay so: JournalStorage has no
heartbeat by which another process could tell. A script that is started again goes on to the trials that are missing.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Collection, Mapping

import mlflow
import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from benchmarks.rivals.asked import SCORE, Asked, cores, flat, leave
from benchmarks.rivals.data import log_best, resident, set_up
from benchmarks.rivals.training import Journal, train
from mmtune.tune.search import derive_seed

NAME = "search"
ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


def search(asked: Asked, processes: int = 1) -> None:
    """The whole search, or what is missing of it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    set_up(asked)
    study = opened(asked, 0)
    stale = [trial.number for trial in study.get_trials(states=(TrialState.RUNNING,))]
    # One starts with another state of its sampler, or all would draw the same.
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=work, args=(asked, n, processes, stale)) for n in range(1, processes)]
    for other in others:
        other.start()
    work(asked, 0, processes, stale)
    for other in others:
        other.join()
        if other.exitcode:
            raise RuntimeError(f"a process of the search ended with code {other.exitcode}")
    log_best(asked)
    leave(asked, {str(trial.number): trial.state.name for trial in study.trials})


def opened(asked: Asked, number: int) -> optuna.Study:
    """The study in its file, which is made if there is none."""
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(asked.folder / "optuna.log"))),
        study_name=NAME,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=asked.seed + 1000 * number),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3),
        load_if_exists=True,
    )


def work(asked: Asked, number: int, processes: int, stale: Collection[int]) -> None:
    """One process of a search."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1 if processes > 1 else cores())
    if number:
        set_up(asked)
    data, study = resident(asked), opened(asked, number)

    def objective(trial: optuna.Trial) -> float:
        values = asked.suggest(trial)
        config, journal = asked.config(values), Journal(asked, str(trial.number), values)

        pruned = False

        def on_epoch(epoch: int, scores: Mapping[str, float]) -> bool:
            nonlocal pruned
            mlflow.log_metrics(dict(scores), step=epoch)
            trial.report(scores[SCORE], epoch)
            # The pruner answers once for a rung, and nothing is saved after the last epoch.
            pruned = epoch < asked.epochs and trial.should_prune()
            return not pruned

        with mlflow.start_run():
            mlflow.log_params(flat(config))
            best = train(config, data, derive_seed(asked.seed, trial.number), journal, on_epoch)
        if pruned:
            raise optuna.TrialPruned
        return best

    def enough(study: optuna.Study, ended: optuna.trial.FrozenTrial) -> None:
        if left(study, asked, stale) <= 0:
            study.stop()

    if left(study, asked, stale) > 0:
        study.optimize(objective, callbacks=[enough])


def left(study: optuna.Study, asked: Asked, stale: Collection[int]) -> int:
    """How many trials are yet to begin: those of other processes that are under way will end."""
    found = study.get_trials(deepcopy=False)
    under_way = sum(trial.state == TrialState.RUNNING and trial.number not in stale for trial in found)
    return asked.trials - under_way - sum(trial.state in ENDED for trial in found)

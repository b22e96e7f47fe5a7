"""Syne Tune: ASHA whose draws BORE makes, on the local backend, one process a trial.

Its driver hears of every epoch and tells MLflow, which spares each trial the import. The rows are written once as
tensors that trials map into memory. An experiment that was cut short begins anew: a tuner is not gone on with.
`python syne.py` with the backend's arguments is one trial.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
ROWS = "rows.pt"
SLEEP = 0.2
"""Seconds between two looks at the trials; the usual 5 are for trials of hours."""


def search(asked: Any) -> None:
    """The whole search."""
    os.environ["SYNETUNE_FOLDER"] = str(asked.folder / "syne")
    import mlflow
    import torch
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend import LocalBackend
    from syne_tune.optimizer.baselines import ASHABORE

    from benchmarks.rivals.asked import SCORE, cores, leave
    from benchmarks.rivals.data import log_best, resident, set_up
    from mmtune.tune.search import derive_seed

    logging.getLogger("syne_tune").setLevel(logging.ERROR)
    experiment, rows = set_up(asked), resident(asked)
    seeds = [derive_seed(asked.seed, number) for number in range(10 * asked.trials)]
    torch.save({"train": rows.train, "validation": rows.validation, "seeds": seeds}, asked.folder / ROWS)
    space = {**{choice.path: domain(choice) for choice in asked.space}, "asked": asked.to_json()}
    scheduler = ASHABORE(
        config_space=space,
        metric=SCORE,
        time_attr="epoch",
        max_t=asked.epochs,
        do_minimize=False,
        random_seed=asked.seed,
    )
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    callback = tracking(asked, mlflow.MlflowClient(), experiment)
    tuner = Tuner(
        trial_backend=LocalBackend(entry_point=__file__, pass_args_as_json=True, rotate_gpus=False),
        scheduler=scheduler,
        # It stops when there are more, and then those under way are waited for.
        stop_criterion=StoppingCriterion(max_num_trials_started=asked.trials - 1),
        wait_trial_completion_when_stopping=True,
        n_workers=cores(),
        sleep_time=SLEEP,
        callbacks=[callback],
        save_tuner=False,
    )
    tuner.run()
    callback.close()
    log_best(asked)
    leave(asked, callback.states)


def domain(choice: Any) -> Any:
    """A choice in Syne Tune's terms."""
    from syne_tune.config_space import choice as one_of
    from syne_tune.config_space import lograndint, loguniform, randint, uniform

    from mmtune.study.space import Categorical, Integer

    if isinstance(choice, Categorical):
        return one_of(list(choice.values))
    if isinstance(choice, Integer):
        return (lograndint if choice.log else randint)(choice.low, choice.high)
    return (loguniform if choice.log else uniform)(choice.low, choice.high)


def tracking(asked: Any, client: Any, experiment: str) -> Any:
    """What tells MLflow of every trial and every epoch."""
    from syne_tune.tuner_callback import TunerCallback

    from benchmarks.rivals.asked import COMPLETE, PRUNED, RUNNING
    from benchmarks.rivals.data import Runs

    class Tracking(TunerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.runs = Runs(client, experiment)
            self.states: dict[str, str] = {}

        def on_start_trial(self, trial: Any) -> None:
            self.states[str(trial.trial_id)] = RUNNING
            config = asked.config(asked.values(lambda choice: trial.config[choice.path]))
            self.runs.begin(str(trial.trial_id), config)

        def on_trial_result(self, trial: Any, status: str, result: dict[str, Any], decision: str) -> None:
            scores = {name: value for name, value in result.items() if name.startswith(("val_", "train_"))}
            self.runs.epoch(str(trial.trial_id), int(result["epoch"]), scores)
            if decision != "CONTINUE":
                self.end(trial, PRUNED if result["epoch"] < asked.epochs else COMPLETE)

        def on_trial_complete(self, trial: Any, result: dict[str, Any]) -> None:
            self.end(trial, COMPLETE)

        def end(self, trial: Any, state: str) -> None:
            name = str(trial.trial_id)
            if self.states[name] == RUNNING:
                self.states[name] = state
                self.runs.end(name)

        def close(self) -> None:
            """End those that the tuner itself has cut short, having enough."""
            for name, state in self.states.items():
                if state == RUNNING:
                    self.states[name] = PRUNED
                    self.runs.end(name)

    return Tracking()


def trial() -> None:
    """One trial, as the backend starts it."""
    import torch
    from syne_tune import Reporter

    from benchmarks.rivals.asked import Asked
    from benchmarks.rivals.training import Data, Journal, train

    parser = argparse.ArgumentParser()
    parser.add_argument("--st_config_json_filename", type=Path, required=True)
    parser.add_argument("--st_checkpoint_dir", type=Path, required=True)
    given = parser.parse_args()
    told = json.loads(given.st_config_json_filename.read_text())
    number, asked, report = int(given.st_checkpoint_dir.parent.name), Asked.read(told["asked"]), Reporter()
    torch.set_num_threads(1)
    rows = torch.load(asked.folder / ROWS, mmap=True)
    values = asked.values(lambda choice: told[choice.path])

    def on_epoch(epoch: int, scores: Any) -> bool:
        report(epoch=epoch, **scores)
        return True

    data = Data(train=tuple(rows["train"]), validation=tuple(rows["validation"]))
    train(asked.config(values), data, rows["seeds"][number], Journal(asked, str(number), values), on_epoch)


if __name__ == "__main__":
    # Beside this file stand modules whose names are those of packages.
    sys.path = [path for path in sys.path if Path(path).resolve() != Path(__file__).parent.resolve()]
    trial()

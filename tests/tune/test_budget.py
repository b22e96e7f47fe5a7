"""What ends a study early: a goal, no progress, or time; each is said, and the same command goes on."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from here import here
from rich.console import Console

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.study import load_study
from mmtune.study.options import Options
from mmtune.study.space import Categorical, Real
from mmtune.tracking import COMPLETE, MlflowTracker, TrialRun
from mmtune.train.objective import MACRO_F1, Objective, objective_of
from mmtune.tune.budget import CLOSING_SECONDS, Budget
from mmtune.tune.run import Outcome, run_study

SMALL = replace(
    load_study("audio_rnn"),
    name="small",
    grid=None,
    space=(Real(path="train.learning_rate", low=1e-3, high=3e-2, log=True),),
)


def ran(tiny: Dataset, store: Path, **options: Any) -> tuple[Outcome, str]:
    """The study, one trial at a time, and what it printed."""
    out = StringIO()
    made = Options(**{"epochs": 2, "device": "cpu", "sampler": "random", "prune": False, **options})
    outcome = run_study(SMALL, tiny, made, store, Console(file=out, width=1000), make_pool=here(tiny))
    assert outcome is not None
    return outcome, out.getvalue()


def scores_of(store: Path, outcome: Outcome) -> list[float]:
    """Of its complete trials, by number."""
    tracker = MlflowTracker(store)
    parent = tracker.study(outcome.key)
    assert parent is not None
    trials: list[TrialRun] = sorted(tracker.trials(parent.run_id), key=lambda own: own.number)
    return [own.metrics[outcome.key.objective.name] for own in trials if own.state == COMPLETE]


def test_a_study_ends_with_the_first_trial_that_is_good_enough(tiny: Dataset, store: Path) -> None:
    all_of_them, _ = ran(tiny, store / "all", trials=6)
    scores = scores_of(store / "all", all_of_them)
    goal = sorted(scores)[3]
    first = next(index for index, score in enumerate(scores) if score >= goal)
    outcome, told = ran(tiny, store / "some", until=f"val_macro_f1={goal!r}")
    assert scores_of(store / "some", outcome) == scores[: first + 1]
    assert (outcome.finished, outcome.trials) == (False, first + 1)
    assert f"trial {first:02d} has val macro-F1" in outcome.ended
    assert told.startswith("small: trials of 2 epochs")
    # Asked again there is nothing to do; asked for more it goes on.
    again, _ = ran(tiny, store / "some", until=f"val_macro_f1={goal!r}")
    assert again.ended == outcome.ended
    assert scores_of(store / "some", again) == scores[: first + 1]
    more, _ = ran(tiny, store / "some", trials=6)
    assert (scores_of(store / "some", more), more.finished, more.ended) == (scores, True, "")


def test_a_study_ends_when_it_gets_no_better(tiny: Dataset, store: Path) -> None:
    outcome, _ = ran(tiny, store, patience=2)
    scores = scores_of(store, outcome)
    best = scores.index(max(scores))
    assert len(scores) == best + 3
    assert outcome.ended == "2 trials after the best were no better"
    assert outcome.best is not None
    assert outcome.best.number == best


def test_a_share_above_one_is_never_reached_and_refused() -> None:
    with pytest.raises(InputError, match=r"--until val_macro_f1 must be a share from 0 to 1 such as \.99, got 99"):
        Budget(Options(until="val_macro_f1=99"), MACRO_F1, 0.0)


def test_patience_counts_the_same_in_whatever_order_trials_end() -> None:
    scores = [0.5, 0.9, 0.7, 0.9, None, 0.6]
    told = set()
    for order in itertools.permutations(range(len(scores))):
        budget = Budget(Options(patience=4), MACRO_F1, 0.0)
        for index in order:
            own = scores[index]
            budget.note(index, () if own is None else (own,))
        told.add(budget.over())
    assert told == {"4 trials after the best were no better"}


def test_the_number_of_trials_still_ends_it(tiny: Dataset, store: Path) -> None:
    outcome, told = ran(tiny, store, trials=2, patience=50, hours=10)
    assert (outcome.finished, outcome.ended, outcome.trials) == (True, "", 2)
    assert "--hours 10 , --patience" not in told
    assert "2 trials of 2 epochs" in told


def test_time_ends_it_and_the_same_command_goes_on(tiny: Dataset, store: Path) -> None:
    outcome, _ = ran(tiny, store, hours=1e-6)
    assert outcome.ended == "--hours 1e-06 are over"
    assert (outcome.finished, outcome.best) == (False, None)
    more, _ = ran(tiny, store, trials=2)
    assert (more.finished, len(scores_of(store, more))) == (True, 2)


def test_without_time_for_another_trial_none_begins(tiny: Dataset) -> None:
    budget = Budget(Options(hours=1), MACRO_F1, began=0.0)
    budget.deadline = math.inf
    assert budget.admits(1e9)
    budget.deadline = 0.0
    assert not budget.admits(0.0)
    assert budget.ended() == "--hours 1 are over"


def test_of_an_hour_some_seconds_are_kept_for_the_end_and_of_a_minute_fewer() -> None:
    hour, minute = (Budget(Options(hours=hours), MACRO_F1, began=7.0) for hours in (1.0, 1 / 60))
    assert hour.deadline == 7 + 3600 - CLOSING_SECONDS
    assert minute.deadline == 7 + 60 - 6


def test_the_minutes_of_a_trial_are_its_recipes_seconds() -> None:
    made = Options(trial_minutes=5, fixed={"model.hidden": 8}).with_seconds()
    assert made.fixed == {"model.hidden": 8, "train.seconds": 300.0}
    with pytest.raises(InputError, match=r"--trial-minutes fixes train\.seconds, which --fix must then leave alone"):
        Options(trial_minutes=5, fixed={"train.seconds": 1.0}).with_seconds()
    # It is in the names of files: 60 times 5.49 is 329.40000000000003.
    assert Options(trial_minutes=5.49).with_seconds().fixed == {"train.seconds": 329.4}


@pytest.mark.parametrize(
    ("objective", "text", "scores", "reached"),
    [
        (MACRO_F1, "val_macro_f1=.9", (0.9,), True),
        (MACRO_F1, "best_val_macro_f1=.9", (0.89,), False),
        (objective_of("loss"), "loss=.5", (0.4,), True),
        (objective_of("loss"), "val_loss=.5", (0.6,), False),
        (objective_of(("macro_f1", "parameters")), "parameters=1000", (0.1, 900.0), True),
        (objective_of(("macro_f1", "parameters")), "parameters=1000", (0.9, 1100.0), False),
    ],
)
def test_a_goal_is_of_the_studys_own_metrics(
    objective: Objective, text: str, scores: tuple[float, ...], reached: bool
) -> None:
    budget = Budget(Options(until=text), objective, began=0.0)
    budget.note(0, scores)
    assert bool(budget.over()) == reached


def test_a_goal_of_another_metric_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="--until must name what the study searches for, val_macro_f1, got 'accuracy'"):
        Budget(Options(until="accuracy=.9"), MACRO_F1, began=0.0)


def test_where_no_number_of_trials_ends_a_study_many_failures_in_a_row_do(tiny: Dataset) -> None:
    endless, counted = (
        Budget(Options(until="macro_f1=1", trials=trials), MACRO_F1, began=0.0) for trials in (None, 50)
    )
    for index in range(10):
        assert not endless.over()
        for own in (endless, counted):
            own.note(index, (), failed=True)
    assert endless.over() == "10 trials in a row failed"
    assert not counted.over()


def test_of_listed_values_no_more_trials_are_made_than_there_are(tiny: Dataset, store: Path) -> None:
    space = (Categorical(path="model.hidden", values=(2, 4, 8)),)
    options = Options(epochs=1, device="cpu", sampler="tpe", prune=False, patience=50)
    outcome = run_study(replace(SMALL, space=space), tiny, options, store, Console(quiet=True), make_pool=here(tiny))
    assert outcome is not None
    assert (outcome.trials, outcome.finished) == (3, True)

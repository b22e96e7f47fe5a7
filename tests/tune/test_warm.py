"""A warm start: what did well before comes first, as far as it fits."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from here import here
from rich.console import Console

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.study import Study, load_study
from mmtune.study.options import Options
from mmtune.study.space import Categorical, Integer, Real
from mmtune.tracking import COMPLETE, MlflowTracker, TrialRun
from mmtune.tracking.runs import drawn_values
from mmtune.tune.run import Outcome, run_study
from mmtune.tune.warm import completed

RATE = Real(path="train.learning_rate", low=1e-3, high=3e-2, log=True)
SMALL = replace(
    load_study("audio_rnn"),
    name="small",
    grid=None,
    space=(Categorical(path="model.hidden", values=(4, 8, 16)), RATE),
)


def ran(study: Study, tiny: Dataset, store: Path, **options: Any) -> Outcome:
    made = Options(**{"epochs": 1, "device": "cpu", "sampler": "random", "prune": False, "trials": 6, **options})
    outcome = run_study(study, tiny, made, store, Console(file=StringIO()), make_pool=here(tiny))
    assert outcome is not None
    return outcome


def trials_of(store: Path, outcome: Outcome) -> list[TrialRun]:
    tracker = MlflowTracker(store)
    parent = tracker.study(outcome.key)
    assert parent is not None
    return sorted(tracker.trials(parent.run_id), key=lambda own: own.number)


def best_first(store: Path, outcome: Outcome) -> list[dict[str, Any]]:
    """What was drawn for the complete trials of a study."""
    complete = [own for own in trials_of(store, outcome) if own.state == COMPLETE]
    return [drawn_values(own) for own in sorted(complete, key=lambda own: -own.metrics[outcome.key.objective.name])]


def test_a_warm_start_begins_with_the_best_and_then_draws(tiny: Dataset, store: Path) -> None:
    cold = ran(SMALL, tiny, store)
    warm = ran(SMALL, tiny, store, seed=1, warm_start="auto")
    drawn = [drawn_values(own) for own in trials_of(store, warm)]
    assert drawn[:2] == best_first(store, cold)[:2]
    assert drawn[2:] == [drawn_values(own) for own in trials_of(store, ran(SMALL, tiny, store, seed=1))[2:]]
    # Cut short or asked for more trials, and with other studies in the store by then, it goes on with the same.
    more = ran(SMALL, tiny, store, seed=1, warm_start="auto", trials=7)
    assert [drawn_values(own) for own in trials_of(store, more)][:6] == drawn
    assert more.key == warm.key


def test_of_several_studies_the_best_of_each_come_first(tiny: Dataset, store: Path) -> None:
    first, second = (ran(SMALL, tiny, store, seed=seed) for seed in (0, 1))
    warm = ran(SMALL, tiny, store, seed=2, warm_start="auto", trials=12)
    found = [best_first(store, own) for own in (second, first)]
    drawn = [drawn_values(own) for own in trials_of(store, warm)]
    assert drawn[:4] == [found[0][0], found[1][0], found[0][1], found[1][1]]


def test_in_a_changed_space_what_fits_is_taken_over(tiny: Dataset, store: Path) -> None:
    cold = ran(SMALL, tiny, store)
    space = (Categorical(path="model.hidden", values=(4, 8, 16, 32)), RATE, Integer(path="model.layers", low=1, high=2))
    warm = ran(replace(SMALL, space=space), tiny, store, warm_start="small")
    expected = {**best_first(store, cold)[0], "model.layers": SMALL.base.model.layers}
    assert drawn_values(trials_of(store, warm)[0]) == expected


def test_what_does_not_fit_leaves_the_bases_value_and_little_is_nothing() -> None:
    space = (Integer(path="a", low=1, high=4), Integer(path="b", low=1, high=4, when=("a", 2)), RATE)
    base = {"a": 1, "b": 3, RATE.path: 0.002}
    assert completed(space, base, {"a": 2, RATE.path: 0.01}) == {"a": 2, "b": 3, RATE.path: 0.01}
    assert completed(space, base, {RATE.path: 0.01}) == {"a": 1, RATE.path: 0.01}
    assert completed(space, base, {"b": 4}) is None
    assert completed(space, {**base, "a": 9}, {RATE.path: 0.01}) == {RATE.path: 0.01}


def test_without_an_earlier_trial_it_is_refused(tiny: Dataset, store: Path) -> None:
    with pytest.raises(
        InputError, match="--warm-start needs a complete trial of small on other data, seed or budget in"
    ):
        ran(SMALL, tiny, store, warm_start="auto")
    with pytest.raises(InputError, match=r"a complete trial of other in .* that fits, there is none"):
        ran(SMALL, tiny, store, warm_start="other")


def test_listed_trials_have_no_warm_start(tiny: Dataset, store: Path) -> None:
    with pytest.raises(InputError, match="--warm-start needs a sampler that draws, such as tpe, audio_rnn has grid"):
        ran(load_study("audio_rnn"), tiny, store, sampler=None, trials=None, warm_start="auto")

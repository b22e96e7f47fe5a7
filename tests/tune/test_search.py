"""Asking, telling and rebuilding: a search goes on as if it had never stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from mmtune.base.errors import InputError
from mmtune.study.key import DRAWN
from mmtune.study.space import Categorical, Integer, Real, Space
from mmtune.tracking import COMPLETE, FAIL, PRUNED, RUNNING
from mmtune.train.objective import MACRO_F1, front, objective_of
from mmtune.tune.search import (
    ATTEMPTS,
    Attempt,
    Given,
    Search,
    closed,
    derive_seed,
    fingerprint,
    make_sampler,
    make_samplers,
)

SPACE: Space = (
    Categorical(path="a", values=("x", "y"), source=""),
    Real(path="b", low=1e-3, high=1.0, log=True, source=""),
    Integer(path="c", low=1, high=9, source="", when=("a", "x")),
)


TWO = objective_of(("macro_f1", "parameters"))


def drawn(search: Search, index: int, sampler: str) -> dict[str, object]:
    return dict(search.ask(index, [make_sampler(sampler, derive_seed(0, index, 1))], started=index))


def score(values: dict[str, object]) -> float:
    return float(str(values["b"])) * (1 if values["a"] == "x" else 0.5)


def worked_by_two(sampler: str, count: int) -> Search:
    """A search by two metrics in which trials end well, fail, are made again, and are under way."""
    search = Search(SPACE, {}, objective=TWO)
    for index in range(count):
        values = drawn(search, index, sampler)
        if index % 7 == 5:
            search.tell(index, FAIL, retry=True)
            search.ask(index, [Given(values)], started=index)
        if index < count - 2:
            search.tell(index, COMPLETE, score(values), float(len(values)))
    return search


def worked(sampler: str, count: int, rungs: Sequence[int] = (1, 3)) -> Search:
    """A search in which everything happens: trials that end well, are pruned, fail, are made again, and go on."""
    search = Search(SPACE, {}, rungs)
    for index in range(count):
        values = drawn(search, index, sampler)
        reached = [search.report(index, rung, score(values) + rung / 100) for rung in rungs]
        if index % 7 == 5:
            search.tell(index, FAIL, retry=True)
            search.ask(index, [Given(values)], started=index)
        if index < count - 2:
            state = COMPLETE if all(reached) else PRUNED
            search.tell(index, state, score(values))
    return search


def rebuilt(search: Search) -> Search:
    again = Search(search.space, search.base, search.rungs, search.compares_parts, search.objective)
    again.rebuild(search.attempts())
    return again


@pytest.mark.parametrize("sampler", DRAWN)
def test_every_sampler_draws_inside_the_space_and_repeats_itself_from_its_seed(sampler: str) -> None:
    def run() -> list[dict[str, object]]:
        search, found = Search(SPACE, {}), []
        for index in range(12):
            found.append(drawn(search, index, sampler))
            search.tell(index, COMPLETE, score(found[-1]))
        return found

    first = run()
    assert first == run()
    assert all(c.admits(values[c.path]) for values in first for c in SPACE if c.path in values)
    assert len({values["b"] for values in first}) > len(first) / 2


@pytest.mark.parametrize("sampler", [name for name in DRAWN if name != "cmaes"])
def test_a_rebuilt_search_draws_what_it_would_have_drawn(sampler: str) -> None:
    search = worked(sampler, 25)
    again = rebuilt(search)
    assert list(again.attempts()) == list(search.attempts())
    assert [t.params for t in again.study.trials] == [t.params for t in search.study.trials]
    assert [t.state for t in again.study.trials] == [t.state for t in search.study.trials]
    for index in range(25, 32):
        values = drawn(search, index, sampler)
        assert drawn(again, index, sampler) == values
        for own in (search, again):
            own.tell(index, COMPLETE, score(values))


@pytest.mark.parametrize("sampler", ["tpe", "random", pytest.param("gp", marks=pytest.mark.slow)])
def test_a_search_by_two_metrics_draws_from_its_seed_and_rebuilt_what_it_would_have_drawn(sampler: str) -> None:
    search = worked_by_two(sampler, 25)
    again = rebuilt(search)
    assert list(again.attempts()) == list(search.attempts())
    assert [t.values for t in again.study.trials] == [t.values for t in search.study.trials]
    assert list(worked_by_two(sampler, 25).attempts()) == list(search.attempts())
    for index in range(25, 32):
        values = drawn(search, index, sampler)
        assert drawn(again, index, sampler) == values
        for own in (search, again):
            own.tell(index, COMPLETE, score(values), float(len(values)))


def test_the_front_of_a_search_is_the_one_that_optuna_finds() -> None:
    search = worked_by_two("random", 40)
    ranks = {own.index: TWO.ranks(own.scores) for own in search.attempts() if own.scores}
    numbered = {trial.number: own.index for trial, own in zip(search.study.trials, search.attempts(), strict=True)}
    assert {numbered[trial.number] for trial in search.study.best_trials} == set(front(ranks))


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_where_the_lower_is_the_better_a_search_does_as_with_everything_turned_round(sampler: str) -> None:
    searches = {
        sign: Search(SPACE, {}, (1,), objective=own) for sign, own in ((1, MACRO_F1), (-1, objective_of("loss")))
    }
    for index in range(25):
        verdicts = set()
        for sign, search in searches.items():
            values = drawn(search, index, sampler)
            verdicts.add((str(values), search.report(index, 1, sign * score(values))))
            search.tell(index, COMPLETE, sign * score(values))
        assert len(verdicts) == 1
    best = [max(s.attempts(), key=lambda own, sign=sign: sign * own.score).index for sign, s in searches.items()]
    assert best == [search.study.best_trial.number for search in searches.values()]


def test_a_rebuilt_search_judges_as_it_would_have_judged() -> None:
    search = worked("random", 25)
    again = rebuilt(search)
    assert again.halving.scores == search.halving.scores
    for index, own in enumerate((0.0, 0.2, 0.9), start=25):
        verdicts = []
        for one in (search, again):
            drawn(one, index, "random")
            verdicts.append(one.report(index, 1, own))
        assert verdicts[0] == verdicts[1]


def test_a_report_that_is_made_twice_counts_once() -> None:
    search = Search(SPACE, {}, (1,))
    drawn(search, 0, "random")
    first = search.report(0, 1, 0.5)
    assert search.report(0, 1, 0.5) is first
    assert search.halving.scores[1] == [0.5]


def test_a_trial_counts_once_at_a_rung_however_many_attempts_it_takes() -> None:
    search = Search(SPACE, {}, (1,))
    values = drawn(search, 0, "random")
    search.report(0, 1, 0.5)
    search.tell(0, FAIL, retry=True)
    search.ask(0, [Given(values)], started=1)
    for own in (search, rebuilt(search)):
        # One that goes on from a checkpoint does not come to the rung again, and one that begins again does.
        assert own.halving.scores == {1: [0.5]}
        own.report(0, 1, 0.5)
        assert own.halving.scores == {1: [0.5]}


def test_a_trial_that_goes_on_without_one_of_its_values_is_refused() -> None:
    with pytest.raises(InputError, match="b must be among the values of a trial that goes on"):
        Search(SPACE, {}).rebuild([Attempt(index=0, values={"a": "y"})])


def test_a_rebuilt_search_still_compares_parts() -> None:
    def ask_of(search: Search) -> bool:
        drawn(search, 1, "random")
        verdicts = [search.report(1, part, 0.1) for part in range(8)]
        return all(verdicts)

    search = Search(SPACE, {}, (), compares_parts=True)
    drawn(search, 0, "random")
    for part in range(8):
        search.report(0, part, 0.9 + part / 1000)
    search.tell(0, COMPLETE, 0.9)
    again = rebuilt(search)
    assert not ask_of(search)
    assert not ask_of(again)


def test_an_ended_attempt_closes_its_index_and_one_under_way_does_too() -> None:
    search = Search(SPACE, {})
    drawn(search, 1, "random")
    search.tell(1, COMPLETE, 0.5)
    drawn(search, 2, "random")
    assert list(search.open_indices(4)) == [0, 3]
    assert search.left(4) == (3, 0)


def test_what_is_made_again_has_its_own_values() -> None:
    search = Search(SPACE, {})
    values = drawn(search, 0, "random")
    search.tell(0, FAIL, retry=True)
    assert search.open_indices(1) == {0: values}
    assert search.ask(0, [Given(values)]) == values


@pytest.mark.parametrize(("retry", "tries"), [(True, ATTEMPTS), (False, 1)])
def test_a_failure_is_retried_only_where_that_makes_sense(retry: bool, tries: int) -> None:
    search = Search(SPACE, {})
    for attempt in range(tries):
        assert 0 in search.open_indices(1), attempt
        drawn(search, 0, "random")
        search.tell(0, FAIL, retry=retry)
    assert search.open_indices(1) == {}
    assert search.left(1) == (0, 1)


def test_what_is_lost_uses_up_no_attempt() -> None:
    lost = Attempt(index=0, state=FAIL, lost=True)
    assert not closed([lost] * 3 * ATTEMPTS)
    assert closed([lost, replace(lost, lost=False)])
    assert closed([replace(lost, state=RUNNING)])


def test_a_value_outside_the_space_is_refused() -> None:
    for values in ({"a": "z"}, {"d": 1}):
        with pytest.raises(InputError, match="trial 03 was made with"):
            Search(SPACE, {}).rebuild([Attempt(index=3, state=COMPLETE, scores=(0.5,), values=values)])


def test_seeds_follow_from_the_index_alone_and_differ() -> None:
    seeds = [derive_seed(study, index) for study in range(20) for index in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert seeds == [derive_seed(study, index) for study in range(20) for index in range(50)]
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_a_hopeless_trial_is_pruned_and_a_good_one_is_not() -> None:
    search = Search(SPACE, {}, (1, 3))
    verdicts = {}
    for index, own in enumerate([0.9, 0.8, 0.85, 0.1, 0.95]):
        drawn(search, index, "random")
        verdicts[own] = search.report(index, 1, own)
        search.tell(index, COMPLETE if verdicts[own] else PRUNED, own)
    assert verdicts[0.9]
    assert verdicts[0.95]
    assert not verdicts[0.1]


LISTED: Space = (Categorical(path="a", values=(1, 2, 3, 4)), Categorical(path="b", values=("x", "y", "z")))


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_nothing_is_drawn_twice_before_everything_was(sampler: str) -> None:
    search = Search(LISTED, {})
    for index in range(9):
        values = search.ask(index, make_samplers(sampler, 0, index), started=index)
        search.tell(index, COMPLETE, float(values["a"]) / 4)
    assert len({tuple(own.values.items()) for own in search.attempts()}) == 9


def test_where_everything_was_drawn_a_draw_is_as_good_as_the_first() -> None:
    search = Search(LISTED, {})
    for index in range(30):
        search.ask(index, make_samplers("random", 0, index), started=index)
        search.tell(index, COMPLETE, 0.5)
    made = [tuple(own.values.items()) for own in search.attempts()]
    assert len(set(made)) == 12
    assert len(search.study.trials) < 30 + 12 * 9


def test_a_search_that_drew_again_draws_the_same_when_it_is_rebuilt() -> None:
    search = Search(LISTED, {})
    for index in range(8):
        values = search.ask(index, make_samplers("tpe", 3, index), started=index)
        search.tell(index, COMPLETE, float(values["a"]))
    again = rebuilt(search)
    assert [own.state.name for own in again.study.trials] == [COMPLETE] * 8
    for own in (search, again):
        own.ask(8, make_samplers("tpe", 3, 8), started=8)
    assert again.attempts()[-1].values == search.attempts()[-1].values


def test_what_was_tried_is_told_from_what_was_not() -> None:
    """Python's hash of -1 is that of -2."""
    assert fingerprint({"x": 1, "y": "a"}) == fingerprint({"y": "a", "x": 1})
    assert fingerprint({"x": -1}) != fingerprint({"x": -2})
    assert fingerprint({"x": -1.0}) != fingerprint({"x": -2.0})

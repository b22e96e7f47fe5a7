"""A search space is data: enumerated once, drawn within its ranges, told by what it can draw."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
import pytest

from mmtune.base.errors import InputError
from mmtune.study.space import (
    Categorical,
    Integer,
    Real,
    combinations,
    describe,
    distinct,
    exact,
    grid,
    importance_spread,
    importances,
    pin,
    sample,
    under,
)

SPACE = (
    Categorical(path="a", values=("x", "y"), source="one"),
    Categorical(path="b", values=(1, 2, 3), source="two", when=("a", "x")),
    Real(path="c", low=1e-4, high=1e-1, log=True, source="three"),
    Integer(path="d", low=2, high=5, source="four"),
)


def test_a_grid_has_every_combination_once_and_conditions_prune_it() -> None:
    drawn = grid(SPACE[:2], {})
    assert drawn == [{"a": "x", "b": 1}, {"a": "x", "b": 2}, {"a": "x", "b": 3}, {"a": "y"}]


def test_a_grid_refuses_ranges() -> None:
    with pytest.raises(InputError, match="listed values and whole numbers, c is a real number"):
        grid(SPACE, {})
    with pytest.raises(InputError, match="100000 combinations at most, got 160,000"):
        grid(tuple(Integer(path=path, low=1, high=20) for path in "abcd"), {})


def test_conditions_are_met_by_the_base_where_the_space_leaves_them_open() -> None:
    assert grid(SPACE[1:2], {"a": "x"}) == [{"b": 1}, {"b": 2}, {"b": 3}]
    assert grid(SPACE[1:2], {"a": "y"}) == [{}]


def test_what_hangs_on_a_choice_that_does_not_apply_does_not_apply() -> None:
    kind = Categorical(path="kind", values=("deep", "wide"))
    norm = Categorical(path="norm", values=("batch", "none"), when=("kind", "deep"))
    momentum = Categorical(path="momentum", values=(0.1, 0.9), when=("norm", "batch"))
    base = {"kind": "deep", "norm": "batch", "momentum": 0.1}
    drawn = grid((kind, norm, momentum), base)
    assert drawn == [
        {"kind": "deep", "norm": "batch", "momentum": 0.1},
        {"kind": "deep", "norm": "batch", "momentum": 0.9},
        {"kind": "deep", "norm": "none"},
        {"kind": "wide"},
    ]
    assert distinct((kind, norm, momentum), base) == len(drawn) < combinations((kind, norm, momentum))
    # Where the first one is fixed, its value is the base's.
    assert grid((norm, momentum), {**base, "kind": "wide"}) == [{}]
    assert distinct((kind,), base) == 2
    assert distinct(SPACE, base) == math.inf


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Categorical(path="a", values=("x", None)), "a: values must be texts, numbers .* got None"),
        (lambda: Categorical(path="a", values=((8, 8),)), r"a: values must be texts, .* got \(8, 8\)"),
        (lambda: Categorical(path="a", values=(0.5, 0.5, 0.9)), "a: values must differ, got 0.5, 0.5, 0.9"),
        (lambda: Categorical(path="a", values=3), "a: values must be one or more"),
        (lambda: Real(path="a", low="x", high=2), "a: low must be a number, got 'x'"),
        (lambda: Integer(path="a", low=1, high=4.0), "a: high must be a whole number, got 4.0"),
        (lambda: Integer(path="a", low=None, high=4), "a: low must be a whole number, got None"),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_what_is_no_choice_is_one_line(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()


def test_numbers_of_numpy_are_what_is_read_again() -> None:
    own = Categorical(path="a", values=tuple(np.linspace(0.5, 0.9, 3)))
    assert [type(value) for value in own.values] == [float] * 3
    assert all(own.admits(json.loads(json.dumps(value))) for value in own.values)
    assert type(Integer(path="a", low=np.int64(1), high=4).low) is int
    assert Categorical(path="a", values=(1, 1.0, True)).values == (1, 1.0, True)


def test_drawn_values_lie_in_the_space() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    by_path = {choice.path: choice for choice in SPACE}
    for _ in range(50):
        values = sample(SPACE, {}, study.ask())
        assert all(by_path[path].admits(value) for path, value in values.items())
        assert ("b" in values) == (values["a"] == "x")


def test_a_space_is_told_by_what_can_be_drawn_and_nothing_else() -> None:
    assert exact(SPACE) == exact((replace(SPACE[0], source="elsewhere"), *SPACE[1:]))
    changes = [
        replace(SPACE[0], values=("x", "z")),
        replace(SPACE[0], path="e"),
        replace(SPACE[0], when=("q", 1)),
        Categorical(path="a", values=("y", "x"), source="one"),
        Categorical(path="a", values=("x",)),
        Real(path="a", low=0.5, high=1.0),
        Real(path="a", low=0.5, high=1.0, log=True),
        Real(path="a", low=0.5, high=1.0 + 2**-52),
        Integer(path="a", low=0, high=1),
    ]
    said = {tuple(exact((change, *SPACE[1:]))) for change in changes} | {tuple(exact(SPACE))}
    assert len(said) == len(changes) + 1
    assert len(exact(SPACE)) == len(SPACE)


def test_moving_a_space_moves_its_conditions() -> None:
    moved = under("model", SPACE[:2])
    assert [c.path for c in moved] == ["model.a", "model.b"]
    assert moved[1].when == ("model.a", "x")


def test_pinning_removes_a_choice_whatever_its_value() -> None:
    assert [c.path for c in pin(SPACE, {"a": "x"})] == ["b", "c", "d"]
    assert [c.path for c in pin(SPACE, {"d": 9})] == ["a", "b", "c"]


def test_a_description_names_range_condition_and_source() -> None:
    lines = describe(SPACE)
    assert len(lines) == len(SPACE)
    assert "when a=x" in lines[1]
    assert "(log)" in lines[2]
    assert all(f"[{choice.source}]" in line for choice, line in zip(SPACE, lines, strict=True))


def test_importance_finds_the_choice_that_matters() -> None:
    space = (Categorical(path="a", values=("x", "y"), source=""), Categorical(path="b", values=(1, 2, 3), source=""))
    trials = [(values, float(values["a"] == "x") + 0.001 * int(values["b"])) for values in grid(space, {})]
    found = importances(space, trials)
    assert next(iter(found)) == "a"
    assert found["a"] > found["b"]
    assert importances(space, trials[:2]) == {}


def test_a_choice_that_some_trials_have_not_weighs_nothing_and_neither_does_what_two_do_together() -> None:
    space = (
        Categorical(path="a", values=(0, 1)),
        Categorical(path="b", values=(0, 1)),
        Categorical(path="inner", values=(0, 1)),
    )
    drawn = [{"a": n % 2, "b": n // 2 % 2, **({"inner": n // 4 % 2} if n % 2 else {})} for n in range(32)]
    assert set(importances(space, [(own, own["a"] + 0.1 * own["b"]) for own in drawn])) == {"a", "b"}
    alone = importances(space, [(own, float(own["a"] != own["b"])) for own in drawn])
    assert max(alone.values()) < 0.2


def test_a_choice_of_which_a_trial_has_a_value_that_the_space_has_not_weighs_nothing() -> None:
    """Tries may have any value, and a study's file may have been changed since."""
    space = (Real(path="rate", low=1e-4, high=1e-2, log=True), Categorical(path="kind", values=("a", "b")))
    trials = [({"rate": 1e-3, "kind": "a"}, 0.1), ({"rate": 2e-3, "kind": "b"}, 0.9), ({"rate": 0.1, "kind": "a"}, 0.2)]
    found = importances(space, [*trials, ({"rate": 3e-3, "kind": "b"}, 0.8)])
    assert found.keys() == {"kind"}


def test_importances_of_halves_tell_what_is_sure_from_what_is_not() -> None:
    space = tuple(Categorical(path=path, values=(0, 1)) for path in ("sure", "dull"))
    rng = np.random.default_rng(0)
    trials = [({"sure": n % 2, "dull": n // 2 % 2}, n % 2 + 0.1 * rng.normal()) for n in range(24)]
    found = importance_spread(space, trials, seed=0)
    assert found == importance_spread(space, trials, seed=0)
    assert found["dull"][1] < 0.2 < found["sure"][0]
    assert all(low <= importances(space, trials)[path] <= high for path, (low, high) in found.items())
    noise = [(values, rng.normal()) for values, _ in trials]
    assert importance_spread(space, noise, seed=0)["sure"][0] < 0.3
    assert importance_spread(space, trials[:11], seed=0) == {}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Real(path="p", low=1, high=0.01), "p: low must be at most high, both finite, got 1 and 0.01"),
        (lambda: Real(path="p", low=0.1, high=float("inf")), "both finite"),
        (lambda: Real(path="p", low=float("nan"), high=1), "both finite"),
        (lambda: Real(path="p", low=0, high=1, log=True), "p: low must be above 0 where log=True, got 0"),
        (lambda: Integer(path="p", low=5, high=2), "got 5 and 2"),
        (lambda: Categorical(path="p", values=()), r"p: values must be one or more, such as \(8, 16\), got \(\)"),
        (lambda: Categorical(path="p", values="ab"), "got 'ab'"),  # type: ignore[arg-type]
    ],
)
def test_a_choice_that_cannot_be_drawn_from_is_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        make()

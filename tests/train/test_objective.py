"""What a study searches for: directions, names, fronts, and what is refused."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtune.base.errors import InputError
from mmtune.study import Metric, StudyKey
from mmtune.tracking.runs import key_from_json, key_to_json
from mmtune.train.objective import KNOWN, MACRO_F1, Objective, dominates, front, objective_of

FEW = st.integers(0, 4).map(float)
RANKS = st.integers(2, 3).flatmap(lambda n: st.lists(st.tuples(*[FEW] * n), max_size=40))


def mean_error(labels: object, probabilities: object) -> float:
    return 0.5


COST = Metric(name="cost", function=mean_error, maximise=False)


@given(RANKS)
def test_the_front_is_what_a_loop_over_all_pairs_leaves(ranks: list[tuple[float, ...]]) -> None:
    left = {
        n
        for n, own in enumerate(ranks)
        if not any(all(a >= b for a, b in zip(other, own, strict=True)) and other != own for other in ranks)
    }
    found = front(dict(enumerate(ranks)))
    assert set(found) == left
    assert [ranks[n] for n in found] == sorted((ranks[n] for n in left), reverse=True)
    # Equals stand in the order in which they came.
    assert all(a < b for a, b in pairwise(found) if ranks[a] == ranks[b])


def test_nothing_dominates_itself() -> None:
    assert not dominates((1.0, 2.0), (1.0, 2.0))
    assert dominates((1.0, 2.0), (1.0, 1.0))
    assert not dominates((1.0, 2.0), (2.0, 1.0))


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_turned_round_a_metric_prefers_the_other_one(a: float, b: float) -> None:
    up, down = Metric(name="own", function=mean_error), Metric(name="own", function=mean_error, maximise=False)
    assert up.better(a, b) == down.better(b, a) == (a > b)
    assert up.better(a, b) == down.better(-a, -b)
    assert up.better(a, None)
    assert down.better(a, None)


@pytest.mark.parametrize(
    ("told", "names"),
    [
        ("macro_f1", ("best_val_macro_f1",)),
        ("loss", ("best_val_loss",)),
        (COST, ("best_val_cost",)),
        (("macro_f1", "parameters"), ("best_val_macro_f1", "parameters")),
        (("loss", COST, "milliseconds"), ("best_val_loss", "val_cost_at_best", "milliseconds")),
    ],
)  # fmt: skip
def test_a_run_has_the_first_metric_as_its_best_and_the_others_at_the_best_epoch(
    told: str, names: tuple[str, ...]
) -> None:
    objective = objective_of(told)
    assert objective.names == names
    values = tuple(range(len(names)))
    assert objective.values(dict(zip(names, values, strict=True))) == values
    assert objective.values({**dict(zip(names, values, strict=True)), names[-1]: float("nan")}) == ()
    assert objective.values({}) == ()


def key(objective: Objective = MACRO_F1) -> StudyKey:
    return StudyKey(
        study="a", data="d", digest="0" * 8, protocol="random", seed=0, epochs=1, sampler="tpe", objective=objective
    )


def test_another_objective_is_another_study_and_the_usual_one_is_not_named() -> None:
    told = ["macro_f1", "loss", COST, Metric(name="cost", function=mean_error), ("macro_f1", "parameters"),
            ("loss", "parameters"), ("macro_f1", COST)]  # fmt: skip
    keys = [key(objective_of(own)) for own in told]
    assert len({own.slug for own in keys}) == len(keys)
    assert keys[0].slug == "a.d-00000000.random.seed0.epochs1.tpe"
    assert "by" not in keys[0].title
    for own in keys:
        again = key_from_json(key_to_json(own))
        assert (again, again.slug, again.objective.names) == (own, own.slug, own.objective.names)


def test_a_key_of_before_there_were_objectives_has_the_usual_one() -> None:
    told = json.loads(key_to_json(key()))
    del told["objective"]
    assert key_from_json(json.dumps(told)) == key()


@pytest.mark.parametrize("told", [[], [["loss"]], "loss", 3, [[]]])
def test_an_objective_that_was_changed_by_hand_is_no_key(told: object) -> None:
    text = json.dumps({**json.loads(key_to_json(key())), "objective": told})
    with pytest.raises((ValueError, TypeError)):
        key_from_json(text)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("f1", "objective must be one of accuracy, macro_f1"),
        (3, "objective must be a metric, or a tuple"),
        ((), "a tuple of 1 to 4"),
        (("macro_f1",) * 2, "each metric once"),
        (("accuracy", "macro_f1", "loss", "auroc", "parameters"), "1 to 4"),
        ("parameters", "first that picks the best epoch"),
        (("milliseconds", "macro_f1"), "first that picks the best epoch"),
        ("robustness", "first that picks the best epoch, robustness is measured once"),
        (Metric(name="loss", function=mean_error), "a name of its own"),
        (Metric(name="f1_3", function=mean_error), "a name of its own"),
        (Metric(name="nmi", function=mean_error), "a name of its own"),
        (Metric(name="My cost", function=mean_error), "a name of its own"),
        (Metric(name="cost"), "function of metric cost must take labels"),
        (Metric(name="cost", function=mean_error, maximise=1), "maximise of metric cost must be True or False"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_objective_is_one_line(told: str, said: str) -> None:
    with pytest.raises(InputError) as refusal:
        objective_of(told)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_every_known_metric_can_be_told() -> None:
    from mmtune.train.metrics import MEASURES

    assert {name for name, own in KNOWN.items() if own.validates} == set(MEASURES)

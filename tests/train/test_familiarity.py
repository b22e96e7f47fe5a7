"""What is told as like nothing in training: by reference, by law, and the same when it is read again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from mmtune.base.errors import InputError
from mmtune.base.sealed import SEAL, seal
from mmtune.train.familiarity import (
    COMPONENTS,
    FACTS,
    FAMILIARITY,
    MOST_FEATURES,
    MOST_VALUES,
    NEIGHBOUR,
    NUMBERS,
    Familiarity,
    apart,
    conformal,
    fit_familiarity,
    load_familiarity,
    nearest,
    places_of,
    save_familiarity,
)

Drawn = NDArray[np.float32]


def drawn(count: int, width: int, seed: int = 0, classes: int = 4) -> Drawn:
    """Vectors around the centres of classes, which no seed changes."""
    centres = np.random.default_rng(99).normal(0, 3, (classes, width))
    rng = np.random.default_rng(seed)
    found: Drawn = (centres[rng.integers(classes, size=count)] + rng.normal(0, 1, (count, width))).astype(np.float32)
    return found


@pytest.fixture(scope="module")
def fitted() -> Familiarity:
    return fit_familiarity(drawn(400, 16), drawn(300, 16, seed=1))


def test_the_distance_is_scikit_learns_to_the_fifth_neighbour() -> None:
    rng = np.random.default_rng(0)
    places, asked = rng.normal(size=(80, 6)).astype(np.float32), rng.normal(size=(1200, 6)).astype(np.float32)
    theirs = NearestNeighbors(n_neighbors=NEIGHBOUR).fit(places).kneighbors(asked)[0][:, -1]
    assert nearest(places, asked) == pytest.approx(theirs, rel=1e-4)


def test_points_are_as_far_apart_as_directions_and_relative_lengths() -> None:
    vectors = drawn(30, 12)
    places = places_of(vectors, np.zeros(12, np.float32), np.eye(12, dtype=np.float32), 0.0)
    lengths = np.linalg.norm(vectors, axis=1)
    directions = vectors / lengths[:, None]
    for one, other in ((0, 1), (3, 17), (5, 29)):
        wanted = np.hypot(np.linalg.norm(directions[one] - directions[other]), np.log(lengths[one] / lengths[other]))
        assert np.linalg.norm(places[one] - places[other]) == pytest.approx(wanted, rel=1e-5)


def test_fewer_axes_never_make_a_distance_longer() -> None:
    vectors = drawn(40, 12)
    mean, basis = np.zeros(12, np.float32), np.linalg.qr(np.random.default_rng(3).normal(size=(12, 12)))[0]
    whole, part = (places_of(vectors, mean, basis[:, :d].astype(np.float32), 0.0) for d in (12, 4))
    between = [np.linalg.norm(own[:, None] - own, axis=2) for own in (whole, part)]
    assert (between[1] <= between[0] + 1e-4).all()


@pytest.mark.parametrize("unit", [0.25, 1024.0])
def test_another_unit_changes_nothing(fitted: Familiarity, unit: float) -> None:
    asked = drawn(50, 16, seed=2)
    again = fit_familiarity(unit * drawn(400, 16), unit * drawn(300, 16, seed=1))
    assert again.distances(unit * asked) == pytest.approx(fitted.distances(asked), abs=5e-3)
    assert again.threshold == pytest.approx(fitted.threshold, abs=5e-3)


@pytest.mark.parametrize(
    "strange", [lambda x: -x, lambda x: 40 * x, lambda x: 0 * x, lambda x: np.nan * x], ids=range(4)
)
def test_what_lies_elsewhere_or_is_much_larger_is_strange(
    fitted: Familiarity, strange: Callable[[Drawn], Drawn]
) -> None:
    asked = drawn(200, 16, seed=2)
    assert fitted.familiar(asked).mean() > 0.95
    assert fitted.familiar(strange(asked)).mean() < 0.05


@pytest.mark.parametrize("rate", [0.01, 0.1])
def test_false_alarms_are_as_seldom_as_stated(rate: float) -> None:
    shares = []
    for seed in range(10):
        own = fit_familiarity(drawn(300, 8), drawn(200, 8, seed=10 + seed), rate)
        assert own.false_alarms <= rate
        shares.append(1 - own.familiar(drawn(2000, 8, seed=50 + seed)).mean())
    assert np.mean(shares) == pytest.approx(own.false_alarms, abs=0.015)


@pytest.mark.parametrize(("count", "rate", "rank"), [(99, 0.01, 99), (999, 0.01, 990), (20, 0.01, 20), (1, 0.5, 1)])
def test_the_threshold_is_the_conformal_quantile(count: int, rate: float, rank: int) -> None:
    scores = np.random.default_rng(0).permutation(count).astype(np.float32)
    threshold, expected = conformal(scores, rate)
    assert threshold == rank - 1
    assert expected == pytest.approx(1 - rank / (count + 1))


def test_the_same_seed_gives_the_same_and_many_values_are_thinned() -> None:
    training, validation = drawn(MOST_VALUES + 50, 80), drawn(60, 80, seed=1)
    one, other = (fit_familiarity(training, validation, seed=3) for _ in range(2))
    assert np.array_equal(one.places, other.places)
    assert one.places.shape == (MOST_VALUES, COMPONENTS + 2)
    assert one.threshold == other.threshold


def test_wide_vectors_are_pooled() -> None:
    width = 2 * MOST_FEATURES + 1
    training = np.random.default_rng(0).normal(size=(40, width)).astype(np.float32)
    own = fit_familiarity(training[:30], training[30:])
    assert len(own.mean) == MOST_FEATURES
    assert own.distances(training[:3]).shape == (3,)
    constant = np.full((2, width), 5, np.float32)
    assert own.familiar(constant).tolist() == [False, False]


def test_what_stands_on_both_sides_checks_nothing() -> None:
    training, validation = np.array([3, 1, 1, -1, 7]), np.array([7, 9, 2, 9, -1])
    known, new = apart(training, validation)
    assert (known.tolist(), new.tolist()) == ([1, 3, 7], [2, 9])


def test_where_everything_stands_on_both_sides_a_fifth_checks() -> None:
    known, new = apart(np.arange(100), np.array([4, 5]))
    assert len(new) == 20
    assert sorted([*known, *new]) == list(range(100))


def test_what_is_saved_says_the_same(fitted: Familiarity, tmp_path: Path) -> None:
    wide = fit_familiarity(drawn(100, 300), drawn(50, 300, seed=1))
    by_bank = {"image": fitted, "own.bank": wide}
    save_familiarity(tmp_path, by_bank)
    again = load_familiarity(tmp_path)
    assert again.keys() == by_bank.keys()
    for bank, own in by_bank.items():
        asked = drawn(20, len(own.mean), seed=5)
        assert np.array_equal(again[bank].distances(asked), own.distances(asked))
        assert all(getattr(again[bank], name) == getattr(own, name) for name in NUMBERS)


def test_a_changed_byte_is_refused(fitted: Familiarity, tmp_path: Path) -> None:
    save_familiarity(tmp_path, {"image": fitted})
    path = tmp_path / FAMILIARITY
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="must have SHA-256"):
        load_familiarity(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "must be of format"),
        ({"banks": {"image": {"length": 0.0}}}, "must have length, threshold"),
        ({"banks": {"image": {"length": 0.0, "threshold": "1", "false_alarms": 0.1, "checked": 1}}}, "finite numbers"),
        ({"banks": {"voice": {"length": 0.0, "threshold": 1.0, "false_alarms": 0.1, "checked": 1}}}, "is missing"),
    ],
)
def test_strange_facts_are_refused(fitted: Familiarity, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    """Also where whoever changed them has sealed them again."""
    save_familiarity(tmp_path, {"image": fitted})
    path = tmp_path / FACTS
    content = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({**content, SEAL: seal({own: content[own] for own in content if own != SEAL})}))
    with pytest.raises(InputError, match=message):
        load_familiarity(tmp_path)


def test_a_changed_threshold_is_refused(fitted: Familiarity, tmp_path: Path) -> None:
    save_familiarity(tmp_path, {"image": fitted})
    path = tmp_path / FACTS
    content = json.loads(path.read_text())
    content["banks"]["image"]["threshold"] += 1
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="it was changed or cut"):
        load_familiarity(tmp_path)


def test_arrays_that_misfit_are_refused(fitted: Familiarity, tmp_path: Path) -> None:
    save_familiarity(tmp_path, {"image": replace(fitted, axes=fitted.axes[:, :3])})
    with pytest.raises(InputError, match="must have mean"):
        load_familiarity(tmp_path)


@pytest.mark.parametrize(
    ("training", "validation", "message"),
    [
        (drawn(NEIGHBOUR, 8), drawn(5, 8), "training values"),
        (drawn(20, 8), drawn(0, 8), "validation values"),
        (np.full((20, 8), np.nan, np.float32), drawn(5, 8), "must be finite"),
    ],
)
def test_too_little_to_learn_from_is_refused(training: Drawn, validation: Drawn, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_familiarity(training, validation)


def test_vectors_of_another_width_are_refused(fitted: Familiarity) -> None:
    with pytest.raises(InputError, match="16 numbers as in training"):
        fitted.distances(drawn(2, 15))

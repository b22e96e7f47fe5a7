"""Which trained networks answer together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmtune.best.members import (
    MOST_DRAWN,
    MOST_MEMBERS,
    SAMPLES,
    Candidate,
    drawn_members,
    ensemble_of,
    greedy,
    log_loss,
    of_label,
    soup_of,
    soups,
)
from mmtune.networks.config import MLP, LateFusion
from mmtune.networks.shapes import Shapes
from mmtune.networks.storage import Loaded

SHAPES = Shapes(banks={"scan": (6,)}, classes=3)


def random_shares(
    models: int, rows: int, seed: int, sharp: float = 2.0
) -> tuple[list[NDArray[Any]], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=rows)
    logits = sharp * rng.normal(size=(models, rows, 3)) + 1.5 * np.eye(3)[labels]
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    return list(shares), labels


@given(st.integers(1, 12), st.integers(0, 1_000))
def test_greedy_never_loses_against_the_best_single_model(models: int, seed: int) -> None:
    shares, labels = random_shares(models, 60, seed)
    drawn = greedy(np.stack([of_label(own, labels) for own in shares]))
    count = sum(drawn.values())
    mean = sum(times * shares[place] for place, times in drawn.items()) / count
    assert log_loss(mean, labels) <= min(log_loss(own, labels) for own in shares) + 1e-12
    assert 1 <= count <= MOST_DRAWN
    assert 1 <= len(drawn) <= MOST_MEMBERS
    assert np.argmin([log_loss(own, labels) for own in shares]) in drawn


def test_of_equal_models_one_is_enough() -> None:
    shares, labels = random_shares(1, 50, 0)
    assert drawn_members([shares[0]] * 4, labels) == {0: SAMPLES}


def test_of_samples_of_rows_it_is_drawn_what_loses_less_on_others() -> None:
    gains = []
    for seed in range(40):
        shares, labels = random_shares(10, 400, seed, sharp=1.0)
        mine, others = slice(0, 60), slice(60, None)
        once = greedy(np.stack([of_label(own[mine], labels[mine]) for own in shares]))
        often = drawn_members([own[mine] for own in shares], labels[mine])
        assert len(often) <= MOST_MEMBERS
        assert often == drawn_members([own[mine] for own in shares], labels[mine])
        losses = [
            log_loss(sum(n * shares[place][others] for place, n in drawn.items()) / sum(drawn.values()), labels[others])
            for drawn in (once, often)
        ]
        gains.append(losses[0] - losses[1])
    assert np.mean(gains) > 2 * np.std(gains) / np.sqrt(len(gains))


def test_log_loss_is_cross_entropy() -> None:
    shares, labels = random_shares(1, 50, 3)
    expected = torch.nn.functional.nll_loss(torch.from_numpy(np.log(shares[0])), torch.from_numpy(labels))
    assert log_loss(shares[0], labels) == pytest.approx(float(expected))


def candidates(configs: list[LateFusion]) -> list[Candidate]:
    made = []
    for place, config in enumerate(configs):
        torch.manual_seed(place)
        loaded = Loaded(model=config.build(SHAPES).eval(), config=config, shapes=SHAPES)
        run: Any = SimpleNamespace(params={})
        made.append(
            Candidate(name=f"c{place}", run=run, loaded=loaded, temperature=1.0 + place, shares=np.ones((1, 3)))
        )
    return made


def test_an_ensemble_of_candidates_has_their_weights() -> None:
    own = candidates([LateFusion(encoders={"scan": MLP(width=w)}) for w in (3, 4, 5)])
    found = ensemble_of(own, {2: 3, 0: 1})
    assert dict(found.config.weights) == {"c2": 0.75, "c0": 0.25}
    assert dict(found.config.temperatures) == {"c2": 3.0, "c0": 1.0}
    given = {"scan": torch.rand(4, 6)}
    with torch.no_grad():
        mean = sum(
            share * torch.softmax(one.loaded.model(**given).logits / one.temperature, 1)
            for share, one in ((0.75, own[2]), (0.25, own[0]))
        )
        torch.testing.assert_close(found.model(**given).logits.exp(), mean)


def test_soups_are_of_candidates_with_one_configuration() -> None:
    small, wide = (LateFusion(encoders={"scan": MLP(width=w)}) for w in (3, 4))
    own = candidates([small, wide, small, small])
    assert soups(own) == [[0, 2, 3]]
    mixed = soup_of(own, [0, 2]).model.state_dict()
    for name, tensor in mixed.items():
        one, other = (own[place].loaded.model.state_dict()[name] for place in (0, 2))
        torch.testing.assert_close(tensor, (one + other) / 2 if tensor.is_floating_point() else one)

"""Digits as other hands would write them."""

from __future__ import annotations

import numpy as np

from mmtune.data.bundled.handwriting import Hands, distorted, shown, stroked, with_gap, write

STILL = np.zeros((2, 4, 4))
SEVEN = np.zeros((8, 8))
SEVEN[1, 2:6] = SEVEN[2:7, 5] = 1.0


def test_a_straight_hand_moves_nothing_and_a_turn_by_a_half_circle_comes_out_mirrored_twice() -> None:
    straight, turned = distorted(0.0, 0.0, 0.0, STILL), distorted(0.0, 180.0, 0.0, STILL)
    assert np.allclose(turned, straight[:, ::-1, ::-1])
    assert np.allclose(straight[0], straight[1].T)


def test_the_lower_the_threshold_the_wider_the_stroke() -> None:
    places = distorted(0.0, 0.0, 0.0, STILL)
    inks = [stroked(SEVEN, places, threshold).sum() for threshold in (0.2, 0.4, 0.6)]
    assert inks[0] > inks[1] > inks[2] > 0


def test_a_gap_takes_ink_and_none_takes_none() -> None:
    ink = np.ones((28, 28))
    assert np.array_equal(with_gap(ink, -1.0, 0.3, 2.0), ink)
    assert np.isclose(28 * 28 - with_gap(ink, 2.0, 0.0, 0.5).sum(), 2 * 28)


def test_a_steady_camera_shows_what_is_written() -> None:
    ink = np.pad(SEVEN, 10)
    assert np.allclose(shown(ink, (0.0, 0.0), 0.0), ink)
    assert np.allclose(shown(ink, (1.0, 2.0), 0.0), np.roll(ink, (1, 2), (0, 1)))


def test_the_same_draws_are_the_same_picture() -> None:
    once, again, other = (write(SEVEN, np.random.default_rng(seed), Hands()) for seed in (1, 1, 2))
    assert once.shape == (28, 28)
    assert once.dtype == np.uint8
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)

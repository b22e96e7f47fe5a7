"""scikit-learn's digits as other hands would write them and a camera would show them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmtune.data.media.pictures import IMAGE_SHAPE, normalise

Ink = NDArray[np.float64]
Span = tuple[float, float]
FINE = 64  # pixels a side on which a digit is written
SOFT = 0.3  # of the ink: how wide an edge of a stroke is
WAVES = 4  # a side: of what makes a hand unsteady


@dataclass(frozen=True, kw_only=True)
class Hands:
    """Between what is drawn, each evenly, of how a digit is written and of how it is shown.

    threshold: of ink, where a stroke ends: strokes are wider below. slant: columns a row. turn: degrees. stretch: the
    width to the height, as a power of two. unsteady: pixels of 8 by which strokes go astray. shift: pixels of 28 from
    the middle. blur: the deviation, in pixels of 28. contrast: the levels of full ink, of 1. noise: the deviation of
    the levels. gap: pixels of 28 of a stripe through which no ink came, 0 or less for none.
    """

    threshold: Span = (0.25, 0.45)
    slant: Span = (-0.2, 0.2)
    turn: Span = (-10.0, 10.0)
    stretch: Span = (-0.2, 0.2)
    unsteady: Span = (0.0, 0.25)
    shift: Span = (-1.0, 1.0)
    blur: Span = (0.0, 0.6)
    contrast: Span = (0.5, 1.0)
    noise: Span = (0.0, 0.05)
    gap: Span = (-6.0, 1.0)


def write(digit: Ink, rng: np.random.Generator, hands: Hands) -> NDArray[np.uint8]:
    """(28, 28) uint8 of a digit (8, 8) in [0, 1], light ink on black, its hand and its camera drawn."""

    def drawn(span: Span) -> float:
        return float(rng.uniform(*span))

    astray = drawn(hands.unsteady) * rng.standard_normal((2, WAVES, WAVES))
    places = distorted(drawn(hands.slant), drawn(hands.turn), drawn(hands.stretch), astray)
    ink = normalise(stroked(digit, places, drawn(hands.threshold))) / 255.0
    gap = drawn(hands.gap), drawn((0.0, np.pi)), drawn((-6.0, 6.0))
    seen = shown(with_gap(ink, *gap), (drawn(hands.shift), drawn(hands.shift)), drawn(hands.blur))
    levels = seen * drawn(hands.contrast) + rng.standard_normal(IMAGE_SHAPE) * drawn(hands.noise)
    return np.rint(np.clip(levels, 0.0, 1.0) * 255.0).astype(np.uint8)


def distorted(slant: float, turn: float, stretch: float, astray: Ink) -> Ink:
    """For each point of a fine grid, its row and column in a digit of 8 x 8, (2, FINE, FINE).

    astray (2, k, k): by how much points of a coarse grid are moved; those between go along smoothly.
    """
    from scipy.ndimage import zoom

    down, right = np.meshgrid(*2 * [np.linspace(-6.0, 6.0, FINE)], indexing="ij")
    cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    rows, columns = cos * down + sin * right, cos * right - sin * down
    wide = 2.0 ** (stretch / 2)
    moved = np.stack([rows * wide, (columns + slant * rows) / wide]) + 3.5
    return moved + np.stack([zoom(own, FINE / len(own), order=3) for own in astray])


def stroked(digit: Ink, places: Ink, threshold: float) -> Ink:
    """The ink of strokes at places of a digit: none below a threshold, full a little above it."""
    from scipy.ndimage import map_coordinates

    grey = map_coordinates(digit, places, order=3, mode="constant")
    top = float(grey.max())
    return np.clip((grey / top - threshold) / SOFT + 0.5, 0.0, 1.0)


def with_gap(ink: Ink, width: float, turn: float, offset: float) -> Ink:
    """Without what lies in a stripe of so many pixels, turned by radians, `offset` pixels from the middle."""
    rows, columns = np.indices(ink.shape) - (np.array(ink.shape)[:, None, None] - 1) / 2
    away = np.abs(np.sin(turn) * rows + np.cos(turn) * columns - offset)
    return ink * np.clip(away - width / 2 + 0.5, 0.0, 1.0) if width > 0 else ink


def shown(ink: Ink, shift: tuple[float, float], blur: float) -> Ink:
    """Moved by pixels down and to the right, and blurred with a deviation of so many."""
    from scipy.ndimage import gaussian_filter
    from scipy.ndimage import shift as moved

    return gaussian_filter(moved(ink, shift, order=1), blur)

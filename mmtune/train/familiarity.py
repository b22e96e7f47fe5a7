"""Whether a value is like what a network was trained on: how far it lies from the nearest training values.

Deep nearest neighbours (Sun et al., "Out-of-distribution detection with deep nearest neighbors", 2022) of the vectors
that `bank_vectors` gives, with their length beside their direction, as a value may be strange by either; where there
are maps, they are made of directions alone. The threshold is a conformal one (Bates et al., "Testing for outliers with
conformal p-values", 2023).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from mmtune.base.bounds import MEBIBYTE, inside, read_bounded
from mmtune.base.errors import InputError
from mmtune.base.files import write_whole
from mmtune.base.rules import require_count, require_range
from mmtune.base.sealed import read_sealed, write_sealed

FORMAT = 2
FAMILIARITY, FACTS = "familiarity.safetensors", "familiarity.json"
MOST_BYTES = 128 * MEBIBYTE
MOST_VALUES, MOST_FEATURES, COMPONENTS, NEIGHBOUR = 8_000, 4_096, 64, 5
"""So many training values and numbers of a vector are kept; the distance is that of the fifth nearest value."""
NUMBERS = {"length": float, "threshold": float, "false_alarms": float, "checked": int}
"""What is saved beside the arrays."""
FALSE_ALARMS = 0.01
SHORTEST = 1e-12
BLOCK = 512
Vectors = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Familiarity:
    """Where the training values of a bank lie, and how far from them a value may be.

    mean (F,), axes (F, D): the principal components of directions; length: the mean logarithm of lengths; places
    (R, D + 2): as `places_of` gives them. threshold: the largest distance of what is familiar. false_alarms: the share
    of values like those it was fitted on that lie beyond; checked: how many of them chose the threshold.
    """

    mean: Vectors
    axes: Vectors
    length: float
    places: Vectors
    threshold: float
    false_alarms: float
    checked: int

    def distances(self, vectors: Vectors) -> Vectors:
        """How far vectors (B, F) lie from the training values, (B,); infinity where one is not finite."""
        if vectors.ndim != 2 or min(vectors.shape[1], MOST_FEATURES) != len(self.mean):
            raise InputError(f"vectors must have {len(self.mean)} numbers as in training, got shape {vectors.shape}")
        return nearest(self.places, places_of(vectors, self.mean, self.axes, self.length))

    def familiar(self, vectors: Vectors) -> NDArray[np.bool_]:
        """Which vectors (B, F) are like those of training, (B,)."""
        return self.distances(vectors) <= self.threshold


def fit_familiarity(
    training: Vectors, validation: Vectors, false_alarms: float = FALSE_ALARMS, seed: int = 0
) -> Familiarity:
    """The Familiarity of training vectors (N, F), at a threshold that validation vectors (M, F) leave behind so seldom.

    Validation must not hold the training's own values (`apart`): what stands on both sides has a distance of nothing.
    InputError unless all are finite, and N > NEIGHBOUR and M >= 1.
    """
    require_range("false_alarms", false_alarms, 1e-6, 0.5)
    require_count("training values to compare with", len(training), NEIGHBOUR + 1)
    require_count("validation values to choose a threshold", len(validation))
    if not (np.isfinite(training).all() and np.isfinite(validation).all()):
        raise InputError("vectors of training and validation must be finite, got NaN or infinity")
    rng = np.random.default_rng(seed)
    kept = fewer(training[np.sort(rng.permutation(len(training))[:MOST_VALUES])])
    lengths, directions = polar(kept)
    mean = directions.mean(axis=0)
    axes = rounded(principal_axes(directions - mean, seed))
    length = float(lengths.mean())
    places = rounded(places_of(kept, mean, axes, length))
    threshold, expected = conformal(nearest(places, places_of(validation, mean, axes, length)), false_alarms)
    return Familiarity(
        mean=mean,
        axes=axes,
        length=length,
        places=places,
        threshold=threshold,
        false_alarms=expected,
        checked=len(validation),
    )


def places_of(vectors: Vectors, mean: Vectors, axes: Vectors, length: float) -> Vectors:
    """Vectors (B, F) as points (B, D + 2): their direction's components, what those leave of it, and their log length.

    Distances are those of directions and relative lengths together: the same for vectors in another unit. It goes by
    BLOCK rows, as what is between takes more memory than vectors and points.
    """
    blocks = np.split(vectors, range(BLOCK, len(vectors), BLOCK))
    return np.concatenate([block_of_places(block, mean, axes, length) for block in blocks])


def block_of_places(vectors: Vectors, mean: Vectors, axes: Vectors, length: float) -> Vectors:
    """`places_of` a few."""
    lengths, directions = polar(fewer(vectors))
    centred = directions - mean
    components = centred @ axes
    left = np.square(centred).sum(axis=1) - np.square(components).sum(axis=1)
    return np.column_stack([components, np.sqrt(np.maximum(left, 0)), lengths - length]).astype(np.float32)


def polar(vectors: Vectors) -> tuple[Vectors, Vectors]:
    """The logarithms of the lengths (B,) of vectors (B, F), and their directions (B, F)."""
    wide = vectors.astype(np.float64)
    lengths = np.maximum(np.linalg.norm(wide, axis=1), SHORTEST)
    return np.log(lengths).astype(np.float32), (wide / lengths[:, None]).astype(np.float32)


def fewer(vectors: Vectors) -> Vectors:
    """Vectors (B, F) of MOST_FEATURES numbers at most, each the mean of neighbours."""
    width = vectors.shape[1]
    if width <= MOST_FEATURES:
        return vectors
    starts = np.arange(MOST_FEATURES) * width // MOST_FEATURES
    counts = np.diff(np.append(starts, width))
    means: Vectors = (np.add.reduceat(vectors, starts, axis=1) / counts).astype(np.float32)
    return means


def principal_axes(centred: Vectors, seed: int) -> Vectors:
    """The axes (F, D) along which centred vectors (N, F) spread most, COMPONENTS of them at most."""
    from sklearn.decomposition import PCA

    rows, width = centred.shape
    if width <= COMPONENTS:
        return np.eye(width, dtype=np.float32)
    pca = PCA(min(COMPONENTS, rows - 1), svd_solver="randomized", random_state=seed % 2**32)
    axes: Vectors = pca.fit(centred).components_.T.astype(np.float32)
    return axes


def nearest(places: Vectors, asked: Vectors) -> Vectors:
    """The distance of each point (B, D) to the NEIGHBOUR-th nearest of places (R, D), (B,)."""
    found = np.full(len(asked), np.inf, np.float32)
    finite = np.flatnonzero(np.isfinite(asked).all(axis=1))
    squares = np.square(places).sum(axis=1)
    for rows in np.split(finite, range(BLOCK, len(finite), BLOCK)):
        own = asked[rows]
        apart = squares - 2 * own @ places.T + np.square(own).sum(axis=1, keepdims=True)
        found[rows] = np.sqrt(np.maximum(np.partition(apart, NEIGHBOUR - 1, axis=1)[:, NEIGHBOUR - 1], 0))
    return found


def conformal(scores: Vectors, false_alarms: float) -> tuple[float, float]:
    """The least of M scores (M,) that a new one exceeds with that probability at most, and the probability.

    Where M is too small for it, the greatest score, which a new one exceeds with probability 1 / (M + 1).
    """
    count = len(scores)
    rank = min(count, math.ceil((count + 1) * (1 - false_alarms)))
    return float(np.sort(scores)[rank - 1]), 1 - rank / (count + 1)


def rounded(array: Vectors) -> Vectors:
    """Numbers as they are saved, so that a model says the same before and after."""
    return array.astype(np.float16).astype(np.float32)


def apart(
    training: NDArray[np.int64], validation: NDArray[np.int64], seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """From the numbers of a bank's values in rows of each (N,), distinct ones to compare with, and others to check.

    Rows without a value, -1, count for nothing. Where validation has no value of its own, as recordings may stand on
    both sides, a fifth of the training's checks: the network knows them, so that more of what is new is turned away.
    """
    known, asked = (np.unique(own[own >= 0]) for own in (training, validation))
    new = np.setdiff1d(asked, known)
    if len(new):
        return known, new
    drawn = np.random.default_rng(seed).permutation(known)
    return np.sort(drawn[len(drawn) // 5 :]), np.sort(drawn[: len(drawn) // 5])


def save_familiarity(folder: Path, by_bank: Mapping[str, Familiarity]) -> None:
    """Write what is familiar of each bank into `folder`; the facts, with the SHA-256 of the arrays, come last."""
    tensors = {f"{bank}/{name}": array for bank, own in by_bank.items() for name, array in arrays(own).items()}
    content = save(tensors)
    facts = {bank: {name: getattr(own, name) for name in NUMBERS} for bank, own in by_bank.items()}
    write_whole(folder / FAMILIARITY, content)
    write_sealed(folder / FACTS, FORMAT, {"banks": facts, "arrays": hashlib.sha256(content).hexdigest()})


def arrays(own: Familiarity) -> dict[str, NDArray[Any]]:
    """What is saved beside NUMBERS."""
    small = {"axes": own.axes.astype(np.float16), "places": own.places.astype(np.float16)}
    return {"mean": own.mean, **small}


def load_familiarity(folder: Path) -> dict[str, Familiarity]:
    """The inverse of `save_familiarity`; InputError where a file is missing, changed or misfits."""
    path = inside(folder, FACTS)
    card = read_sealed(path, FORMAT)
    if not isinstance(card.get("banks"), dict):
        raise InputError(f"{path} must hold facts by bank, got {card.get('banks')!r:.200}")
    content = read_bounded(inside(folder, FAMILIARITY), MOST_BYTES)
    found = hashlib.sha256(content).hexdigest()
    if found != card.get("arrays"):
        raise InputError(f"{folder / FAMILIARITY} must have SHA-256 {card.get('arrays')!r:.80}, got {found}")
    try:
        tensors = load(content)
    except Exception as error:  # a header may name types that numpy has not
        raise InputError(f"{folder / FAMILIARITY} must hold arrays as safetensors: {error}") from error
    return {bank: checked(f"{path}: {bank}", facts, tensors, bank) for bank, facts in card["banks"].items()}


def checked(where: str, facts: object, tensors: Mapping[str, NDArray[Any]], bank: str) -> Familiarity:
    """One bank's Familiarity; InputError, naming `where`, unless facts and arrays are all there and fit each other."""
    if not isinstance(facts, dict) or set(facts) != set(NUMBERS):
        raise InputError(f"{where} must have {', '.join(NUMBERS)}, got {facts!r:.200}")
    if not all(type(facts[name]) is kind and math.isfinite(facts[name]) for name, kind in NUMBERS.items()):
        raise InputError(f"{where} must have finite numbers, got {facts!r:.200}")
    parts = {name: tensors.get(f"{bank}/{name}") for name in ("mean", "axes", "places")}
    mean, axes, places = parts.values()
    if mean is None or axes is None or places is None:
        raise InputError(f"{where} must have arrays mean, axes and places, one is missing")
    shapes = {name: own.shape for name, own in parts.items() if own is not None}
    fits = mean.ndim == 1 and axes.ndim == 2 and places.ndim == 2 and len(axes) == len(mean) <= MOST_FEATURES
    if not fits or places.shape[1] != axes.shape[1] + 2 or len(places) < NEIGHBOUR:
        raise InputError(f"{where} must have mean (F,), axes (F, D) and places (R, D + 2), got {shapes}")
    if not all(own.dtype.kind == "f" and np.isfinite(own).all() for own in (mean, axes, places)):
        raise InputError(f"{where}: arrays must be of finite floats")
    mean, axes, places = (own.astype(np.float32) for own in (mean, axes, places))
    return Familiarity(mean=mean, axes=axes, places=places, **facts)

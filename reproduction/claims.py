"""What the reports say in words of a fusion model's embeddings, measured on one such model.

Intervals are percentiles of a bootstrap that draws whole recordings with replacement, as rows that share a
recording share its audio embedding and are no evidence of their own. They hold the spread over validation rows
alone: training and K-means are not repeated, and a row's silhouette is taken as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmtune.analysis.clusters import MOST_SILHOUETTES, kmeans_labels, silhouettes
from mmtune.analysis.embeddings import COMBINED, sample_rows
from mmtune.data.digits import DIGITS

REPLICATES = 2_000
CLASSES = len(DIGITS)
IMAGE, AUDIO = "image", "audio"

Draws = Mapping[str, NDArray[np.float64]]
"""By name, a statistic as measured, then in each bootstrap replicate, (1 + REPLICATES,)."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A report's statement, and in short what was measured.

    holds: whether every difference that the statement speaks of has its sign, and a 95 % interval without 0.
    """

    claim: str
    source: str
    holds: bool
    measured: str


def embedding_claims(
    labels: NDArray[np.int64], parts: Mapping[str, NDArray[np.float32]], recording: NDArray[np.int64], seed: int = 0
) -> list[Claim]:
    """The claims that can be tested on embeddings (N, E) by part, labels and the numbers of recordings (N,), seeded.

    None where `image` or `audio` is missing, where labels are no digits, and where a digit has fewer than two of the
    rows that silhouettes are taken of.
    """
    rows = sample_rows(len(labels), MOST_SILHOUETTES, seed)
    counts = np.bincount(labels[rows], minlength=CLASSES)
    if not {IMAGE, AUDIO} <= set(parts) or len(counts) > CLASSES or counts.min() < 2:
        return []
    used = {name: parts[name] for name in (IMAGE, AUDIO, COMBINED)}
    draws = bootstrap(labels, used, rows, recording, seed)
    return claims_of(draws)


def bootstrap(
    labels: NDArray[np.int64],
    parts: Mapping[str, NDArray[np.float32]],
    rows: NDArray[np.int64],
    recording: NDArray[np.int64],
    seed: int,
) -> Draws:
    """Of each part silhouette_{part}, over the sampled `rows`, and ari_{part}, over all.

    Of the image also digit_0 to digit_9, the mean silhouettes of its digits, NaN for one without any row."""
    clusters = {name: kmeans_labels(part, seed, CLASSES) for name, part in parts.items()}
    by_row = {name: silhouettes(labels[rows], part[rows]) for name, part in parts.items()}

    def measure(weight: NDArray[np.int64]) -> dict[str, float]:
        digit, own = labels[rows], weight[rows]
        with np.errstate(invalid="ignore"):
            levels = np.bincount(digit, own * by_row[IMAGE], CLASSES) / np.bincount(digit, own, CLASSES)
        return {
            **{f"silhouette_{name}": float(np.average(found, weights=own)) for name, found in by_row.items()},
            **{f"ari_{name}": weighted_ari(labels, found, weight) for name, found in clusters.items()},
            **{f"digit_{number}": level for number, level in enumerate(levels.tolist())},
        }

    measured = [measure(weight) for weight in resampled(recording, seed)]
    return {name: np.array([m[name] for m in measured]) for name in measured[0]}


def resampled(recording: NDArray[np.int64], seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each row (N,) is taken: once as measured, then as its recording is drawn, REPLICATES times."""
    found, index = np.unique(recording, return_inverse=True)
    rng, count = np.random.default_rng(seed), len(found)
    yield np.ones(len(recording), dtype=np.int64)
    for _ in range(REPLICATES):
        yield np.bincount(rng.integers(count, size=count), minlength=count)[index]


def weighted_ari(labels: NDArray[np.int64], clusters: NDArray[np.int64], weight: NDArray[np.int64]) -> float:
    """The adjusted Rand index (Hubert and Arabie 1985) with each row (N,) taken `weight` times."""
    counts = np.bincount(labels * CLASSES + clusters, weight, CLASSES**2).reshape(CLASSES, CLASSES)
    together, of_labels, of_clusters, pairs = (
        float((n * (n - 1)).sum() / 2) for n in (counts, counts.sum(1), counts.sum(0), counts.sum())
    )
    expected = of_labels * of_clusters / pairs
    most = (of_labels + of_clusters) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


def interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of a statistic from its draws; a replicate in which it is not defined is left out."""
    low, high = np.percentile(values[1:][np.isfinite(values[1:])], [2.5, 97.5]).tolist()
    return low, high


def exceeds(draws: Draws, one: str, other: str) -> bool:
    """Whether the interval of a statistic less another one lies above 0."""
    return interval(draws[one] - draws[other])[0] > 0


def cleaner(draws: Draws, one: str, other: str) -> bool:
    """Whether part `one` exceeds the other one by silhouette and by adjusted Rand index."""
    return all(exceeds(draws, f"{score}_{one}", f"{score}_{other}") for score in ("silhouette", "ari"))


def silhouettes_of(draws: Draws, *parts: str) -> str:
    """The silhouette of each part, as measured, in words."""
    return "silhouette " + ", ".join(f"{part} {draws[f'silhouette_{part}'][0]:.3f}" for part in parts)


def claims_of(draws: Draws) -> list[Claim]:
    """The claims. All differences of one must have their sign, so that intervals need no correction (Berger 1982).

    The combined embedding must beat both others on both scores; digit 0 must lie below each of the nine others.
    """
    others = [f"digit_{digit}" for digit in range(1, CLASSES)]
    rank = 1 + sum(draws[name][0] < draws["digit_0"][0] for name in others)
    image = Claim(
        claim="Image clusters are cleaner than audio clusters",
        source="Joshi, section 3; Venkatachalam, section 3; Bajaj, section 3.5",
        holds=cleaner(draws, IMAGE, AUDIO),
        measured=silhouettes_of(draws, IMAGE, AUDIO),
    )
    combined = Claim(
        claim="The combined embedding has the cleanest clusters",
        source="Bajaj, section 3.5",
        holds=cleaner(draws, COMBINED, IMAGE) and cleaner(draws, COMBINED, AUDIO),
        measured=silhouettes_of(draws, IMAGE, AUDIO, COMBINED),
    )
    zero = Claim(
        claim="Digit 0 overlaps more than the other digits in the image embedding",
        source="Venkatachalam, section 3",
        holds=all(exceeds(draws, name, "digit_0") for name in others),
        measured=f"number {rank} of {CLASSES} from the lowest silhouette",
    )
    return [image, combined, zero]

"""What the reports say in words of a fusion model's embeddings, measured on one such model.

Intervals are percentiles of a bootstrap that draws whole recordings with replacement, as rows that share a
recording share its audio embedding and are no evidence of their own. They hold the spread over validation rows
alone: training and K-means are not repeated, and a row's silhouette is taken as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmtune.analysis.clusters import MOST_SILHOUETTES, kmeans_labels, silhouettes
from mmtune.analysis.embeddings import COMBINED, sample_rows
from mmtune.base.errors import InputError
from mmtune.base.rules import CLASSES

REPLICATES = 2_000
IMAGE, AUDIO = "image", "audio"

Draws = Mapping[str, NDArray[np.float64]]
"""By name, a statistic as measured, then in each bootstrap replicate, (1 + REPLICATES,)."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A report's statement and what was seen of it; `sentence` says it with the numbers in `measured`.

    holds: whether every difference that the statement speaks of has its sign, and a 95 % interval without 0.
    """

    claim: str
    source: str
    measured: Mapping[str, float]
    holds: bool
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A difference, its 95 % bootstrap interval, and a two-sided p that is never below 2 / (REPLICATES + 1)."""

    value: float
    low: float
    high: float
    p_value: float

    def __str__(self) -> str:
        value, low, high = (f"{v:+.3f}".replace("-", "\N{MINUS SIGN}") for v in (self.value, self.low, self.high))
        least = " ≤" if self.p_value <= 2 / (REPLICATES + 1) else " ="
        return f"{value} ({low} to {high}, p{least} {self.p_value:.2g})"

    def numbers(self, name: str) -> dict[str, float]:
        """Its four numbers, named {name}, {name}_low, {name}_high and {name}_p."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high, f"{name}_p": self.p_value}


def embedding_claims(
    labels: NDArray[np.int64],
    parts: Mapping[str, NDArray[np.float32]],
    recording: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> list[Claim]:
    """The claims that can be tested on embeddings (N, E) by part and labels (N,), seeded.

    None where `image` or `audio` is missing, where labels are no digits, and where a digit has fewer than two of the
    rows that silhouettes are taken of.
    recording: a number (N,) for each row's recording, else InputError; without it, rows with one audio embedding
    share one.
    """
    rows = sample_rows(len(labels), MOST_SILHOUETTES, seed)
    counts = np.bincount(labels[rows], minlength=CLASSES)
    if not {IMAGE, AUDIO} <= set(parts) or len(counts) > CLASSES or counts.min() < 2:
        return []
    if recording is not None and recording.shape != labels.shape:
        raise InputError(f"recording must number each of the {len(labels)} rows, got shape {recording.shape}")
    _, group = np.unique(parts[AUDIO] if recording is None else recording, axis=0, return_inverse=True)
    used = {name: parts[name] for name in (IMAGE, AUDIO, COMBINED) if name in parts}
    by_row = {name: silhouettes(labels[rows], part[rows]) for name, part in used.items()}
    draws = bootstrap(labels, used, rows, by_row, group.reshape(-1), seed)
    combined = [combined_cleanest(draws)] if COMBINED in used else []
    overlap = overlaps(labels[rows], parts[IMAGE][rows], by_row[IMAGE])
    return [image_cleaner(draws), *combined, zero_overlaps(draws, overlap)]


def bootstrap(
    labels: NDArray[np.int64],
    parts: Mapping[str, NDArray[np.float32]],
    rows: NDArray[np.int64],
    by_row: Mapping[str, NDArray[np.float64]],
    group: NDArray[np.int64],
    seed: int,
) -> Draws:
    """Of each part silhouette_{part}, over the sampled `rows`, and ari_{part}, over all.

    Of the image also digit_0 to digit_9, the mean silhouettes of its digits.
    by_row: the silhouettes of `rows`; group (N,): the number of each row's recording.
    """
    clusters = {name: kmeans_labels(part, seed) for name, part in parts.items()}

    def measure(weight: NDArray[np.int64]) -> dict[str, float]:
        digits = mean_by_label(by_row[IMAGE], labels[rows], weight[rows])
        return {
            **{f"silhouette_{name}": float(np.average(s, weights=weight[rows])) for name, s in by_row.items()},
            **{f"ari_{name}": weighted_ari(labels, own, weight) for name, own in clusters.items()},
            **{f"digit_{digit}": value for digit, value in enumerate(digits.tolist())},
        }

    measured = [measure(weight) for weight in resampled(group, seed)]
    return {name: np.array([m[name] for m in measured]) for name in measured[0]}


def resampled(group: NDArray[np.int64], seed: int) -> Iterator[NDArray[np.int64]]:
    """How often each row (N,) is taken: once as measured, then as its group is drawn, REPLICATES times."""
    rng, groups = np.random.default_rng(seed), int(group.max()) + 1
    yield np.ones(len(group), dtype=np.int64)
    for _ in range(REPLICATES):
        yield np.bincount(rng.integers(groups, size=groups), minlength=groups)[group]


def mean_by_label(
    values: NDArray[np.float64], labels: NDArray[np.int64], weight: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The weighted mean of values (N,) for each label, (10,); NaN for a label without weight."""
    total = np.bincount(labels, weight * values, CLASSES)
    with np.errstate(invalid="ignore"):
        return total / np.bincount(labels, weight, CLASSES)


def weighted_ari(labels: NDArray[np.int64], clusters: NDArray[np.int64], weight: NDArray[np.int64]) -> float:
    """The adjusted Rand index (Hubert and Arabie 1985) with each row (N,) taken `weight` times."""
    counts = np.bincount(labels * CLASSES + clusters, weight, CLASSES**2).reshape(CLASSES, CLASSES)
    together, of_labels, of_clusters, pairs = (
        float((n * (n - 1)).sum() / 2) for n in (counts, counts.sum(1), counts.sum(0), counts.sum())
    )
    expected = of_labels * of_clusters / pairs
    most = (of_labels + of_clusters) / 2
    return 1.0 if most == expected else (together - expected) / (most - expected)


def difference(values: NDArray[np.float64]) -> Difference:
    """A difference from its draws; a replicate in which it is not defined is left out."""
    drawn = values[1:][np.isfinite(values[1:])]
    low, high = np.percentile(drawn, [2.5, 97.5]).tolist()
    tail = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p_value = min(1.0, 2 * (1 + int(tail)) / (1 + len(drawn)))
    return Difference(value=float(values[0]), low=low, high=high, p_value=p_value)


def cleaner(draws: Draws, one: str, other: str) -> tuple[Difference, Difference]:
    """Silhouette and adjusted Rand index of part `one` less those of `other`."""
    silhouette = difference(draws[f"silhouette_{one}"] - draws[f"silhouette_{other}"])
    return silhouette, difference(draws[f"ari_{one}"] - draws[f"ari_{other}"])


def against(draws: Draws, one: str, other: str) -> str:
    """The differences of two parts in words."""
    silhouette, ari = cleaner(draws, one, other)
    first, second, third, fourth = (draws[f"{s}_{p}"][0] for s in ("silhouette", "ari") for p in (one, other))
    return (
        f"{one} against {other}: silhouette {first:.3f} against {second:.3f}, {silhouette}; "
        f"ARI {third:.3f} against {fourth:.3f}, {ari}"
    )


def image_cleaner(draws: Draws) -> Claim:
    """The image embedding's clusters are cleaner than the audio embedding's."""
    silhouette, ari = cleaner(draws, IMAGE, AUDIO)
    return Claim(
        claim="Image clusters are cleaner than audio clusters",
        source="Joshi, section 3; Venkatachalam, section 3; Bajaj, section 3.5",
        measured={**observed(draws, IMAGE, AUDIO), **silhouette.numbers("silhouette"), **ari.numbers("ari")},
        holds=silhouette.low > 0 and ari.low > 0,
        sentence=f"Measured {against(draws, IMAGE, AUDIO)}.",
    )


def combined_cleanest(draws: Draws) -> Claim:
    """The combined embedding's clusters are cleaner than those of the image and of the audio embedding.

    Both must be beaten on both scores, so that the largest of the p-values needs no correction (Berger 1982).
    """
    found = {name: cleaner(draws, COMBINED, name) for name in (IMAGE, AUDIO)}
    numbers = [
        {**silhouette.numbers(f"silhouette_over_{name}"), **ari.numbers(f"ari_over_{name}")}
        for name, (silhouette, ari) in found.items()
    ]
    return Claim(
        claim="The combined embedding has the cleanest clusters",
        source="Bajaj, section 3.5",
        measured={**observed(draws, COMBINED, IMAGE, AUDIO), **numbers[0], **numbers[1]},
        holds=all(one.low > 0 for pair in found.values() for one in pair),
        sentence=f"Measured {'; '.join(against(draws, COMBINED, name) for name in found)}.",
    )


def observed(draws: Draws, *parts: str) -> dict[str, float]:
    """Silhouette and adjusted Rand index of each part, as measured."""
    return {key: float(draws[key][0]) for part in parts for key in (f"silhouette_{part}", f"ari_{part}")}


@dataclass(frozen=True, kw_only=True, eq=False)
class Overlap:
    """By digit, the share of rows that lie nearer to another digit's rows than to their own.

    foreign: the digit whose mean is the nearest foreign one to most rows of digit 0; foreign_share: to how many.
    """

    share: Sequence[float]
    foreign: int
    foreign_share: float


def overlaps(labels: NDArray[np.int64], embedding: NDArray[np.float32], by_row: NDArray[np.float64]) -> Overlap:
    """The overlap of each digit in an embedding (N, E), from labels and silhouettes (N,)."""
    centres = np.stack([embedding[labels == digit].mean(0) for digit in range(CLASSES)])
    zero = embedding[labels == 0]
    nearest = 1 + np.linalg.norm(zero[:, None] - centres[None, 1:], axis=2).argmin(1)
    counts = np.bincount(nearest, minlength=CLASSES)
    share = [float((by_row[labels == digit] < 0).mean()) for digit in range(CLASSES)]
    return Overlap(share=share, foreign=int(counts.argmax()), foreign_share=float(counts.max() / counts.sum()))


def zero_overlaps(draws: Draws, overlap: Overlap) -> Claim:
    """Digit 0 overlaps more with other digits than any of them does, in the image embedding.

    It must lie below each of the nine others; the largest of the nine p-values needs no correction (Berger 1982).
    """
    levels = [float(draws[f"digit_{digit}"][0]) for digit in range(CLASSES)]
    over = {digit: difference(draws[f"digit_{digit}"] - draws["digit_0"]) for digit in range(1, CLASSES)}
    least = min(over, key=lambda digit: levels[digit])
    rank = 1 + sum(level < levels[0] for level in levels[1:])
    others = float(np.mean(overlap.share[1:]))
    return Claim(
        claim="Digit 0 overlaps more than the other digits in the image embedding",
        source="Venkatachalam, section 3",
        measured={
            **{f"silhouette_digit_{digit}": level for digit, level in enumerate(levels)},
            **{f"overlap_digit_{digit}": share for digit, share in enumerate(overlap.share)},
            "rank": rank,
            "foreign_digit": overlap.foreign,
            "foreign_share": overlap.foreign_share,
            **over[least].numbers("difference"),
            "p_value": max(d.p_value for d in over.values()),
        },
        holds=all(d.low > 0 for d in over.values()),
        sentence=(
            f"Measured silhouette of digit 0 {levels[0]:.3f}, number {rank} of {CLASSES} from the lowest; of the "
            f"others digit {least} is lowest with {levels[least]:.3f}, a difference of {over[least]}. "
            f"{100 * overlap.share[0]:.1f} % of digit 0's rows lie nearer to another digit than to their own, of the "
            f"others' rows {100 * others:.1f} % on average; digit {overlap.foreign} is the nearest foreign one to "
            f"{100 * overlap.foreign_share:.0f} % of them."
        ),
    )

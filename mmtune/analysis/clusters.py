"""How well an embedding keeps the classes apart (Joshi, section 3; Bajaj, section 3.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mmtune.analysis.embeddings import sample_rows

MOST_CLUSTERS = 200
"""K-means with more clusters would take longer than what is trained."""
MOST_SILHOUETTES = 4_000
"""Silhouettes compare every row with every other, so more rows than these are sampled."""


def count_classes(labels: NDArray[np.int64]) -> int:
    """How many classes labels (N,) speak of: as many as the greatest says."""
    return int(labels.max(initial=0)) + 1


def kmeans_labels(embedding: NDArray[np.float32], seed: int, clusters: int) -> NDArray[np.int64]:
    """(N, E) float32 to the cluster (N,) of each row, by K-means with as many clusters, or N for fewer rows."""
    from sklearn.cluster import KMeans

    return KMeans(min(clusters, len(embedding)), n_init=3, random_state=seed).fit_predict(embedding).astype(np.int64)


def counted(rows: NDArray[np.int64], columns: NDArray[np.int64], least: int = 0) -> NDArray[np.int64]:
    """How often (N,) whole numbers from 0 stand beside others (N,): a square matrix, `least` wide at least."""
    count = max(least, 1 + int(max(rows.max(), columns.max())))
    return np.bincount(rows * count + columns, minlength=count**2).reshape(count, count)


def cluster_scores(labels: NDArray[np.int64], clusters: NDArray[np.int64]) -> dict[str, float]:
    """Adjusted Rand index, normalised mutual information and purity of clusters against labels.

    Purity is the share of rows whose label is the commonest of their cluster.
    """
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return {
        "ari": float(adjusted_rand_score(labels, clusters)),
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "purity": float(counted(labels, clusters).max(axis=0).sum() / len(labels)),
    }


def name_clusters(labels: NDArray[np.int64], clusters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each row's cluster, renamed to a label (N,): one to one, so that most rows agree (Hungarian method)."""
    from scipy.optimize import linear_sum_assignment

    return np.asarray(linear_sum_assignment(counted(clusters, labels), maximize=True)[1][clusters], dtype=np.int64)


def silhouettes(labels: NDArray[np.int64], embedding: NDArray[np.float32]) -> NDArray[np.float64]:
    """Each row's silhouette (N,) with the rows (N, E) grouped by label (Rousseeuw 1987), in -1..1.

    (b - a) / max(a, b), a the mean distance to the other rows of its label and b the least mean distance to
    another label's rows: below 0 the row lies nearer to another label. Needs 2 labels and a label with 2 rows.
    """
    from sklearn.metrics import silhouette_samples

    return np.asarray(silhouette_samples(embedding, labels), dtype=np.float64)


def silhouette(labels: NDArray[np.int64], embedding: NDArray[np.float32], seed: int = 0) -> float:
    """The mean silhouette by label of a seeded sample of MOST_SILHOUETTES rows at most, within that sample.

    NaN where no silhouette is defined: fewer than two labels, or none that two rows share.
    """
    rows = sample_rows(len(labels), MOST_SILHOUETTES, seed)
    if not 2 <= len(np.unique(labels[rows])) < len(rows):
        return math.nan
    return float(silhouettes(labels[rows], embedding[rows]).mean())


def embedding_scores(
    labels: NDArray[np.int64], parts: Mapping[str, NDArray[np.float32]], seed: int = 0
) -> dict[str, dict[str, float]]:
    """By part, "ari", "nmi" and "purity" of K-means with this seed against labels (N,), and "silhouette" by label.

    K-means makes a cluster for each class. parts: embeddings (N, E) by name, as `embeddings.split_parts` gives them.
    """
    return {
        name: {
            **cluster_scores(labels, kmeans_labels(part, seed, count_classes(labels))),
            "silhouette": silhouette(labels, part, seed),
        }
        for name, part in parts.items()
    }

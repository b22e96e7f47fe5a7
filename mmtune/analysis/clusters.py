"""How well K-means finds the classes in an embedding (Joshi, section 3; Bajaj, section 3.5)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmtune.config import CLASSES


def kmeans_labels(embedding: NDArray[np.float32], seed: int = 0) -> NDArray[np.int64]:
    """(N, E) float32 to the cluster (N,) of each row, by K-means with 10 clusters."""
    from sklearn.cluster import KMeans

    clusters = min(CLASSES, len(embedding))
    return KMeans(clusters, n_init=3, random_state=seed).fit_predict(embedding).astype(np.int64)


def purity(labels: NDArray[np.int64], clusters: NDArray[np.int64]) -> float:
    """The share of rows whose label is the commonest of their cluster."""
    from sklearn.metrics.cluster import contingency_matrix

    return float(contingency_matrix(labels, clusters).max(axis=0).sum() / len(labels))


def cluster_scores(labels: NDArray[np.int64], clusters: NDArray[np.int64]) -> dict[str, float]:
    """Adjusted Rand index, normalised mutual information and purity of clusters against labels."""
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    return {
        "ari": float(adjusted_rand_score(labels, clusters)),
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "purity": purity(labels, clusters),
    }

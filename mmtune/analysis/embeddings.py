"""Embeddings made drawable: two principal components, and clusters named after the labels they cover."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mmtune.config import CLASSES
from mmtune.errors import InputError


def principal_components(embedding: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, E) to its first two principal components (N, 2) and the share of the variance of each (2,).

    Raises InputError where two components are not to be had: N < 3, E < 2, NaN, infinity or no variance at all.
    """
    from sklearn.decomposition import PCA

    rows, width = embedding.shape
    if rows < 3 or width < 2:
        raise InputError(f"principal components need 3 rows of 2 values at least, got {rows} rows of {width}")
    if not np.isfinite(embedding).all():
        raise InputError("principal components need finite values, got NaN or infinity")
    if np.ptp(embedding, axis=0).max() == 0:
        raise InputError(f"principal components need rows that differ, got {rows} equal rows")
    pca = PCA(2, svd_solver="full")
    return pca.fit_transform(embedding.astype(np.float64)), pca.explained_variance_ratio_


def name_clusters(labels: NDArray[np.int64], clusters: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each row's cluster, renamed to a label (N,): one to one, so that most rows agree (Hungarian method)."""
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((CLASSES, CLASSES), dtype=np.int64)
    np.add.at(counts, (clusters, labels), 1)
    return np.asarray(linear_sum_assignment(counts, maximize=True)[1][clusters], dtype=np.int64)


def sample_rows(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """At most `most` of the rows 0..count-1, in order, drawn without replacement."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False)).astype(np.int64)


def by_modality(embedding: NDArray[np.float32], modalities: tuple[str, ...]) -> dict[str, NDArray[np.float32]]:
    """The equal parts of a joined embedding (N, E) by modality, then the whole; if not joined, the whole alone."""
    if len(modalities) < 2:
        return {"".join(modalities) or "model": embedding}
    parts = np.split(embedding, len(modalities), axis=1)
    return {**dict(zip(modalities, parts, strict=True)), "combined": embedding}

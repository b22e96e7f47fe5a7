"""Embeddings taken apart, and made drawable in two or three dimensions."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError

COMBINED = "combined"


def principal_components(embedding: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, E) to its first three principal components (N, 3), two where E is, and the share of the variance of each.

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
    pca = PCA(min(3, width), svd_solver="full")
    return pca.fit_transform(embedding.astype(np.float64)), pca.explained_variance_ratio_


def tsne(embedding: NDArray[np.float32], seed: int = 0) -> NDArray[np.float64]:
    """(N, E) to t-SNE's map (N, 2): PCA start, perplexity 30 or (N - 1) / 3 for few rows (van der Maaten 2008).

    The same seed gives the same map on however many cores. Sizes of groups and distances between far ones mean nothing.
    Raises InputError unless N >= 4, and where `principal_components` does.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    if len(embedding) < 4:
        raise InputError(f"t-SNE needs 4 rows at least, got {len(embedding)}")
    principal_components(embedding)
    perplexity = min(30.0, (len(embedding) - 1) / 3)
    # Several threads give another map, and on a busy machine wait for each other for five times as long.
    with threadpool_limits(1):
        found = TSNE(2, init="pca", perplexity=perplexity, random_state=seed).fit_transform(embedding)
    return np.asarray(found, dtype=np.float64)


def sample_rows(count: int, most: int, seed: int) -> NDArray[np.int64]:
    """At most `most` of the rows 0..count-1, in order, drawn without replacement."""
    if count <= most:
        return np.arange(count, dtype=np.int64)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False)).astype(np.int64)


def split_parts(
    embedding: NDArray[np.float32], parts: Iterable[str], widths: Iterable[int]
) -> dict[str, NDArray[np.float32]]:
    """An embedding (N, E) by the names and widths of what it is the concatenation of, then the whole as "combined".

    A single part is the whole. Raises InputError unless the names differ and the widths are positive and add up to E.
    """
    names, sizes = [str(name) for name in parts], [int(width) for width in widths]
    told = f"got {', '.join(names)} with widths {sizes} for {embedding.shape[1]} values"
    if not names or len(set(names) - {COMBINED}) != len(sizes) or len(names) != len(sizes):
        raise InputError(f"parts must have names of their own and a width each, {told}")
    if min(sizes) < 1 or sum(sizes) != embedding.shape[1]:
        raise InputError(f"widths of parts must add up to the embedding's, {told}")
    split = np.split(embedding, np.cumsum(sizes)[:-1], axis=1)
    found = dict(zip(names, split, strict=True))
    return {**found, COMBINED: embedding} if len(found) > 1 else found

"""The section on embeddings: each part drawn in two ways, and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from mmtune.analysis import clusters
from mmtune.analysis.embeddings import principal_components, sample_rows, split_parts, tsne
from mmtune.analysis.figures.look import shortened
from mmtune.analysis.figures.networks import embedding
from mmtune.base.errors import InputError
from mmtune.report.gallery import SEEN
from mmtune.study import StudyKey
from mmtune.tracking import TrialRun
from mmtune.tracking.runs import read_tag

SEED = "mmtune.seed"
# t-SNE of 1,000 rows takes two seconds for each part, which is most of what a whole page takes.
MOST_POINTS, MOST_TSNE_POINTS = 2_000, 300

Arrays = Mapping[str, NDArray[Any]]


def embedding_section(best: TrialRun, validation: Arrays, key: StudyKey, names: Sequence[str]) -> dict[str, Any]:
    """Pictures and scores of each part of the embedding that can be drawn.

    validation: row, label, prediction (N,), embedding (N, E); the names and widths of its parts (P,).
    """
    # The trial's own seed gives the very clusters that its tracked scores speak of.
    seed = (read_tag(best, SEED, int, "a whole number") if SEED in best.tags else key.seed) % 2**32
    parts = split_parts(validation["embedding"], validation["parts"], validation["widths"])

    def drawn(name: str) -> dict[str, Any]:
        return not_drawn(name, SEEN) if key.of_all_folds else part_pictures(name, parts[name], validation, seed, names)

    # What takes long in t-SNE and K-means leaves Python's lock alone. Limits within threads are set and taken back for
    # the whole process, in whatever order they end; under this one there is nothing to take back.
    with threadpool_limits(1), ThreadPoolExecutor() as pool:
        pictures = list(pool.map(drawn, parts))
    return {
        "parts": pictures,
        "seed": seed,
        "rows": [] if all(own["refused"] for own in pictures) else drawn_rows(len(validation["label"]), seed),
        "clusters": clusters.count_classes(validation["label"]),
        "most_points": MOST_POINTS,
        "most_tsne": MOST_TSNE_POINTS,
        "most_silhouettes": clusters.MOST_SILHOUETTES,
    }


def drawn_rows(count: int, seed: int) -> list[int]:
    """The places of `count` validation rows that are drawn, those of t-SNE first."""
    found = [sample_rows(count, most, seed).tolist() for most in (MOST_TSNE_POINTS, MOST_POINTS)]
    return list(dict.fromkeys(place for own in found for place in own))


def part_pictures(
    name: str, part: NDArray[np.float32], validation: Arrays, seed: int, names: Sequence[str]
) -> dict[str, Any]:
    """One part by label and by cluster, in principal components and by t-SNE; `refused` says why it is not drawn."""
    labels = validation["label"]
    if len(names) > clusters.MOST_CLUSTERS:
        return not_drawn(name, f"{len(names)} classes, more than {clusters.MOST_CLUSTERS}, hide each other")
    try:
        points, explained = principal_components(part)
        few = sample_rows(len(labels), MOST_TSNE_POINTS, seed)
        mapped = tsne(part[few], seed)
    except InputError as error:
        return not_drawn(name, str(error))
    found = clusters.kmeans_labels(part, seed, clusters.count_classes(labels))
    scores = clusters.cluster_scores(labels, found) | {"silhouette": clusters.silhouette(labels, part, seed)}
    named = clusters.name_clusters(labels, found)
    rows = sample_rows(len(labels), MOST_POINTS, seed)
    shares = [f"component {i + 1} ({100 * share:.1f} % of the variance)" for i, share in enumerate(explained)]
    drawn = {
        "PCA": (points[rows], rows, shares),
        "t-SNE": (mapped, few, ("t-SNE 1", "t-SNE 2")),
    }
    pairs = {method: label_and_cluster(*own, validation, named, names) for method, own in drawn.items()}
    told = {"name": name, "refused": "", "width": part.shape[1], "turns": len(shares) > 2}
    return {**told, "pairs": pairs, "scores": scores}


def not_drawn(name: str, why: str) -> dict[str, Any]:
    """A part that there is no picture of."""
    return {"name": name, "refused": why, "turns": False}


def label_and_cluster(
    points: NDArray[np.float64],
    rows: NDArray[np.int64],
    titles: Sequence[str],
    validation: Arrays,
    named: NDArray[np.int64],
    names: Sequence[str],
) -> dict[str, Any]:
    """The same points (n, 2) or (n, 3), which are `rows` (n,), coloured by label and by cluster."""
    labels = validation["label"][rows]
    told = zip(validation["row"][rows], labels, validation["prediction"][rows], named[rows], strict=True)
    said = [shortened(name) for name in names]
    hover = np.array([f"row {r}: {said[d]}, predicted {said[p]}, cluster {said[c]}" for r, d, p, c in told])
    own = validation["row"][rows]
    return {
        "labels": embedding(points, labels, titles, hover, names, own),
        "clusters": embedding(points, named[rows], titles, hover, names, own),
    }

"""Scores of clusters against labels, held to their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from mmtune.analysis import clusters as module
from mmtune.analysis.clusters import (
    cluster_scores,
    embedding_scores,
    kmeans_labels,
    name_clusters,
    silhouette,
    silhouettes,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(3)


def blobs(rng: np.random.Generator, rows: int = 200) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    labels = np.arange(rows) % 10
    centres = 20 * np.eye(10, 16)
    return (centres[labels] + rng.normal(0, 0.3, (rows, 16))).astype(np.float32), labels


def test_purity_is_what_the_commonest_labels_add_up_to(rng: np.random.Generator) -> None:
    labels, clusters = rng.integers(0, 10, 300), rng.integers(0, 6, 300)
    by_hand = sum(np.bincount(labels[clusters == c]).max() for c in range(6)) / 300
    assert cluster_scores(labels, clusters)["purity"] == pytest.approx(by_hand)


def test_purity_counts_a_cluster_once_for_each_row_of_its_commonest_label() -> None:
    assert cluster_scores(np.array([0, 0, 1, 1, 1]), np.array([4, 4, 4, 2, 2]))["purity"] == pytest.approx(4 / 5)


def test_separate_blobs_are_found_whatever_the_clusters_are_called(rng: np.random.Generator) -> None:
    embedding, labels = blobs(rng)
    found = cluster_scores(labels, kmeans_labels(embedding, 0, 10))
    assert found == pytest.approx({"ari": 1.0, "nmi": 1.0, "purity": 1.0})


def test_renaming_clusters_changes_no_score(rng: np.random.Generator) -> None:
    labels, clusters = rng.integers(0, 10, 400), rng.integers(0, 10, 400)
    renamed = rng.permutation(10)[clusters]
    assert cluster_scores(labels, renamed) == pytest.approx(cluster_scores(labels, clusters))


def test_unrelated_clusters_agree_by_chance_alone(rng: np.random.Generator) -> None:
    found = cluster_scores(rng.integers(0, 10, 5000), rng.integers(0, 10, 5000))
    assert abs(found["ari"]) < 0.01
    assert found["nmi"] < 0.02
    assert 0.1 <= found["purity"] < 0.2


def test_same_seed_same_clusters(rng: np.random.Generator) -> None:
    embedding = rng.normal(size=(150, 8)).astype(np.float32)
    first, second = (kmeans_labels(embedding, 5, 10) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.int64
    assert set(first) == set(range(10))


def test_fewer_rows_than_classes_get_a_cluster_each(rng: np.random.Generator) -> None:
    assert sorted(kmeans_labels(rng.normal(size=(4, 8)).astype(np.float32), 0, 10)) == [0, 1, 2, 3]


def test_more_classes_than_digits_get_a_cluster_each(rng: np.random.Generator) -> None:
    labels = np.arange(260) % 26
    embedding = (20 * np.eye(26)[labels] + rng.normal(0, 0.3, (260, 26))).astype(np.float32)
    found = embedding_scores(labels, {"image": embedding})["image"]
    assert (found["ari"], found["purity"]) == pytest.approx((1.0, 1.0))


def by_hand(labels: NDArray[np.int64], embedding: NDArray[np.float32], row: int) -> float:
    """Rousseeuw's definition for one row."""
    distance = np.linalg.norm(embedding.astype(np.float64) - embedding[row], axis=1)
    others = [distance[labels == label].mean() for label in np.unique(labels) if label != labels[row]]
    own = distance[labels == labels[row]]
    a, b = own.sum() / (len(own) - 1), min(others)
    return float((b - a) / max(a, b))


def test_silhouettes_are_rousseeuws(rng: np.random.Generator) -> None:
    labels, embedding = rng.integers(0, 4, 60), rng.normal(size=(60, 5)).astype(np.float32)
    found = silhouettes(labels, embedding)
    assert found == pytest.approx([by_hand(labels, embedding, row) for row in range(60)], abs=1e-5)
    assert silhouette(labels, embedding) == pytest.approx(found.mean())


def test_the_silhouette_of_many_rows_is_that_of_a_seeded_sample(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding, labels = blobs(rng, 1000)
    embedding += rng.normal(0, 8, embedding.shape).astype(np.float32)
    whole = silhouette(labels, embedding)
    monkeypatch.setattr(module, "MOST_SILHOUETTES", 300)
    sampled = [silhouette(labels, embedding, seed) for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]
    assert sampled == pytest.approx([whole] * 3, abs=0.05)


@pytest.mark.parametrize("labels", [np.zeros(5, np.int64), np.arange(5)])
def test_a_silhouette_that_has_no_meaning_is_not_a_number(labels: NDArray[np.int64]) -> None:
    assert math.isnan(silhouette(labels, np.eye(5, dtype=np.float32)))


def test_scores_of_parts_rank_the_parts_as_they_were_made(rng: np.random.Generator) -> None:
    clean, labels = blobs(rng, 400)
    noisy = clean + rng.normal(0, 10, clean.shape).astype(np.float32)
    found = embedding_scores(labels, {"image": clean, "audio": noisy}, seed=4)
    assert list(found["audio"]) == ["ari", "nmi", "purity", "silhouette"]
    assert all(found["image"][name] > found["audio"][name] for name in found["image"])
    tracked = cluster_scores(labels, kmeans_labels(noisy, 4, 10))
    assert {name: found["audio"][name] for name in tracked} == tracked


def test_renamed_labels_are_recognised() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 500)
    np.testing.assert_array_equal(name_clusters(labels, rng.permutation(10)[labels]), labels)


def test_no_other_one_to_one_naming_agrees_better() -> None:
    rng = np.random.default_rng(1)
    labels, clusters = rng.integers(0, 10, 500), rng.integers(0, 10, 500)
    named = name_clusters(labels, clusters)
    assert len({(int(c), int(n)) for c, n in zip(clusters, named, strict=True)}) == 10
    others = [np.mean(rng.permutation(10)[clusters] == labels) for _ in range(500)]
    assert np.mean(named == labels) >= max(others)


def test_more_classes_than_digits_are_named_too() -> None:
    labels = np.arange(260) % 26
    np.testing.assert_array_equal(name_clusters(labels, (labels + 7) % 26), labels)

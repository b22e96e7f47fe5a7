"""Scores of clusters against labels, held to their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mmtune.analysis.clusters import cluster_scores, kmeans_labels, purity


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
    assert purity(labels, clusters) == pytest.approx(by_hand)


def test_purity_counts_a_cluster_once_for_each_row_of_its_commonest_label() -> None:
    assert purity(np.array([0, 0, 1, 1, 1]), np.array([4, 4, 4, 2, 2])) == pytest.approx(4 / 5)


def test_separate_blobs_are_found_whatever_the_clusters_are_called(rng: np.random.Generator) -> None:
    embedding, labels = blobs(rng)
    found = cluster_scores(labels, kmeans_labels(embedding))
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
    first, second = kmeans_labels(embedding, seed=5), kmeans_labels(embedding, seed=5)
    np.testing.assert_array_equal(first, second)
    assert first.dtype == np.int64
    assert set(first) == set(range(10))


def test_fewer_rows_than_classes_get_a_cluster_each(rng: np.random.Generator) -> None:
    assert sorted(kmeans_labels(rng.normal(size=(4, 8)).astype(np.float32))) == [0, 1, 2, 3]

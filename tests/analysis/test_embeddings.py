"""Principal components, cluster names and samples, held to their laws."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from mmtune.analysis.embeddings import by_modality, name_clusters, principal_components, sample_rows
from mmtune.errors import InputError


def test_components_are_those_of_the_singular_value_decomposition() -> None:
    embedding = load_digits().data[:300].astype(np.float32)
    points, explained = principal_components(embedding)
    centred = embedding.astype(np.float64) - embedding.mean(0, dtype=np.float64)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(points), np.abs(left[:, :2] * values[:2]), atol=1e-6)
    np.testing.assert_allclose(explained, values[:2] ** 2 / (values**2).sum(), rtol=1e-8)


@pytest.mark.parametrize(
    ("embedding", "rule"),
    [
        (np.zeros((2, 8)), "got 2 rows of 8"),
        (np.zeros((50, 1)), "got 50 rows of 1"),
        (np.full((50, 8), np.nan), "got NaN or infinity"),
        (np.ones((50, 8)), "got 50 equal rows"),
    ],
)
def test_what_has_no_two_components_is_refused(embedding: np.ndarray, rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        principal_components(embedding.astype(np.float32))


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


@pytest.mark.parametrize(("count", "most"), [(5, 10), (10, 10), (1000, 10)])
def test_a_sample_holds_different_rows_in_order(count: int, most: int) -> None:
    rows = sample_rows(count, most, seed=4)
    assert len(rows) == min(count, most)
    assert np.all(np.diff(rows) > 0)
    assert rows.min() >= 0
    assert rows.max() < count
    np.testing.assert_array_equal(rows, sample_rows(count, most, seed=4))


def test_parts_of_a_joined_embedding_join_again() -> None:
    joined = np.random.default_rng(2).normal(size=(7, 128)).astype(np.float32)
    parts = by_modality(joined, ("image", "audio"))
    assert list(parts) == ["image", "audio", "combined"]
    np.testing.assert_array_equal(np.hstack([parts["image"], parts["audio"]]), joined)
    np.testing.assert_array_equal(by_modality(joined, ())["model"], joined)

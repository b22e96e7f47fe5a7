"""Principal components, cluster names and samples, held to their laws."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.manifold import trustworthiness
from threadpoolctl import threadpool_limits

from mmtune.analysis.embeddings import (
    principal_components,
    sample_rows,
    split_parts,
    tsne,
)
from mmtune.base.errors import InputError


def test_components_are_those_of_the_singular_value_decomposition() -> None:
    embedding = load_digits().data[:300].astype(np.float32)
    points, explained = principal_components(embedding)
    centred = embedding.astype(np.float64) - embedding.mean(0, dtype=np.float64)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(points), np.abs(left[:, :3] * values[:3]), atol=1e-6)
    np.testing.assert_allclose(explained, values[:3] ** 2 / (values**2).sum(), rtol=1e-8)
    assert principal_components(embedding[:, 20:22])[0].shape == (300, 2)


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


@pytest.mark.parametrize(("count", "most"), [(5, 10), (10, 10), (1000, 10)])
def test_a_sample_holds_different_rows_in_order(count: int, most: int) -> None:
    rows = sample_rows(count, most, seed=4)
    assert len(rows) == min(count, most)
    assert np.all(np.diff(rows) > 0)
    assert rows.min() >= 0
    assert rows.max() < count
    np.testing.assert_array_equal(rows, sample_rows(count, most, seed=4))


def test_tsne_keeps_neighbours_better_than_principal_components_and_follows_its_seed() -> None:
    embedding = load_digits().data[:250].astype(np.float32)
    points, again = tsne(embedding, seed=3), tsne(embedding, seed=3)
    np.testing.assert_array_equal(points, again)
    assert points.shape == (250, 2)
    kept = [trustworthiness(embedding, found) for found in (points, principal_components(embedding)[0])]
    assert kept[0] > max(0.95, kept[1])


def test_tsne_is_the_same_on_one_thread_and_on_several() -> None:
    rng = np.random.default_rng(0)
    centres, noise = rng.normal(size=(10, 40)), 0.3 * rng.normal(size=(400, 40))
    embedding = (centres[rng.integers(0, 10, 400)] + noise).astype(np.float32)
    with threadpool_limits(2):
        found = tsne(embedding)
    with threadpool_limits(1):
        np.testing.assert_array_equal(tsne(embedding), found)


def test_tsne_takes_few_rows_and_equal_rows() -> None:
    few = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    assert np.isfinite(tsne(few)).all()
    repeated = np.repeat(np.random.default_rng(1).normal(size=(6, 3)), 20, axis=0).astype(np.float32)
    assert np.isfinite(tsne(repeated)).all()


def test_too_few_rows_for_tsne_are_refused() -> None:
    with pytest.raises(InputError, match="needs 4 rows at least, got 3"):
        tsne(np.zeros((3, 4), np.float32))


def test_parts_of_any_width_join_again() -> None:
    joined = np.random.default_rng(2).normal(size=(7, 9)).astype(np.float32)
    parts = split_parts(joined, np.array(["image", "audio", "x2"]), np.array([4, 3, 2]))
    assert list(parts) == ["image", "audio", "x2", "combined"]
    assert [part.shape[1] for part in parts.values()] == [4, 3, 2, 9]
    np.testing.assert_array_equal(np.hstack([parts[name] for name in ("image", "audio", "x2")]), parts["combined"])
    single = split_parts(joined, ["image"], [9])
    assert list(single) == ["image"]
    np.testing.assert_array_equal(single["image"], joined)


@pytest.mark.parametrize(
    ("parts", "widths"),
    [
        (["image"], [8]),
        (["image", "audio"], [4, 4]),
        (["image", "audio"], [9]),
        (["image", "image"], [4, 5]),
        (["image", "combined"], [4, 5]),
        (["image", "audio"], [10, -1]),
        ([], []),
    ],
)
def test_parts_that_do_not_make_the_whole_are_refused(parts: list[str], widths: list[int]) -> None:
    with pytest.raises(InputError, match=r"got .* for 9 values") as refusal:
        split_parts(np.zeros((5, 9), np.float32), parts, widths)
    assert "\n" not in str(refusal.value)

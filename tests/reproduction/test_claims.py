"""Claims hold on embeddings that were made to bear them out, fail on others, and say what was measured."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from mmtune.analysis.clusters import embedding_scores, silhouettes
from mmtune.analysis.embeddings import split_parts
from reproduction import claims as module
from reproduction.claims import Claim, bootstrap, embedding_claims, interval, resampled, weighted_ari

ROWS = 600
LABELS = np.arange(ROWS) % 10


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPLICATES", 300)


def made(
    image: float, audio: float, clips: int = 20, scale: float = 1.0, zero: float = 0.0, seed: int = 0
) -> dict[str, NDArray[np.float32]]:
    """Embeddings with as much noise as told, around a centre for each digit; `clips` recordings of each digit.

    scale: how much louder the image part is; zero: how far digit 0's centre is drawn in among the others.
    """
    rng = np.random.default_rng(seed)
    centres = 10 * np.eye(10)
    centres[0] = (1 - zero) * centres[0] + zero * centres.mean(0)
    clip = LABELS * clips + rng.integers(clips, size=ROWS)
    heard = 10 * np.eye(10)[np.repeat(np.arange(10), clips)] + rng.normal(0, audio, (10 * clips, 10))
    seen = scale * (centres[LABELS] + rng.normal(0, image, (ROWS, 10)))
    joined = np.hstack([seen, heard[clip]]).astype(np.float32)
    return split_parts(joined, ("image", "audio"), (10, 10))


def recordings(parts: dict[str, NDArray[np.float32]]) -> NDArray[np.int64]:
    return np.unique(parts["audio"], axis=0, return_inverse=True)[1].reshape(-1)


def told(parts: dict[str, NDArray[np.float32]], labels: NDArray[np.int64] = LABELS) -> list[Claim]:
    return embedding_claims(labels, parts, recordings(parts))


def test_cleaner_images_are_found_to_be_so_and_with_their_silhouettes() -> None:
    parts = made(image=1.5, audio=5.0)
    image, combined, zero = told(parts)
    assert image.holds
    scores = {name: own["silhouette"] for name, own in embedding_scores(LABELS, parts).items()}
    assert image.measured == f"silhouette image {scores['image']:.3f}, audio {scores['audio']:.3f}"
    assert combined.measured == f"{image.measured}, combined {scores['combined']:.3f}"
    assert not combined.holds
    assert not zero.holds
    assert "section 3" in image.source


def test_cleaner_sounds_are_not_taken_for_cleaner_images() -> None:
    assert not told(made(image=5.0, audio=1.5))[0].holds


def test_two_parts_alike_are_no_claim() -> None:
    assert not told(made(image=3.0, audio=3.0, clips=60))[0].holds


def test_two_noisy_parts_make_a_cleaner_whole() -> None:
    assert told(made(image=4.5, audio=4.5, clips=60))[1].holds


def test_a_digit_among_the_others_is_found() -> None:
    zero = told(made(image=2.0, audio=2.0, zero=0.9))[2]
    assert zero.holds
    assert zero.measured == "number 1 of 10 from the lowest silhouette"


def test_another_digit_among_the_others_does_not_make_zero_overlap() -> None:
    zero = told(made(image=2.0, audio=2.0, zero=0.9), (LABELS + 3) % 10)[2]
    assert not zero.holds
    assert "number 1 " not in zero.measured


def width(parts: dict[str, NDArray[np.float32]], group: NDArray[np.int64], seed: int = 0) -> float:
    draws = bootstrap(LABELS, parts, np.arange(ROWS), group, seed)
    low, high = interval(draws["silhouette_image"] - draws["silhouette_audio"])
    return high - low


def test_repeated_recordings_widen_the_interval() -> None:
    few = made(image=3.0, audio=3.0, clips=3)
    shared = recordings(few)
    assert width(few, shared) > 1.5 * width(few, np.arange(ROWS))
    assert width(few, shared, seed=5) == width(few, shared, seed=5) != width(few, shared, seed=6)


@pytest.mark.parametrize("gone", ["image", "audio"])
def test_a_model_of_one_modality_has_no_such_claims(gone: str) -> None:
    parts = {name: part for name, part in made(1, 1).items() if name != gone}
    assert embedding_claims(LABELS, parts, np.arange(ROWS)) == []


@pytest.mark.parametrize("labels", [np.minimum(LABELS, 8), np.arange(ROWS) % 26])
def test_without_the_ten_digits_there_are_no_claims(labels: NDArray[np.int64]) -> None:
    assert told(made(1, 1), labels) == []


# ---- what they are made of


def test_weights_of_one_give_scikit_learns_index_and_weights_repeat_rows() -> None:
    rng = np.random.default_rng(1)
    labels, clusters, weight = (rng.integers(0, 10, 200), rng.integers(0, 10, 200), rng.integers(0, 4, 200))
    assert weighted_ari(labels, clusters, np.ones(200, int)) == pytest.approx(adjusted_rand_score(labels, clusters))
    oracle = adjusted_rand_score(np.repeat(labels, weight), np.repeat(clusters, weight))
    assert weighted_ari(labels, clusters, weight) == pytest.approx(oracle)
    assert weighted_ari(labels, labels, weight) == pytest.approx(1.0)
    assert weighted_ari(np.zeros(9, int), np.zeros(9, int), np.ones(9, int)) == 1.0


def test_levels_of_digits_are_means_of_their_silhouettes() -> None:
    parts = made(image=3.0, audio=3.0)
    draws = bootstrap(LABELS, parts, np.arange(ROWS), np.arange(ROWS), seed=0)
    by_row = silhouettes(LABELS, parts["image"])
    assert [draws[f"digit_{d}"][0] for d in range(10)] == pytest.approx([by_row[d == LABELS].mean() for d in range(10)])


def test_whole_groups_are_drawn_as_often_as_there_are_groups() -> None:
    group = np.array([7, 7, 1, 2, 2, 2, 3])
    drawn = list(resampled(group, seed=0))
    assert drawn[0].tolist() == [1] * 7
    assert len(drawn) == 301
    for weight in drawn:
        times = {g: set(weight[group == g].tolist()) for g in (7, 1, 2, 3)}
        assert all(len(own) == 1 for own in times.values())
        assert sum(own.pop() for own in times.values()) == 4
    assert np.mean(drawn[1:]) == pytest.approx(1, abs=0.1)


def test_the_interval_of_a_mean_is_about_students() -> None:
    rng = np.random.default_rng(4)
    values = rng.normal(0.2, 1, 200)
    draws = np.array([np.average(values, weights=w) for w in resampled(np.arange(200), seed=1)])
    half = 1.96 * values.std(ddof=1) / np.sqrt(200)
    assert interval(draws) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05)

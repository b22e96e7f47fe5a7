"""What may go wrong: each is what a plain computation of it gives, stays a value of its bank, and draws alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from mmtune.train.batches import as_input
from mmtune.train.corruptions import BATCH, OUTLIER, Corruption, blurred, corrupted, corruptions_of, stored

RATE, ROWS = 16_000, 24


def made(kind: str, rows: int = ROWS) -> Tensor:
    """Stored values of a kind of bank."""
    rng = np.random.default_rng(7)
    values = {
        "grey": lambda: rng.integers(0, 256, (rows, 28, 28)).astype(np.uint8),
        "colour": lambda: rng.integers(0, 256, (rows, 3, 12, 9)).astype(np.uint8),
        "frames": lambda: rng.normal(size=(rows, 5, 8, 6)).astype(np.float32),
        "wave": lambda: (3000 * rng.normal(size=(rows, 4000))).astype(np.int16),
        "features": lambda: rng.normal(2, 3, (rows, 39, 13)).astype(np.float32),
        "vector": lambda: rng.normal(1, [1, 5, 20], (rows, 3)).astype(np.float32),
    }
    return torch.from_numpy(values[kind]())


KINDS = ("grey", "colour", "frames", "wave", "features", "vector")


def named(values: Tensor, name: str) -> Corruption:
    return next(own for own in corruptions_of(values) if own.name == name)


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_gone_wrong_is_a_value_of_its_bank_and_no_other_is_touched(kind: str) -> None:
    values = made(kind)
    before, state = values.clone(), torch.random.get_rng_state()
    for own in corruptions_of(values):
        assert list(own.levels) == sorted(own.levels, reverse=own.unit == "dB SNR")
        for level in own.levels:
            found = corrupted(values, own, level, 3)
            assert (found.dtype, found.shape) == (values.dtype, values.shape)
            assert found.float().isfinite().all()
            changed = (found != values).flatten(1).any(1)
            # Of a row's few numbers it may be that none is missing.
            assert changed.any() if own.name == "gaps" else changed.all(), own.name
            assert torch.equal(found, corrupted(values, own, level, 3))
    assert torch.equal(values, before)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_draws_otherwise_and_a_stronger_level_lies_further_away(kind: str) -> None:
    values = made(kind)
    own = named(values, "noise")
    assert not torch.equal(corrupted(values, own, own.levels[1], 3), corrupted(values, own, own.levels[1], 4))
    far = [float((corrupted(values, own, x, 3).double() - values.double()).square().mean()) for x in own.levels]
    assert far == sorted(far)


@pytest.mark.parametrize("kind", KINDS)
def test_an_outlier_is_a_value_of_its_bank_of_one_seed_and_disturbs_nobody(kind: str) -> None:
    values = made(kind)
    before, state = values.clone(), torch.random.get_rng_state()
    found = corrupted(values, OUTLIER, 100.0, 3)
    assert (found.dtype, found.shape) == (values.dtype, values.shape)
    assert (found != values).flatten(1).any(1).float().mean() > 0.8
    assert torch.equal(found, corrupted(values, OUTLIER, 100.0, 3))
    assert not torch.equal(found, corrupted(values, OUTLIER, 100.0, 4))
    assert torch.equal(values, before)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_stored_comes_back_from_what_a_network_gets(kind: str) -> None:
    values = made(kind)
    assert torch.equal(stored(as_input(values), values), values)


def test_a_blur_is_scipys() -> None:
    pictures = as_input(made("colour"))
    for deviation in (0.5, 1.3, 2.0):
        expected = gaussian_filter(
            pictures.numpy().astype(float),
            (0, 0, deviation, deviation),
            mode="constant",
            radius=math.ceil(3 * deviation),
        )
        np.testing.assert_allclose(blurred(pictures, deviation).numpy(), expected, atol=1e-5)


def test_a_turn_back_is_no_turn_and_the_middle_stays() -> None:
    pictures = torch.zeros(8, 1, 9, 9)
    pictures[:, :, 4, 4], pictures[:, :, 4, 7] = 1.0, 1.0
    own = named((255 * pictures).to(torch.uint8), "rotation")
    found = own.apply(pictures, 90.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found[:, 0, 4, 4], torch.ones(8))
    ends = found[:, 0, 1, 4] + found[:, 0, 7, 4]
    torch.testing.assert_close(ends, torch.ones(8))


def test_a_shift_of_pictures_is_so_many_pixels_on_either_axis() -> None:
    pictures = torch.rand(16, 1, 20, 10)
    own = named(made("grey"), "shift")
    found = own.apply(pictures, 0.1, torch.Generator().manual_seed(0))
    moves = [(down, right) for down in (-2, 2) for right in (-1, 1)]
    rolled = torch.stack([pictures.roll(move, (2, 3)) for move in moves])[:, :, :, 2:-2, 1:-1]
    apart = (rolled - found[:, :, 2:-2, 1:-1]).abs().amax((2, 3, 4))
    assert (apart.amin(0) < 1e-5).all()
    assert len(apart.argmin(0).unique()) > 1, "the direction is drawn"


def test_noise_of_a_waveform_has_the_ratio_that_is_told_and_padding_does_not_count() -> None:
    sounding = as_input(made("wave"))
    for waves in (sounding, torch.cat([sounding, torch.zeros(ROWS, 12_000)], 1)):
        quiet = 0.1 * waves
        found = named(made("wave"), "noise").apply(quiet, 10.0, torch.Generator().manual_seed(0))
        power = quiet.square().sum(1) / (quiet != 0).sum(1)
        ratio = 10 * (power / (found - quiet).square().mean(1)).log10()
        torch.testing.assert_close(ratio, torch.full((ROWS,), 10.0), rtol=0, atol=0.3)


def test_gain_leaves_of_a_waveform_what_sixteen_bits_hold() -> None:
    values = made("wave")
    found = corrupted(values, named(values, "gain"), 40.0, 0)
    assert torch.equal(found, (values.float() / 100).round().to(torch.int16))


def test_a_shift_of_a_waveform_is_so_many_samples_and_silence_comes_in() -> None:
    values = made("wave")
    found = corrupted(values, named(values, "shift"), 0.05, 0)
    later, sooner = (torch.zeros_like(values) for _ in range(2))
    later[:, 800:], sooner[:, :-800] = values[:, :-800], values[:, 800:]
    each = [
        bool(torch.equal(row, a)) + 2 * bool(torch.equal(row, b))
        for row, a, b in zip(found, later, sooner, strict=True)
    ]
    assert set(each) == {1, 2}


def test_a_room_comes_after_the_sound_and_is_as_loud() -> None:
    waves = torch.zeros(ROWS, 8000)
    waves[:, 100] = 0.5
    found = named(made("wave"), "room").apply(waves, 0.2, torch.Generator().manual_seed(0))
    scale = found[:, 100] / 0.5
    assert not found[:, :99].abs().max() > 1e-4
    after = (found[:, 101:] / scale.unsqueeze(1)).square().sum(1)
    torch.testing.assert_close(after, torch.full((ROWS,), 0.25), rtol=0.05, atol=0)


def test_padding_of_features_stays_padding() -> None:
    values = made("features")
    values[::2, 30:] = 0
    for own in corruptions_of(values):
        found = corrupted(values, own, own.levels[-1], 1)
        assert not found[::2, 30:].any()
        assert found[:, :30].any()


def test_gain_of_features_is_so_many_deviations_at_all_steps() -> None:
    values = made("features")
    difference = corrupted(values, named(values, "gain"), 0.5, 1) - values
    expected = 0.5 * values.flatten(0, 1).std(0, correction=0)
    torch.testing.assert_close(difference.abs(), expected.expand_as(difference), rtol=1e-3, atol=1e-3)
    assert (difference.amin((1, 2)) * difference.amax((1, 2)) > 0).all()


def test_so_many_numbers_are_missing_which_is_their_mean_and_no_other_changes() -> None:
    values = torch.randn(4000, 5, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 3, 5)
    own = named(values, "gaps")
    for level in own.levels:
        found = corrupted(values, own, level, 2)
        gone = found != values
        torch.testing.assert_close(found[gone], values.mean(0).expand_as(values)[gone])
        five_sigma = 5 * math.sqrt(level * (1 - level) / values.numel())
        assert float(gone.float().mean()) == pytest.approx(level, abs=five_sigma)


def test_noise_does_not_repeat_from_part_to_part() -> None:
    values = torch.zeros(2 * BATCH, 3)
    values[0] = 1.0
    difference = corrupted(values, named(values, "noise"), 1.0, 0) - values
    assert not torch.equal(difference[:BATCH], difference[BATCH:])


def test_of_what_is_of_no_kind_nothing_goes_wrong() -> None:
    assert corruptions_of(torch.zeros(3, 2, 5, dtype=torch.int16)) == ()

"""What is drawn stays within what is asked; what is done with it is what a plain loop or torch's own would do."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from mmtune.base.errors import InputError
from mmtune.networks.inputs import valid_steps
from mmtune.networks.shapes import Shape
from mmtune.train.augmentations import PictureAugmentation, SoundAugmentation, VectorAugmentation
from mmtune.train.distort import (
    LONGEST,
    alike,
    delayed,
    either_way,
    erased,
    masked,
    moved,
    part_of,
    rectangle,
    stretch,
    up_to,
    warped,
)

ROWS = 400
PICTURE, WAVE, FEATURES, VECTOR = (2, 9, 14), (50,), (11, 5), (6,)
EACH: list[tuple[Any, Shape]] = [
    (PictureAugmentation(shift=0.3), PICTURE),
    (PictureAugmentation(rotate=40), PICTURE),
    (PictureAugmentation(scale=0.5), PICTURE),
    (PictureAugmentation(erase=0.6), PICTURE),
    *((SoundAugmentation(**{name: 0.5}), WAVE) for name in ("shift", "gain", "noise", "time_mask")),
    *((SoundAugmentation(**{name: 0.5}), FEATURES) for name in ("shift", "mel_shift", "gain", "noise")),
    *((SoundAugmentation(**{name: 0.5}), FEATURES) for name in ("frequency_mask", "time_mask")),
    (VectorAugmentation(noise=0.5), VECTOR),
    (VectorAugmentation(gaps=0.5), VECTOR),
]
ALL: list[tuple[Any, Shape]] = [
    (PictureAugmentation(shift=0.1, rotate=15, scale=0.2, erase=0.3), PICTURE),
    (SoundAugmentation(shift=0.1, gain=6, noise=0.2, time_mask=0.2), WAVE),
    (SoundAugmentation(shift=0.3, mel_shift=0.4, gain=1, noise=1, frequency_mask=0.5, time_mask=0.5), FEATURES),
    (VectorAugmentation(noise=0.5, gaps=0.3), VECTOR),
]


def values(shape: Shape, rows: int = ROWS) -> Tensor:
    """In [.1, .9], none of them zero."""
    return 0.1 + 0.8 * torch.rand(rows, *shape, generator=torch.Generator().manual_seed(sum(shape)))


def changed(own: Any, given: Tensor, seed: int = 1, training: Tensor | None = None) -> Tensor:
    change = own.build(tuple(given.shape[1:]), lambda: given if training is None else training)
    torch.manual_seed(seed)
    return change(given)


def names(case: object) -> str:
    """What a configuration asks for, without what it leaves alone."""
    asked = vars(case).items() if hasattr(case, "build") else ()
    return " ".join([type(case).__name__, *(f"{name}={value}" for name, value in asked if value)])


@pytest.mark.parametrize(("own", "shape"), ALL, ids=names)
def test_nothing_that_is_asked_changes_nothing_and_draws_nothing(own: Any, shape: Shape) -> None:
    given, change = values(shape), type(own)().build(shape, lambda: values(shape))
    before = torch.get_rng_state()
    assert torch.equal(change(given), given)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("own", "shape"), [*EACH, *ALL], ids=names)
def test_a_seed_says_what_comes_of_values_which_stay_as_they_are(own: Any, shape: Shape) -> None:
    given = values(shape)
    found = changed(own, given)
    assert torch.equal(given, values(shape))
    assert torch.equal(found, changed(own, given))
    assert not torch.equal(found, changed(own, given, seed=2))
    assert (found.dtype, found.shape, found.is_contiguous()) == (torch.float32, given.shape, True)
    assert found.isfinite().all()


@pytest.mark.parametrize(("own", "shape"), EACH, ids=names)
def test_every_field_changes_each_row_in_its_own_way(own: Any, shape: Shape) -> None:
    alone = values(shape, 1)
    found = changed(own, alone.expand(ROWS, *shape).contiguous(), training=values(shape))
    assert len(found.unique(dim=0)) > 3


@pytest.mark.parametrize(("down", "right"), [(0, 0), (2, -3), (-9, 0), (0, 13), (-1, 20)])
def test_a_shift_by_whole_pixels_is_a_roll_with_zeros(down: int, right: int) -> None:
    given = values(PICTURE, 3)
    height, width = PICTURE[1:]
    wide = torch.zeros(3, 2, 3 * height, 3 * width)
    wide[:, :, height : 2 * height, width : 2 * width] = given
    expected = wide.roll((down, right), (2, 3))[:, :, height : 2 * height, width : 2 * width]
    found = warped(given, torch.zeros(3), torch.ones(3), torch.full((3,), float(down)), torch.full((3,), float(right)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("quarters", [0, 1, 2, -1])
def test_quarter_turns_are_those_of_torch(quarters: int) -> None:
    given, none = values((3, 8, 8), 2), torch.zeros(2)
    found = warped(given, torch.full((2,), quarters * math.pi / 2), torch.ones(2), none, none)
    torch.testing.assert_close(found, given.rot90(quarters, (2, 3)), rtol=0, atol=1e-5)


def test_a_picture_twice_as_large_is_that_of_torch() -> None:
    given, none = values((1, 6, 10), 2), torch.zeros(2)
    found = warped(given, none, torch.full((2,), 2.0), none, none)
    large = torch.nn.functional.interpolate(given, scale_factor=2, mode="bilinear")
    torch.testing.assert_close(found, large[:, :, 3:9, 5:15], rtol=0, atol=1e-5)


def test_turned_scaled_and_shifted_is_an_affine_grid_of_the_inverse() -> None:
    given, count = values(PICTURE, 5), 5
    height, width = PICTURE[1:]
    turn, factor = torch.linspace(-3, 3, count), torch.linspace(0.6, 1.7, count)
    down, right = torch.linspace(-4, 4, count), torch.linspace(3, -3, count)
    to_pixels = torch.diag(torch.tensor([width / 2, height / 2, 1.0]))
    theta = []
    for row in range(count):
        cos, sin = factor[row] * turn[row].cos(), factor[row] * turn[row].sin()
        forth = torch.tensor([[cos, sin, right[row]], [-sin, cos, down[row]], [0, 0, 1]])
        theta.append((to_pixels.inverse() @ forth.inverse() @ to_pixels)[:2])
    grid = affine_grid(torch.stack(theta), list(given.shape), align_corners=False)
    expected = grid_sample(given, grid, align_corners=False)
    torch.testing.assert_close(warped(given, turn, factor, down, right), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("share", [0.05, 0.4, 1.0])
def test_a_rectangle_is_within_the_picture_and_its_share_and_is_erased(share: float) -> None:
    given = values((3, 20, 12))
    top, left, height, width = rectangle(share, given)
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 20).all()
    assert (left + width <= 12).all()
    assert (height * width <= share * 20 * 12).all()
    assert (height * width).max() > share * 20 * 12 / 2
    found = erased(given, top, left, height, width)
    assert torch.equal((found == 0).flatten(1).sum(1), 3 * height * width)
    for row in range(10):
        inside = found[row, :, top[row] : top[row] + height[row], left[row] : left[row] + width[row]]
        assert not inside.any()
    assert torch.equal(found[found != 0], given[found != 0])


def test_a_rectangle_has_the_sides_of_its_paper() -> None:
    _, _, height, width = rectangle(0.3, torch.empty(ROWS, 1, 300, 300))
    ratio = ((height + 1) / width).maximum((width + 1) / height)[(height > 9) & (width > 9)]
    assert ratio.min() < 1.3
    assert LONGEST / 1.3 < ratio.max() < LONGEST * 1.1


def test_numbers_go_either_way_and_places_up_to_the_last() -> None:
    torch.manual_seed(3)
    drawn = either_way(0.7, torch.empty(ROWS))
    assert drawn.abs().max() <= 0.7
    assert drawn.min() < -0.6
    assert drawn.max() > 0.6
    assert up_to(alike(4, torch.empty(ROWS))).unique().tolist() == [0, 1, 2, 3, 4]
    assert part_of(0.25, alike(11, torch.empty(ROWS))).unique().tolist() == [-2, -1, 0, 1, 2]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.34, 1.0])
def test_a_mask_is_of_every_width_up_to_its_share_and_never_more(share: float) -> None:
    torch.manual_seed(3)
    lengths = torch.arange(1, 30).repeat_interleave(ROWS)
    first, width = stretch(share, lengths)
    assert ((first >= 0) & (first + width <= lengths)).all()
    for length in (1, 10, 29):
        found = width[lengths == length].unique().tolist()
        assert found == list(range(int(share * length) + 1))


@pytest.mark.parametrize(("shape", "dim"), [(WAVE, 1), (FEATURES, 1), (FEATURES, 2)])
def test_masked_places_are_those_and_no_others(shape: Shape, dim: int) -> None:
    given = values(shape)
    first, width = stretch(1.0, alike(shape[dim - 1], given))
    found = masked(given, first, width, dim, torch.tensor(-1.0))
    for row in range(0, ROWS, 9):
        expected = given[row].clone()
        expected.narrow(dim - 1, int(first[row]), int(width[row])).fill_(-1)
        assert torch.equal(found[row], expected)


def test_a_later_waveform_is_a_roll_with_zeros() -> None:
    given = values(WAVE, 5)
    for row, by in enumerate((-7, -1, 0, 3, 7)):
        found = delayed(given, torch.full((5,), by), 7)[row]
        expected = given[row].roll(by)
        expected[:by] = 0 if by > 0 else expected[:by]
        expected[len(expected) + by :] = 0 if by < 0 else expected[len(expected) + by :]
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dim", [1, 2])
def test_moved_features_continue_the_ends_of_their_length(dim: int) -> None:
    given, by = values(FEATURES, 5), torch.tensor([-4, -1, 0, 2, 4])
    lengths = torch.tensor([5, 4, 3, 5, 2])
    found = moved(given, by, lengths, dim)
    for row in range(5):
        for place in range(given.shape[dim]):
            source = min(max(place - int(by[row]), 0), int(lengths[row]) - 1)
            assert torch.equal(found[row].select(dim - 1, place), given[row].select(dim - 1, source))


@pytest.mark.parametrize("noise", [0.01, 0.1, 1.0])
def test_noise_has_the_signal_to_noise_ratio_that_is_asked_for(noise: float) -> None:
    loudness, samples = torch.tensor([[0.001], [0.01], [0.1]]), 20_000
    given = loudness * values((samples,), 3)
    added = changed(SoundAugmentation(noise=noise), given) - given
    ratio = 10 * (given.square().mean(1) / added.square().mean(1)).log10()
    five_sigma = 5 * 10 / math.log(10) * math.sqrt(2 / samples)
    torch.testing.assert_close(ratio, torch.full((3,), -20 * math.log10(noise)), rtol=0, atol=five_sigma)


def test_silence_gets_no_noise() -> None:
    assert not changed(SoundAugmentation(noise=1.0), torch.zeros(4, *WAVE)).any()


def test_gain_multiplies_a_whole_waveform_by_as_many_decibels_at_most() -> None:
    given = 0.1 * values(WAVE)
    decibels = 20 * (changed(SoundAugmentation(gain=6), given) / given).log10()
    assert decibels.std(1).max() < 1e-4
    assert decibels.abs().max() <= 6 + 1e-4
    assert decibels.min() < -5.5
    assert decibels.max() > 5.5


def test_a_waveform_stays_where_16_bits_have_it() -> None:
    given = torch.cat([values(WAVE), -values(WAVE)])
    found = changed(SoundAugmentation(gain=60, noise=1.0), given)
    assert found.min() == -1
    assert found.max() == 32767 / 32768


@pytest.mark.parametrize(
    ("own", "shape"), [(SoundAugmentation(noise=0.3), FEATURES), (VectorAugmentation(noise=0.5), VECTOR)]
)
def test_noise_is_in_deviations_of_the_training_values(own: Any, shape: Shape) -> None:
    scale = torch.logspace(-3, 3, shape[-1])
    training, given = scale * values(shape), scale * values(shape, 9000)
    added = changed(own, given, training=training) - given
    over = tuple(range(len(shape)))
    count = added.numel() / shape[-1]
    ratio = added.std(over) / training.std(over, correction=0)
    torch.testing.assert_close(ratio, torch.full_like(ratio, own.noise), rtol=5 / math.sqrt(2 * count), atol=0)


def test_gaps_are_the_mean_of_the_training_values_and_so_many() -> None:
    scale = torch.logspace(-3, 3, *VECTOR)
    training, given = scale * values(VECTOR), scale * values(VECTOR, 9000)
    found = changed(VectorAugmentation(gaps=0.3), given, training=training)
    gone = found != given
    torch.testing.assert_close(found[gone], training.mean(0).expand_as(given)[gone])
    assert float(gone.float().mean()) == pytest.approx(0.3, abs=5 * math.sqrt(0.3 * 0.7 / given.numel()))


def test_gain_of_features_adds_as_many_deviations_at_most_at_all_steps() -> None:
    training = torch.logspace(-3, 3, FEATURES[1]) * values(FEATURES)
    added = (changed(SoundAugmentation(gain=0.5), training) - training) / training.std((0, 1), correction=0)
    torch.testing.assert_close(added, added[:, :1, :1].expand_as(added), rtol=0, atol=1e-4)
    assert 0.45 < added.abs().max() <= 0.5 + 1e-4


def padded(shape: Shape = FEATURES) -> Tensor:
    """Sequences of every length, zeros behind."""
    given = values(shape, 12 * shape[0])
    lengths = 1 + torch.arange(len(given)) % shape[0]
    return given * (torch.arange(shape[0]) < lengths.unsqueeze(1)).unsqueeze(2)


def test_padding_stays_padding_and_counts_for_nothing() -> None:
    given = padded()
    found = changed(ALL[2][0], given)
    assert torch.equal(valid_steps(found), valid_steps(given))
    assert not torch.equal(found, given)
    longer = torch.nn.functional.pad(given, (0, 0, 0, 7))
    own = SoundAugmentation(shift=0.5, mel_shift=0.5, gain=1.0, frequency_mask=0.5, time_mask=0.5)
    torch.testing.assert_close(changed(own, longer)[:, : FEATURES[0]], changed(own, given))


def test_a_mask_of_features_is_their_mean_over_all_steps_but_padding() -> None:
    given = padded()
    found = changed(SoundAugmentation(time_mask=1.0), given)
    where = (found != given).any(2)
    mean = given[valid_steps(given)].mean(0)
    torch.testing.assert_close(found[where], mean.expand(int(where.sum()), -1))
    assert where.any()


RUBBISH = [
    (lambda: PictureAugmentation(shift=1.5), "shift must be a number from 0 to 1, got 1.5"),
    (lambda: PictureAugmentation(rotate=-1), "rotate must be a number from 0 to 180, got -1"),
    (lambda: PictureAugmentation(scale=math.nan), "scale must be a number from 0 to 4, got nan"),
    (lambda: SoundAugmentation(gain="6"), "gain must be a number from 0 to 60, got '6'"),
    (lambda: VectorAugmentation(noise=True), "noise must be a number from 0 to 10, got True"),
    (lambda: changed(PictureAugmentation(), values(WAVE)), r"PictureAugmentation must be given a picture.*\(50,\)"),
    (lambda: changed(SoundAugmentation(), values(PICTURE)), r"SoundAugmentation must be given a wave.*\(2, 9, 14\)"),
    (lambda: changed(VectorAugmentation(), values(FEATURES)), r"must be given a vector \(width,\), got.*\(11, 5\)"),
    (lambda: changed(SoundAugmentation(mel_shift=0.1), values(WAVE)), "mel_shift must be 0 for a waveform.*got 0.1"),
    (lambda: changed(SoundAugmentation(frequency_mask=0.2), values(WAVE)), "frequency_mask must be 0.*got 0.2"),
    (
        lambda: changed(SoundAugmentation(gain=1), values(WAVE) + 1),
        r"a waveform must lie in \[-1, 1\).*got 1\.",
    ),
    (lambda: changed(SoundAugmentation(noise=1), values(WAVE) / 0), r"must lie in \[-1, 1\).*got inf"),
]


@pytest.mark.parametrize(("make", "rule"), RUBBISH, ids=[rule for _, rule in RUBBISH])
def test_rubbish_is_one_line_with_the_rule_and_the_value(make: Any, rule: str) -> None:
    with pytest.raises(InputError, match=rule) as refused:
        make()
    assert "\n" not in str(refused.value)


def test_a_bank_without_a_value_to_train_on_has_no_loudest_sound() -> None:
    nothing = torch.zeros(0, 800)
    for own in (SoundAugmentation(gain=6), SoundAugmentation(noise=0.1)):
        own.build((800,), lambda: nothing)
    with pytest.raises(InputError, match="must lie in"):
        SoundAugmentation(gain=6).build((800,), lambda: torch.full((1, 800), 3.0))

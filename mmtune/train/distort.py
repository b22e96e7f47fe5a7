"""What augmentations do to a batch of one bank: pictures, sounds and vectors.

What is drawn and what is done with it are apart: functions that take places, angles and widths draw nothing. As for all
of `mmtune.train.augment`, numbers are drawn on the values' device and nothing waits for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, pad

from mmtune.base.errors import InputError
from mmtune.networks.inputs import valid_steps
from mmtune.networks.shapes import Shape, require_kind
from mmtune.train.augmentations import PictureAugmentation, SoundAugmentation, VectorAugmentation
from mmtune.train.batches import LOUDEST

Distort = Callable[[Tensor], Tensor]
Values = Callable[[], Tensor]
LONGEST = 1 / 0.3
"""Of an erased rectangle, how many times as long one side is as the other at most (Zhong et al., 2020)."""


def of_pictures(own: PictureAugmentation, shape: Shape) -> Distort:
    """`PictureAugmentation.build`."""
    require_kind(own, shape, 3)
    _, height, width = shape

    def distort(pictures: Tensor) -> Tensor:
        if own.rotate or own.scale or own.shift:
            turn = either_way(math.radians(own.rotate), pictures)
            factor = either_way(math.log1p(own.scale), pictures).exp()
            down, right = (side * either_way(own.shift, pictures) for side in (height, width))
            pictures = warped(pictures, turn, factor, down, right)
        if own.erase:
            pictures = erased(pictures, *rectangle(own.erase, pictures))
        return pictures

    return distort


def warped(pictures: Tensor, turn: Tensor, factor: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Pictures (B, C, H, W) turned, scaled by `factor`, then moved by so many pixels, each (B,); zeros from outside.

    turn: radians against the clock. The grid is `affine_grid`'s, made of rows and columns in a tenth of its time.
    """
    height, width = pictures.shape[2:]
    x, y = (places(n, pictures) - (n - 1) / 2 for n in (width, height))
    x, y = (x - right.unsqueeze(1)) / factor.unsqueeze(1), (y - down.unsqueeze(1)) / factor.unsqueeze(1)
    cos, sin = turn.cos().unsqueeze(1), turn.sin().unsqueeze(1)
    from_x = (x * cos * (2 / width)).unsqueeze(1) - (y * sin * (2 / width)).unsqueeze(2)
    from_y = (x * sin * (2 / height)).unsqueeze(1) + (y * cos * (2 / height)).unsqueeze(2)
    return grid_sample(pictures, torch.stack([from_x, from_y], 1).movedim(1, 3), align_corners=False)


def rectangle(share: float, pictures: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, left, height and width, (B,) int64, of a rectangle of at most that share of pictures (B, C, H, W)."""
    sides = pictures.shape[2:]
    area = torch.rand(len(pictures), device=pictures.device) * (share * math.prod(sides))
    ratio = either_way(math.log(LONGEST), pictures).exp()
    height, width = ((area * by).sqrt().long().clamp(max=n) for by, n in zip((ratio, 1 / ratio), sides, strict=True))
    return up_to(sides[0] - height), up_to(sides[1] - width), height, width


def erased(pictures: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Pictures (B, C, H, W) with zeros in a rectangle of each."""
    rows, columns = within(top, height, pictures.shape[2]), within(left, width, pictures.shape[3])
    return pictures.masked_fill((rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1), 0.0)


def of_sounds(own: SoundAugmentation, shape: Shape, values: Values) -> Distort:
    """`SoundAugmentation.build`."""
    require_kind(own, shape, 1, 2)
    return of_features(own, values) if len(shape) == 2 else of_waves(own, shape[0], values)


def of_waves(own: SoundAugmentation, samples: int, values: Values) -> Distort:
    """For waveforms (B, samples)."""
    for name in ("mel_shift", "frequency_mask"):
        if getattr(own, name):
            raise InputError(f"{name} must be 0 for a waveform (samples,), got {getattr(own, name)}")
    if own.gain or own.noise:
        require_waves(values())
    most = int(own.shift * samples)

    def distort(waves: Tensor) -> Tensor:
        lengths = alike(samples, waves)
        if own.shift:
            waves = delayed(waves, up_to(2 * alike(most, waves)) - most, most)
        if own.gain:
            waves = waves * (10 ** (either_way(own.gain, waves) / 20)).unsqueeze(1)
        if own.noise:
            waves = noisy(waves, own.noise * waves.square().mean(1, keepdim=True).sqrt())
        if own.time_mask:
            waves = masked(waves, *stretch(own.time_mask, lengths), 1, waves.new_zeros(()))
        return waves.clamp(-1, 1 - 1 / LOUDEST) if own.gain or own.noise else waves

    return distort


def require_waves(values: Tensor) -> None:
    """Raise InputError unless values lie in [-1, 1]."""
    loudest = max(map(abs, map(float, torch.aminmax(values)))) if len(values) else 0.0
    if not loudest <= 1:
        raise InputError(f"a waveform must lie in [-1, 1) for gain and noise, got {loudest:g}")


def delayed(waves: Tensor, by: Tensor, most: int) -> Tensor:
    """Waveforms (B, S), each later by so many samples, (B,) int64 in [-most, most]; zeros come in."""
    count, samples = waves.shape
    padded = pad(waves, (most, most))
    starts = torch.arange(count, device=waves.device) * padded.shape[1] + most - by
    # Every window is a view: a row is copied at once, where a gather would take 20 times as long.
    return padded.view(-1).unfold(0, samples, 1).index_select(0, starts)


def of_features(own: SoundAugmentation, values: Values) -> Distort:
    """For features over time (B, T, F)."""
    if own == SoundAugmentation():
        return lambda features: features
    mean, deviation, padded = moments(values())

    def distort(features: Tensor) -> Tensor:
        valid = valid_steps(features) if padded else None
        steps = alike(features.shape[1], features) if valid is None else valid.sum(1)
        bands = alike(features.shape[2], features)
        if own.shift:
            features = moved(features, part_of(own.shift, steps), steps, 1)
        if own.mel_shift:
            features = moved(features, part_of(own.mel_shift, bands), bands, 2)
        if own.gain:
            features = features + per_row(either_way(own.gain, features), features) * deviation
        if own.noise:
            features = noisy(features, own.noise * deviation)
        if own.frequency_mask:
            features = masked(features, *stretch(own.frequency_mask, bands), 2, mean)
        if own.time_mask:
            features = masked(features, *stretch(own.time_mask, steps), 1, mean)
        return features if valid is None else features * valid.unsqueeze(2)

    return distort


def moments(values: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Mean and deviation (F,) of features (m, T, F) over all steps but padding, and whether any have padding."""
    padded = bool((values[:, -1] == 0).all(1).any())
    steps = values[valid_steps(values)] if padded else values.flatten(0, 1)
    variance, mean = torch.var_mean(steps, dim=0, correction=0)
    return mean, variance.sqrt(), padded


def moved(values: Tensor, by: Tensor, lengths: Tensor, dim: int) -> Tensor:
    """(B, T, F), each later by so many places along `dim`, (B,) int64; the ends of its length (B,) are continued."""
    index = (torch.arange(values.shape[dim], device=values.device) - by.unsqueeze(1)).clamp(min=0)
    index = index.minimum(lengths.unsqueeze(1) - 1)
    return values.gather(dim, index.unsqueeze(3 - dim).expand_as(values))


def masked(values: Tensor, first: Tensor, width: Tensor, dim: int, fill: Tensor) -> Tensor:
    """(B, ...) with `fill` in `width` places from `first` on along `dim`, both (B,)."""
    # A plain number would be copied from the host to the device, which no CUDA graph can hold.
    inside = within(first, width, values.shape[dim])
    return torch.where(inside.view(len(inside), *(-1 if n == dim else 1 for n in range(1, values.ndim))), fill, values)


def noisy(values: Tensor, deviation: Tensor) -> Tensor:
    """Values and Gaussian noise of a deviation that fits their shape."""
    return torch.addcmul(values, torch.randn_like(values), deviation)


def of_vectors(own: VectorAugmentation, shape: Shape, values: Values) -> Distort:
    """`VectorAugmentation.build`."""
    if len(shape) != 1:
        raise InputError(f"VectorAugmentation must be given a vector (width,), got values of shape {shape}")
    if not own.noise and not own.gaps:
        return lambda vectors: vectors
    training = values()
    deviation, mean = own.noise * training.std(0, correction=0), training.mean(0)

    def change(vectors: Tensor) -> Tensor:
        found = noisy(vectors, deviation) if own.noise else vectors
        return torch.where(torch.rand_like(found) < own.gaps, mean, found) if own.gaps else found

    return change


def either_way(most: float, like: Tensor) -> Tensor:
    """(B,) float32 from -most to most; zeros, of which none is drawn, where that is 0."""
    if not most:
        return torch.zeros(len(like), device=like.device)
    return (2 * torch.rand(len(like), device=like.device) - 1) * most


def up_to(most: Tensor) -> Tensor:
    """(B,) int64 from 0 to `most` (B,) int64, each as likely."""
    # In float32 a product may be rounded up to most + 1.
    return (torch.rand(len(most), dtype=torch.float64, device=most.device) * (most + 1)).long()


def part_of(share: float, lengths: Tensor) -> Tensor:
    """(B,) int64 of at most that share of lengths (B,), either way."""
    most = (share * lengths).long()
    return up_to(2 * most) - most


def stretch(share: float, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """First place and width, (B,) int64, of a stretch within lengths (B,), of at most that share of them."""
    width = up_to((share * lengths).long())
    return up_to(lengths - width), width


def within(first: Tensor, width: Tensor, count: int) -> Tensor:
    """Which of `count` places are among `width` from `first` on, (B, count) bool."""
    n = torch.arange(count, device=first.device)
    return (n >= first.unsqueeze(1)) & (n < (first + width).unsqueeze(1))


def places(count: int, like: Tensor) -> Tensor:
    """0, 1, ... as (count,) float32."""
    return torch.arange(count, dtype=torch.float32, device=like.device)


def alike(length: int, like: Tensor) -> Tensor:
    """The same length for every row, (B,) int64."""
    return torch.full((len(like),), length, device=like.device)


def per_row(numbers: Tensor, like: Tensor) -> Tensor:
    """(B,) in a shape that multiplies (B, ...) row by row."""
    return numbers.view(-1, *[1] * (like.ndim - 1))

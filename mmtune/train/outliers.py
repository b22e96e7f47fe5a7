"""Values that are of no class, made of a batch's own: what a network is to learn nothing of, and to say nothing of.

Outlier exposure (Hendrycks, Mazeika and Dietterich, "Deep anomaly detection with outlier exposure", 2019), with no data
but those that are trained on. Every kind is made of pictures (B, C, H, W); features over time are pictures, waveforms
and vectors are pictures of one row. As in `mmtune.train.augment`, numbers are drawn on the values' device and nothing
waits for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.fft import fftfreq, irfft2, rfft2, rfftfreq
from torch.nn.functional import grid_sample, interpolate

from mmtune.train.distort import per_row, places

MOST_PIECES = 6
BACKWARDS = 0.3
"""Of the pieces."""
FADE = 0.005
"""Of a side, within which a piece begins and ends: a waveform that jumps would be told by its clicks alone."""
LEAST_BEND, MOST_BEND = 0.15, 0.5
"""Of half a side, the deviation by which places are moved."""
KNOTS = 4
"""Along each side, between which a bend is smooth."""
STEEPEST = 3.0
"""By which power of the frequency a noise's power falls, from 0 on."""
FAINTEST, LOUDEST = 0.05, 0.5
"""Deviations of noises and waves, as shares of what a value reaches from its least to its most."""
LEAST = 1e-12


def outliers(values: Tensor, others: Tensor) -> Tensor:
    """For each of values (B, ...) an outlier of a kind that is drawn, of its shape and between its extremes.

    others (B, ...): what each may be mixed with. Of a single number there is no outlier: it stays.
    """
    pictures, beside = as_pictures(values), as_pictures(others)
    made = torch.stack([kind(pictures, beside) for kind in KINDS])
    each = torch.arange(len(values), device=values.device)
    found = made[torch.randint(len(KINDS), (len(values),), device=values.device), each]
    least, most = extremes(pictures)
    return found.maximum(least).minimum(most).view(values.shape)


def as_pictures(values: Tensor) -> Tensor:
    """Values (B, ...) as (B, C, H, W)."""
    while values.ndim < 4:
        values = values.unsqueeze(1)
    return values.flatten(1, -3)


def extremes(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the most number of each picture, (B, 1, 1, 1)."""
    least, most = torch.aminmax(pictures.flatten(1), dim=1)
    return per_row(least, pictures), per_row(most, pictures)


def in_pieces(pictures: Tensor, others: Tensor) -> Tensor:
    """Cut along each side into pieces that change places; each is of the picture or of the other, some go backwards."""
    for dim in (2, 3):
        count, shape = pictures.shape[dim], [len(pictures), *(-1 if n == dim else 1 for n in (1, 2, 3))]
        if count > 1:
            source, own, level = (part.view(shape) for part in pieces(count, pictures))
            source = source.expand_as(pictures)
            pictures = torch.where(own, pictures.gather(dim, source), others.gather(dim, source)) * level
    return pictures


def pieces(count: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each of `count` places where it is taken from, whether of the value itself, and how loud, (B, count) each."""
    rows, device, most = len(like), like.device, min(MOST_PIECES, count)
    many = torch.randint(2, most + 1, (rows, 1), device=device)
    beyond = torch.arange(most, device=device) >= many
    order = torch.rand(rows, most, device=device).masked_fill(beyond, 2.0).argsort(1)
    at = places(count, like) * many / count
    piece = at.long()
    length = count / many
    within = (at - piece) * length
    backwards, own = torch.rand(2, rows, most, device=device)
    within = torch.where(backwards.gather(1, piece) < BACKWARDS, length - 1 - within, within)
    source = (order.gather(1, piece) * length + within).round().long().clamp(0, count - 1)
    level = ((within + 1).minimum(length - within) / (FADE * count)).clamp(0, 1)
    return source, own.gather(1, piece) < 0.5, level


def bent(pictures: Tensor, others: Tensor) -> Tensor:
    """Places moved by smooth fields, too far for a shape to survive."""
    rows, _, height, width = pictures.shape
    field = torch.randn(rows, 2, min(KNOTS, height), min(KNOTS, width), device=pictures.device)
    field = interpolate(field, (height, width), mode="bicubic", align_corners=False)
    field = field * (LEAST_BEND + (MOST_BEND - LEAST_BEND) * drawn(pictures))
    x, y = ((2 * places(count, pictures) + 1) / count - 1 for count in (width, height))
    grid = torch.stack([x + field[:, 0], y.unsqueeze(1) + field[:, 1]], dim=3)
    return grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def together(pictures: Tensor, others: Tensor) -> Tensor:
    """Two over each other."""
    return pictures + others


def scattered(pictures: Tensor, others: Tensor) -> Tensor:
    """Noise that has the picture's spectrum."""
    white = rfft2(torch.randn_like(pictures))
    return irfft2(rfft2(pictures) * white / white.abs().clamp(min=LEAST), s=pictures.shape[2:])


def noise(pictures: Tensor, others: Tensor) -> Tensor:
    """Noise whose power falls with the frequency."""
    shape = pictures.shape[2:]
    falling = frequencies(pictures).clamp(min=1 / max(shape)) ** (-STEEPEST / 2 * drawn(pictures))
    return as_loud(irfft2(rfft2(torch.randn_like(pictures)) * falling, s=shape), pictures)


def waves(pictures: Tensor, others: Tensor) -> Tensor:
    """A wave: stripes of any direction, a tone."""
    height, width = pictures.shape[2:]
    longest = max(height, width)
    angle, phase = math.pi * drawn(pictures) * (height > 1), 2 * math.pi * drawn(pictures)
    cycles = (drawn(pictures) * math.log(max(2.0, longest / 2))).exp()
    x, y = places(width, pictures), places(height, pictures).unsqueeze(1)
    along = (angle.cos() * x + angle.sin() * y) / longest
    return as_loud((2 * math.pi * cycles * along + phase).sin().expand_as(pictures), pictures)


def drawn(pictures: Tensor) -> Tensor:
    """(B, 1, 1, 1) from 0 to 1."""
    return per_row(torch.rand(len(pictures), device=pictures.device), pictures)


def frequencies(pictures: Tensor) -> Tensor:
    """Of each number of a spectrum (H, W // 2 + 1), in cycles from one place to the next."""
    height, width = pictures.shape[2:]
    down, across = fftfreq(height, device=pictures.device), rfftfreq(width, device=pictures.device)
    return torch.hypot(down.unsqueeze(1), across)


def as_loud(made: Tensor, pictures: Tensor) -> Tensor:
    """Made pictures with a deviation, and about a middle, that those they replace may have."""
    least, most = extremes(pictures)
    # A picture has a middle of its own; a waveform swings about 0.
    middle = least + (most - least) * (drawn(pictures) if pictures.shape[2] > 1 else 0.5)
    deviation = made.std((1, 2, 3), correction=0, keepdim=True).clamp(min=LEAST)
    wanted = (most - least) * (FAINTEST + (LOUDEST - FAINTEST) * drawn(pictures))
    return middle + made * (wanted / deviation)


KINDS: tuple[Callable[[Tensor, Tensor], Tensor], ...]
KINDS = (in_pieces, in_pieces, bent, bent, together, scattered, noise, waves)
"""Twice what is most like the values themselves."""

"""What may go wrong with the values of a bank, at fixed strengths, so that what it costs a network can be measured.

Values come and go as a data set stores them, so that what has gone wrong is what a file could have become: a picture of
8 bits, a waveform of 16. All that is drawn comes from a generator of the CPU that is given: a training's own goes on
undisturbed, and one seed is the same noise, and the same direction, at every strength and on every device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.fft import rfft
from torch.nn.functional import conv2d

from mmtune.data.media.recordings import SAMPLE_RATE
from mmtune.networks.inputs import valid_steps
from mmtune.networks.randomness import CPU, Randomness
from mmtune.train.acoustics import echoing, filtered, unclipped
from mmtune.train.batches import LOUDEST, as_input
from mmtune.train.distort import alike, delayed, moments, moved, per_row, warped
from mmtune.train.outliers import outliers

BATCH = 256
REACH = 3
"""So many deviations a Gaussian blur reaches."""

Apply = Callable[[Tensor, float, Generator], Tensor]


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """A way to go wrong. levels: its strengths in `unit`, mild to strong.

    apply: of values (B, *shape) as a network gets them, a level, and where to draw from, as many values.
    """

    name: str
    unit: str
    levels: tuple[float, ...]
    apply: Apply


def corruptions_of(values: Tensor) -> tuple[Corruption, ...]:
    """What may go wrong with a bank, by the kind of its stored values (M, ...), M >= 1; () for what is of no kind.

    16-bit samples are a waveform at 16 kHz. Of other values deviations and range are those of these values.
    """
    if values.dtype == torch.int16:
        return of_waves() if values.ndim == 2 else ()
    axes = as_input(values[:1]).ndim
    return of_pictures(values) if axes == 4 else of_features(values) if axes == 3 else of_vectors(values)


def corrupted(values: Tensor, own: Corruption, level: float, seed: int) -> Tensor:
    """Stored values (M, ...) after it has gone wrong, as they would be stored.

    They come in a random order: as they are stored those of one class may lie together, and some are mixed.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(values), generator=generator).to(values.device)
    parts = values[order].tensor_split(math.ceil(len(values) / BATCH))
    made = torch.cat([stored(own.apply(as_input(part), level, generator), part) for part in parts])
    return made[order.argsort()]


def stored(inputs: Tensor, like: Tensor) -> Tensor:
    """The inverse of `as_input`, of the type and shape of stored values."""
    if like.dtype == torch.int16:
        return (inputs * LOUDEST).round().clamp(-LOUDEST, LOUDEST - 1).to(torch.int16)
    if like.dtype == torch.uint8:
        return (inputs * 255).round().clamp(0, 255).to(torch.uint8).view(like.shape)
    return inputs


def of_pictures(values: Tensor) -> tuple[Corruption, ...]:
    """Of pictures, or sequences of frames, all frames alike; outside a picture are zeros.

    noise: deviation of Gaussian noise, as a share of the range of all values, which is not left. blur: deviation of
    the Gaussian, in pixels. rotation: degrees, to either side. shift: share of each side, up or down and left or right.
    """
    low, high = (0.0, 1.0) if values.dtype == torch.uint8 else map(float, torch.aminmax(values))

    def noise(pictures: Tensor, level: float, generator: Generator) -> Tensor:
        return (pictures + level * (high - low) * normal(pictures, generator)).clamp(low, high)

    return (
        Corruption(name="noise", unit="of the range", levels=(0.1, 0.2, 0.3, 0.5), apply=noise),
        Corruption(name="blur", unit="px", levels=(0.5, 1.0, 1.5, 2.0), apply=lambda x, level, _: blurred(x, level)),
        Corruption(name="rotation", unit="degrees", levels=(10.0, 20.0, 30.0, 45.0), apply=rotated),
        Corruption(name="shift", unit="of a side", levels=(0.05, 0.1, 0.15, 0.2), apply=shifted),
    )


def blurred(pictures: Tensor, deviation: float) -> Tensor:
    """Pictures (B, C, H, W) through a Gaussian of so many pixels, which is cut at `REACH` deviations."""
    reach = math.ceil(REACH * deviation)
    at = torch.arange(-reach, reach + 1, dtype=torch.float32, device=pictures.device)
    weights = (-0.5 * (at / deviation).square()).exp()
    weights, single = weights / weights.sum(), pictures.flatten(0, 1).unsqueeze(1)
    found = conv2d(single, weights.view(1, 1, -1, 1), padding=(reach, 0))
    return conv2d(found, weights.view(1, 1, 1, -1), padding=(0, reach)).view(pictures.shape)


def rotated(pictures: Tensor, degrees: float, generator: Generator) -> Tensor:
    """Pictures turned by so many degrees, one way or the other."""
    turn = math.radians(degrees) * signs(pictures, generator)
    still = torch.zeros_like(turn)
    return warped(pictures, turn, torch.ones_like(turn), still, still)


def shifted(pictures: Tensor, share: float, generator: Generator) -> Tensor:
    """Pictures moved by a share of each side, one way or the other."""
    down, right = (share * side * signs(pictures, generator) for side in pictures.shape[2:])
    return warped(pictures, torch.zeros_like(down), torch.ones_like(down), down, right)


def of_waves() -> tuple[Corruption, ...]:
    """Of waveforms at 16 kHz.

    noise: white, dB of the sound over it. gain: dB that it is quieter, so that 16 bits leave less of it. shift:
    seconds, sooner or later, zeros come in. room: seconds in which its sound, as loud as the voice itself, falls by
    60 dB.
    """
    return (
        Corruption(name="noise", unit="dB SNR", levels=(20.0, 10.0, 5.0, 0.0), apply=hissing),
        Corruption(name="gain", unit="dB down", levels=(20.0, 40.0, 60.0, 70.0), apply=quieter),
        Corruption(name="shift", unit="s", levels=(0.05, 0.1, 0.2, 0.3), apply=later),
        Corruption(name="room", unit="s", levels=(0.1, 0.2, 0.4, 0.8), apply=in_room),
    )


def hissing(waves: Tensor, ratio: float, generator: Generator) -> Tensor:
    """Waveforms (B, S) and white noise, so many dB below the mean power of what is no digital silence."""
    power = waves.square().sum(1) / (waves != 0).sum(1).clamp(min=1)
    level = (power * 10 ** (-ratio / 10)).sqrt()
    return unclipped(waves + level.unsqueeze(1) * normal(waves, generator))


def quieter(waves: Tensor, decibels: float, generator: Generator) -> Tensor:
    """Waveforms so many dB quieter."""
    return waves * 10 ** (-decibels / 20)


def later(waves: Tensor, seconds: float, generator: Generator) -> Tensor:
    """Waveforms so much later or sooner."""
    most = min(round(seconds * SAMPLE_RATE), waves.shape[1])
    return delayed(waves, (most * signs(waves, generator)).long(), most)


def in_room(waves: Tensor, seconds: float, generator: Generator) -> Tensor:
    """Waveforms in rooms of noise that decays."""
    count = min(waves.shape[1], math.ceil(seconds * SAMPLE_RATE))
    times = torch.full((len(waves),), seconds, device=waves.device)
    response = echoing(normal(waves, generator)[:, :count], times, torch.zeros_like(times), SAMPLE_RATE)
    return unclipped(filtered(waves, rfft(response, n=2 * waves.shape[1])))


def of_features(values: Tensor) -> tuple[Corruption, ...]:
    """Of features over time (M, T, F); padding stays as it is.

    noise: in each feature's deviations. gain: deviations by which all steps are higher, or lower. shift: share of the
    length, sooner or later, the ends continued.
    """
    _, deviation, padded = moments(values)

    def spared(apply: Apply) -> Apply:
        def within(features: Tensor, level: float, generator: Generator) -> Tensor:
            return apply(features, level, generator) * valid_steps(features).unsqueeze(2)

        return within if padded else apply

    def noise(features: Tensor, level: float, generator: Generator) -> Tensor:
        return features + level * deviation * normal(features, generator)

    def gain(features: Tensor, level: float, generator: Generator) -> Tensor:
        return features + per_row(level * signs(features, generator), features) * deviation

    def shift(features: Tensor, level: float, generator: Generator) -> Tensor:
        steps = valid_steps(features).sum(1) if padded else alike(features.shape[1], features)
        by = (level * steps).round() * signs(features, generator)
        return moved(features, by.long(), steps, 1)

    return (
        Corruption(name="noise", unit="deviations", levels=(0.25, 0.5, 1.0, 2.0), apply=spared(noise)),
        Corruption(name="gain", unit="deviations", levels=(0.25, 0.5, 1.0, 2.0), apply=spared(gain)),
        Corruption(name="shift", unit="of the length", levels=(0.05, 0.1, 0.2, 0.3), apply=spared(shift)),
    )


def of_vectors(values: Tensor) -> tuple[Corruption, ...]:
    """Of vectors (M, width), or of numbers of any other shape.

    noise: in each number's deviations. gaps: share of the numbers that are their mean, as missing ones become.
    """
    deviation, mean = values.std(0, correction=0), values.mean(0)

    def noise(vectors: Tensor, level: float, generator: Generator) -> Tensor:
        return vectors + level * deviation * normal(vectors, generator)

    def gaps(vectors: Tensor, level: float, generator: Generator) -> Tensor:
        gone = torch.rand(vectors.shape, generator=generator).to(vectors.device) < level
        return torch.where(gone, mean, vectors)

    return (
        Corruption(name="noise", unit="deviations", levels=(0.25, 0.5, 1.0, 2.0), apply=noise),
        Corruption(name="gaps", unit="of the numbers", levels=(0.1, 0.25, 0.5, 0.75), apply=gaps),
    )


def outlying(values: Tensor, share: float, generator: Generator) -> Tensor:
    """Outliers in the place of values, on the CPU: they draw from its own generator, which is then as it was."""
    seed = int(torch.randint(2**31, (1,), generator=generator))
    with Randomness(seed, CPU):
        here = values.cpu()
        return outliers(here, here.roll(1, 0)).to(values.device)


OUTLIER = Corruption(name="outlier", unit="%", levels=(100.0,), apply=outlying)
"""Of a bank of any kind, beside others that still know the class: its values are of none (`mmtune.train.outliers`)."""


def normal(like: Tensor, generator: Generator) -> Tensor:
    """Numbers of mean 0 and deviation 1, in the shape of others."""
    return torch.randn(like.shape, generator=generator).to(like.device)


def signs(like: Tensor, generator: Generator) -> Tensor:
    """(B,) float32 of 1 or -1, each as likely."""
    return (2.0 * torch.randint(2, (len(like),), generator=generator) - 1).to(like.device)

"""What speakers, rooms, microphones and surroundings do to a batch of waveforms (B, S).

As in `mmtune.train.distort`, functions that take factors, rooms and noises draw nothing, numbers are drawn on the
values' device, and nothing waits for it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.fft import irfft, rfft, rfftfreq

from mmtune.networks.encoders.log_mel import played
from mmtune.networks.shapes import Shape, require_kind
from mmtune.train.augmentations import SpeechAugmentation
from mmtune.train.batches import LOUDEST
from mmtune.train.distort import Distort, either_way, places

SMALLEST_ROOM = 0.05
FAINTEST, LOUDEST_ROOM = -25.0, 0.0
"""dB of all that a room adds, over the sound itself."""
CLEAREST = 40.0
"""dB of the loudest moment over the faintest noise."""
FALLING, RISING = 6.0, 2.0
"""dB an octave of a noise's spectrum."""
MIDDLE = 1_000.0
"""Hz about which a spectrum tilts."""
LOWEST = 50.0
"""Hz below which no spectrum falls or rises any more: at 0 there are no octaves."""
MOMENT = 0.025
"""Seconds."""


def of_speech(own: SpeechAugmentation, shape: Shape) -> Distort:
    """`SpeechAugmentation.build`."""
    require_kind(own, shape, 1)
    rate = own.sample_rate

    def distort(waves: Tensor) -> Tensor:
        if own.speed or own.shift:
            factor = either_way(math.log1p(own.speed), waves).exp()
            waves = played(waves, factor, either_way(own.shift * rate, waves))
        if own.tilt or own.room:
            waves = filtered(waves, response(own, waves))
        if own.noise:
            waves = waves + noise(own, waves)
        return unclipped(waves)

    return distort


def filtered(waves: Tensor, spectrum: Tensor) -> Tensor:
    """Waveforms through filters, given by their spectra over twice the length (B, S + 1); nothing comes round."""
    count = waves.shape[1]
    return irfft(rfft(waves, n=2 * count) * spectrum, n=2 * count)[:, :count]


def response(own: SpeechAugmentation, waves: Tensor) -> Tensor:
    """The spectra (B, S + 1) of tilts and rooms that are drawn."""
    found = tilted(either_way(own.tilt, waves), waves, own.sample_rate)
    return found * rfft(room(own, waves), n=2 * waves.shape[1]) if own.room else found


def tilted(slope: Tensor, waves: Tensor, rate: int) -> Tensor:
    """Amplitudes (B, S + 1) that rise by `slope` (B,) dB an octave, 1 at `MIDDLE`."""
    hertz = rfftfreq(2 * waves.shape[1], 1 / rate, device=waves.device)
    octaves = (hertz.clamp(min=LOWEST) / MIDDLE).log2()
    return 10 ** (slope.unsqueeze(1) * octaves / 20)


def room(own: SpeechAugmentation, waves: Tensor) -> Tensor:
    """Impulse responses (B, n) of rooms that are drawn."""
    count = min(waves.shape[1], math.ceil(own.room * own.sample_rate))
    least = min(SMALLEST_ROOM, own.room)
    seconds = least + between(0.0, own.room - least, waves)
    white = torch.randn(len(waves), count, device=waves.device)
    return echoing(white, seconds, between(FAINTEST, LOUDEST_ROOM, waves), own.sample_rate)


def echoing(white: Tensor, seconds: Tensor, level: Tensor, rate: int) -> Tensor:
    """Impulse responses of rooms, of noise (B, n): the sound itself, then that noise, which decays.

    seconds (B,): in which it falls by 60 dB; level (B,): dB of all of it over the sound itself.
    """
    decay = -math.log(1000) * places(white.shape[1], white) / (seconds.unsqueeze(1) * rate)
    echoes = white * decay.exp()
    echoes = echoes * (10 ** (level / 20) / echoes.square().sum(1).sqrt()).unsqueeze(1)
    return torch.cat([torch.ones_like(echoes[:, :1]), echoes[:, 1:]], 1)


def noise(own: SpeechAugmentation, waves: Tensor) -> Tensor:
    """Noise (B, S) of a colour and a loudness that are drawn, or none."""
    count = waves.shape[1]
    slope = between(-FALLING, RISING, waves)
    white = rfft(torch.randn_like(waves))
    # Every other frequency of twice the length is one of this length.
    coloured = irfft(white * tilted(slope, waves, own.sample_rate)[:, ::2], n=count)
    level = loudest_moment(waves, own.sample_rate) * 10 ** (-between(own.snr, CLEAREST, waves) / 20)
    chosen = torch.rand(len(waves), device=waves.device) < own.noise
    return coloured * (level * chosen / coloured.square().mean(1).sqrt()).unsqueeze(1)


def loudest_moment(waves: Tensor, rate: int) -> Tensor:
    """The greatest root mean square (B,) of any 25 ms of waveforms (B, S), of which one begins where another ends."""
    length = min(waves.shape[1], max(1, round(MOMENT * rate)))
    return waves.square().unfold(1, length, length).mean(2).amax(1).sqrt()


def unclipped(waves: Tensor) -> Tensor:
    """Waveforms within [-1, 1), those that are louder made as quiet as that needs."""
    return waves * ((1 - 1 / LOUDEST) / waves.abs().amax(1).clamp(min=1 - 1 / LOUDEST)).unsqueeze(1)


def between(low: float, high: float, like: Tensor) -> Tensor:
    """(B,) float32 from low to high."""
    return torch.rand(len(like), device=like.device) * (high - low) + low

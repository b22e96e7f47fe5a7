"""An encoder of voices that nobody has heard before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmtune.base.errors import InputError
from mmtune.base.rules import require_count
from mmtune.networks.config.base import Checked, choice, count, number, rate
from mmtune.networks.config.encoders import WIDEST
from mmtune.networks.shapes import Shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class LogMelResNet(Checked):
    """A waveform (samples,) by its log-mel spectrogram, or features over time (steps, features), by residual blocks.

    Nothing of a recording's level counts: a spectrogram is floored `floor` dB below its own loudest point, then each is
    standardised by itself: as a whole ("clip"), or after each band's own mean is taken away, and with it what the
    microphone does to the spectrum ("band"; cepstral mean normalisation, Atal 1974).
    channels: of the first of so many `stages`, each one residual block (He et al., 2016) after a max pool; the next has
    twice as many. The last maps, their mean over frequency, become their maxima in each of `parts` stretches of time
    (as many as that, so that the order of sounds counts), and go through dropout and one linear layer with ReLU.
    mask: share of the bands of which one stretch is hidden while it is trained (SpecAugment, Park et al., 2019).
    deltas: how many orders of change over time are channels beside the spectrogram.
    test_speed: once trained it hears a waveform as it is, and this share slower and faster, and averages what pooling
    leaves of the three (test-time augmentation; Krizhevsky et al., 2012, of pictures): three times the work.
    sample_rate, low, high: in Hz; window, hop: in samples, 25 ms every 20 ms; mels: how many bands from low to high,
    which is what a telephone passes, so that it is of no account what a recording was made with. Features ignore these
    and test_speed.
    """

    width: int = count(64, 1, WIDEST)
    channels: int = count(32, 1, 512)
    stages: int = count(3, 1, 6)
    parts: int = count(3, 1, 64)
    dropout: float = rate(0.2)
    mask: float = number(0.15, 0.0, 1.0)
    deltas: int = count(0, 0, 2)
    test_speed: float = number(0.0, 0.0, 0.5)
    standardise: str = choice("clip", ("clip", "band"))
    floor: float = number(50.0, 10.0, 120.0)
    mels: int = count(40, 8, 512)
    low: float = number(60.0, 0.0, 100_000.0)
    high: float = number(3_800.0, 1.0, 200_000.0)
    window: int = count(400, 16, 65_536)
    hop: int = count(320, 1, 65_536)
    sample_rate: int = count(16_000, 1_000, 384_000)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("hop", self.hop, 1, self.window)
        if not self.low < self.high <= self.sample_rate / 2:
            rule = f"low and high must be frequencies up to half of sample_rate={self.sample_rate}, the lower one first"
            raise InputError(f"{rule}, got {self.low:g} and {self.high:g}")

    def build(self, shape: Shape) -> nn.Module:
        from mmtune.networks.encoders.log_mel import log_mel_resnet

        return log_mel_resnet(self, shape)

"""Subrahmanya's network: a CNN on the picture and one over time on the spectrogram, joined flat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmtune.base.errors import InputError
from mmtune.base.rules import require_count
from mmtune.networks.config.base import ModelConfig, choice, count, rate, require_shape
from mmtune.networks.shapes import Shapes

if TYPE_CHECKING:
    from torch import nn

MOST_SAMPLES = 16_000


@dataclass(frozen=True, kw_only=True)
class SpectrogramFusionConfig(ModelConfig):
    """Subrahmanya's multimodal network (sections 2.1, 2.2 and 2.4); the defaults are the printed values.

    layers: convolutions in each pathway, each with BN and a pool of 2; filters: of the first, doubled each time.
    fc_layers, hidden: linear layers before the ten outputs and their width, each with `dropout` after it.
    view: "stft" reads waveforms, "mfcc" the features over time, for data that has no waveforms.
    n_fft, hop: of the spectrogram, in samples at 16 kHz.

    Not printed and assumed: ReLU, padding 1, one hidden layer of 128, and an STFT of 32 ms every 16 ms, which parts
    the harmonics of a voice and gives one second 61 frames of 257 bins.
    """

    layers: int = count(2, 1, 3)
    filters: int = count(32, 1, 1024)
    fc_layers: int = count(1, 1, 4)
    hidden: int = count(128, 1, 8192)
    dropout: float = rate(0.5)
    view: str = choice("stft", ("stft", "mfcc"))
    n_fft: int = count(512, 16, MOST_SAMPLES)
    hop: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("hop", self.hop, 1, self.n_fft)

    @property
    def reads(self) -> tuple[str, ...]:
        return ("image", "waveform" if self.view == "stft" else "audio")

    def build(self, shapes: Shapes) -> nn.Module:
        from mmtune.networks.papers.subrahmanya import SpectrogramFusion

        return SpectrogramFusion(self, shapes)

    def sound(self, shapes: Shapes) -> tuple[int, int]:
        """(channels, frames) of the audio pathway's input; InputError where frames are too few for its pools."""
        least = 2**self.layers
        if self.view == "mfcc":
            steps, features = require_shape(shapes, "audio", 2)
            if steps < least:
                raise InputError(f"audio must have at least {least} steps where layers={self.layers}, got {steps}")
            return features, steps
        (samples,) = require_shape(shapes, "waveform", 1)
        frames = max(0, 1 + (samples - self.n_fft) // self.hop)
        if frames < least:
            raise InputError(
                f"n_fft and hop must give at least {least} frames where layers={self.layers}, "
                f"got n_fft {self.n_fft} and hop {self.hop}: {frames} frames of {samples} samples"
            )
        return self.n_fft // 2 + 1, frames

"""What of a waveform a network may hear: its spectrogram, in bands, as cepstra or by pitch, and how that changes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

FLOOR = 1e-6
"""Power that silence has in a spectrogram, so that it has a logarithm."""
PITCHES, TUNING, LOWEST = 12, 440.0, 60.0
"""Of an octave; the A that they are counted from, and the lowest frequency that counts, in Hz."""


class LogSpectrogram(nn.Module):
    """Waveforms (B, samples) in [-1, 1) to the logarithm of their power, (B, frames, bands or n_fft // 2 + 1).

    filters: what sums bins into bands, (n_fft // 2 + 1, bands); None for the bins themselves. The window is Hann's, and
    no frame reaches beyond the ends.
    """

    window: Tensor
    filters: Tensor | None

    def __init__(self, n_fft: int, hop: int, filters: Tensor | None = None) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, waves: Tensor) -> Tensor:
        made = torch.stft(waves, self.n_fft, self.hop, window=self.window, center=False, return_complex=True)
        power = made.abs().square().transpose(1, 2)
        return ((power if self.filters is None else power @ self.filters) + FLOOR).log()


def mel_filters(bins: int, mels: int, sample_rate: int, lowest: float = 0.0, highest: float | None = None) -> Tensor:
    """Weights (bins, mels) of triangles evenly spaced on HTK's mel scale between two frequencies in Hz.

    They are of `bins` frequencies up to half the sample rate, which is the highest if none is given.
    """
    hertz = torch.linspace(0, sample_rate / 2, bins, dtype=torch.float64)
    bottom, top = (math.log10(1 + own / 700) for own in (lowest, highest or sample_rate / 2))
    edges = 700 * (10 ** torch.linspace(bottom, top, mels + 2, dtype=torch.float64) - 1)
    low, peak, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (hertz[:, None] - low) / (peak - low), (high - hertz[:, None]) / (high - peak)
    return torch.minimum(rising, falling).clamp(min=0).float()


def chroma_filters(bins: int, sample_rate: int) -> Tensor:
    """Weights (bins, PITCHES) that sum the power of all octaves by pitch (Fujishima, 1999).

    A frequency counts for the two nearest pitches, the more, the nearer they are; those below LOWEST do not count.
    """
    hertz = torch.linspace(0, sample_rate / 2, bins, dtype=torch.float64)
    pitch = PITCHES * torch.log2(hertz.clamp(min=LOWEST) / TUNING)
    apart = (pitch[:, None] - torch.arange(PITCHES, dtype=torch.float64) + PITCHES / 2).remainder(PITCHES) - PITCHES / 2
    return ((1 - apart.abs()).clamp(min=0) * (hertz >= LOWEST)[:, None]).float()


class Cepstrum(nn.Module):
    """Logarithms of bands (B, T, bands) to their first cosine coefficients (B, T, coefficients).

    The transform is the orthonormal DCT-II: of mel bands these are MFCCs (Davis and Mermelstein, 1980).
    """

    cosines: Tensor

    def __init__(self, bands: int, coefficients: int) -> None:
        super().__init__()
        n = torch.arange(bands, dtype=torch.float64) + 0.5
        waves = torch.cos(math.pi / bands * n[:, None] * torch.arange(coefficients, dtype=torch.float64))
        waves *= math.sqrt(2 / bands)
        waves[:, 0] /= math.sqrt(2)
        self.register_buffer("cosines", waves.float(), persistent=False)

    def forward(self, bands: Tensor) -> Tensor:
        return bands @ self.cosines


class WithDeltas(nn.Module):
    """Features (B, T, F) to (B, 1 + orders, T, F): beside them how fast they change, and how fast that does.

    Central differences of steps (Furui, "Speaker-independent isolated word recognition", 1986, in the small).
    """

    def __init__(self, orders: int) -> None:
        super().__init__()
        self.orders = orders

    def forward(self, features: Tensor) -> Tensor:
        found = [features]
        for _ in range(self.orders):
            found.append(slopes(found[-1]))
        # With the channels last, as convolutions on a CPU want them.
        return torch.stack(found, dim=-1).movedim(-1, 1)


def slopes(features: Tensor) -> Tensor:
    """How fast features (B, T, F) change at each of T >= 2 steps, as torch.gradient has it.

    That one cannot be traced for any number of rows.
    """
    first, last = features[:, 1:2] - features[:, :1], features[:, -1:] - features[:, -2:-1]
    return torch.cat([first, (features[:, 2:] - features[:, :-2]) / 2, last], dim=1)

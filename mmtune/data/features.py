"""Waveforms to the 39 x 13 features of Khacef's data set: 50 ms windows every 25 ms of one second at 16 kHz."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.data.dataset import AUDIO_SHAPE, SAMPLE_RATE
from mmtune.errors import InputError

WINDOW, HOP = 800, 400  # samples: 50 ms and 25 ms
FRAMES, COEFFICIENTS = AUDIO_SHAPE
MEL_BANDS = 40
DYNAMIC_RANGE = 1e-8  # 80 dB: what lies further below the loudest point of a clip is silence
BATCH = 256


def mfcc(waves: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., 16000) at 16 kHz to (..., 39, 13) float32: of each frame cepstral coefficients 1 to 12, then log energy.

    No centring, so that exactly 39 frames of 50 ms fit into the second (Venkatachalam, on Khacef's data).
    """
    if waves.shape[-1:] != (SAMPLE_RATE,):
        raise InputError(f"a waveform must have {SAMPLE_RATE} samples, got shape {waves.shape}")
    flat = waves.reshape(-1, SAMPLE_RATE)
    # in batches: the spectra of many thousand clips at once would fill the memory
    parts = [mfcc_batch(flat[start : start + BATCH]) for start in range(0, len(flat), BATCH)]
    features = np.concatenate(parts) if parts else np.empty((0, *AUDIO_SHAPE), np.float32)
    return features.reshape(*waves.shape[:-1], *AUDIO_SHAPE)


def mfcc_batch(waves: NDArray[np.float32]) -> NDArray[np.float32]:
    """`mfcc` of (B, 16000).

    Neither product goes through BLAS: its sums, and so a data set's digest, would depend on the number of threads.
    """
    from scipy.sparse import csr_array

    frames = np.lib.stride_tricks.sliding_window_view(waves, WINDOW, axis=-1)[:, ::HOP]  # (B, 39, 800)
    hamming = np.hamming(WINDOW + 1)[:-1].astype(np.float32)
    power = np.abs(np.fft.rfft(frames * hamming)) ** 2  # (B, 39, 401)
    mel = (csr_array(mel_filters()) @ power.reshape(-1, power.shape[-1]).T).T.reshape(*power.shape[:2], MEL_BANDS)
    cepstra = np.einsum("btm,cm->btc", log_floored(mel), cosines())
    energy = log_floored(np.square(frames).sum(axis=-1, keepdims=True))
    return np.concatenate([cepstra, energy], axis=-1).astype(np.float32)


def mel_filters() -> NDArray[np.float32]:
    """(40, 401): triangles of height one, evenly spaced on the mel scale up to 8 kHz, over the bins of a window."""
    top = 2595 * math.log10(1 + SAMPLE_RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, MEL_BANDS + 2) / 2595) - 1)
    bins = np.linspace(0, SAMPLE_RATE / 2, WINDOW // 2 + 1)
    widths = np.diff(edges)[:, None]
    rising, falling = (bins - edges[:-2, None]) / widths[:-1], (edges[2:, None] - bins) / widths[1:]
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def cosines() -> NDArray[np.float64]:
    """(12, 40): rows 1 to 12 of the orthonormal cosine transform (DCT-II), coefficient 0 being left to the energy."""
    order, band = np.arange(1, COEFFICIENTS)[:, None], np.arange(MEL_BANDS) + 0.5
    rows: NDArray[np.float64] = math.sqrt(2 / MEL_BANDS) * np.cos(math.pi / MEL_BANDS * order * band)
    return rows


def log_floored(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Natural logarithm, floored clip by clip 80 dB below its greatest value, as padding holds no energy at all."""
    top = values.max(axis=tuple(range(1, values.ndim)), keepdims=True)
    logs: NDArray[np.float64] = np.log(np.maximum(values, np.maximum(top * DYNAMIC_RANGE, 1e-12)))
    return logs


@dataclass(frozen=True, kw_only=True)
class FeatureStats:
    """What turns MFCCs into clips: each coefficient standardised, then the training clips' range mapped to [0, 1].

    mean, std: 13 numbers each; low, high: the extremes of the standardised training clips. Clips that were
    not fitted may leave [0, 1] a little.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: float
    high: float

    def __post_init__(self) -> None:
        numbers = (*self.mean, *self.std, self.low, self.high)
        if len(self.mean) != COEFFICIENTS or len(self.std) != COEFFICIENTS:
            raise InputError(f"feature statistics must have {COEFFICIENTS} means and deviations, got {len(self.mean)}")
        if not all(isinstance(x, float) and math.isfinite(x) for x in numbers):
            raise InputError(f"feature statistics must be finite numbers, got {numbers}")
        if min(self.std) <= 0 or self.high <= self.low:
            found = f"deviation {min(self.std)}, range {self.low}..{self.high}"
            raise InputError(f"feature statistics must have positive deviations and range, got {found}")

    @staticmethod
    def fit(features: NDArray[np.float32]) -> FeatureStats:
        """Statistics of training features (M, 39, 13); InputError where a coefficient never varies."""
        wide = features.reshape(-1, COEFFICIENTS).astype(np.float64)
        mean, std = wide.mean(axis=0), wide.std(axis=0)
        scaled = (wide - mean) / np.where(std > 0, std, 1.0)
        low, high = float(scaled.min()), float(scaled.max())
        return FeatureStats(mean=tuple(mean.tolist()), std=tuple(std.tolist()), low=low, high=high)

    def apply(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(..., 39, 13) MFCCs to clips of the same shape, float32."""
        scaled = (features.astype(np.float64) - np.array(self.mean)) / np.array(self.std)
        unit: NDArray[np.float64] = (scaled - self.low) / (self.high - self.low)
        return unit.astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        return {"mean": list(self.mean), "std": list(self.std), "low": self.low, "high": self.high}

    @staticmethod
    def from_json(data: Mapping[str, Any], where: str = "feature statistics") -> FeatureStats:
        """The exact inverse of `to_json`; InputError, naming `where`, on missing, extra or bad fields."""
        names = {"mean", "std", "low", "high"}
        if not isinstance(data, Mapping) or set(data) != names:
            got = sorted(data) if isinstance(data, Mapping) else type(data).__name__
            raise InputError(f"{where}: feature statistics must have the fields {sorted(names)}, got {got}")
        try:
            return FeatureStats(
                mean=tuple(map(float, data["mean"])),
                std=tuple(map(float, data["std"])),
                low=float(data["low"]),
                high=float(data["high"]),
            )
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}: {error}") from error

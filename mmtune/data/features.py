"""Waveforms to the 39 x 13 features of Khacef's data set: 50 ms windows every 25 ms of one second at 16 kHz."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.dataset import AUDIO_SHAPE, SAMPLE_RATE
from mmtune.data.recordings import load_librosa, to_float

WINDOW, HOP = 800, 400  # samples: 50 ms and 25 ms
COEFFICIENTS = AUDIO_SHAPE[1]
MEL = {"n_mels": 40, "htk": True, "norm": None}
DYNAMIC_RANGE = 1e-8  # 80 dB: what lies further below the loudest point of a clip is silence
BATCH = 256


def mfcc(waves: NDArray[np.float32] | NDArray[np.int16]) -> NDArray[np.float32]:
    """(..., 16000) at 16 kHz to (..., 39, 13) float32: of each frame cepstral coefficients 1 to 12, then log energy.

    Waves are floats in [-1, 1) or 16-bit integers.
    No centring, so that exactly 39 frames of 50 ms fit into the second (Venkatachalam, on Khacef's data).
    """
    if waves.shape[-1:] != (SAMPLE_RATE,):
        raise InputError(f"a waveform must have {SAMPLE_RATE} samples, got shape {waves.shape}")
    flat = waves.reshape(-1, SAMPLE_RATE)
    # in batches: the floats and spectra of many thousand clips at once would fill the memory
    parts = [mfcc_batch(flat[start : start + BATCH]) for start in range(0, len(flat), BATCH)]
    features = np.concatenate(parts) if parts else np.empty((0, *AUDIO_SHAPE), np.float32)
    return features.reshape(*waves.shape[:-1], *AUDIO_SHAPE)


def mfcc_batch(waves: NDArray[Any]) -> NDArray[np.float32]:
    """`mfcc` of (B, 16000)."""
    from scipy.fft import dct
    from threadpoolctl import threadpool_limits

    librosa = load_librosa()
    waves = to_float(waves) if waves.dtype == np.int16 else waves
    frames = {"win_length": WINDOW, "hop_length": HOP, "window": "hamming", "center": False}
    # The sums of BLAS, and so a data set's digest, would depend on the number of threads.
    with threadpool_limits(1):
        mel = librosa.feature.melspectrogram(y=waves, sr=SAMPLE_RATE, n_fft=WINDOW, **frames, **MEL)  # (B, 40, 39)
    cepstra = dct(log_floored(mel), axis=-2, norm="ortho")[:, 1:COEFFICIENTS]
    energy = np.square(librosa.util.frame(waves, frame_length=WINDOW, hop_length=HOP)).sum(axis=-2, keepdims=True)
    return np.concatenate([cepstra, log_floored(energy)], axis=-2).swapaxes(-1, -2).astype(np.float32)


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
            mean, std = (tuple(map(float, data[name])) for name in ("mean", "std"))
            return FeatureStats(mean=mean, std=std, low=float(data["low"]), high=float(data["high"]))
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{where}: {error}") from error

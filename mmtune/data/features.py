"""Waveforms at 16 kHz to features over time: Khacef's MFCCs, of 50 ms every 25 ms, and log-mel spectrograms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.recordings import SAMPLE_RATE, load_librosa, to_float

WINDOW, HOP = 800, 400  # samples: 50 ms and 25 ms
SHORT_WINDOW, SHORT_HOP = 400, 160  # 25 ms and 10 ms
COEFFICIENTS, BANDS = 13, 40
DYNAMIC_RANGE = 1e-8  # 80 dB: what lies further below the loudest point of a clip is silence
BATCH = 256


def frames_of(samples: int) -> int:
    """How many frames of MFCCs so many samples have; without centring, so that exactly 39 fit into a second."""
    return 1 + (samples - WINDOW) // HOP


def mfcc(waves: NDArray[np.float32] | NDArray[np.int16]) -> NDArray[np.float32]:
    """(..., samples) to (..., frames, 13) float32: of each frame cepstral coefficients 1 to 12, then log energy.

    Waves are floats in [-1, 1) or 16-bit integers. As Venkatachalam says of Khacef's data.
    """
    samples = waves.shape[-1]
    if samples < WINDOW:
        raise InputError(f"a waveform must have {WINDOW} samples or more, got shape {waves.shape}")
    flat = waves.reshape(-1, samples)
    # in batches: the floats and spectra of many thousand clips at once would fill the memory
    parts = [mfcc_batch(flat[start : start + BATCH]) for start in range(0, len(flat), BATCH)]
    features = np.concatenate(parts) if parts else np.empty((0, frames_of(samples), COEFFICIENTS), np.float32)
    return features.reshape(*waves.shape[:-1], *features.shape[1:])


def mfcc_batch(waves: NDArray[Any]) -> NDArray[np.float32]:
    """`mfcc` of (B, samples)."""
    from scipy.fft import dct

    waves = to_float(waves) if waves.dtype == np.int16 else waves
    frames = {"win_length": WINDOW, "hop_length": HOP, "window": "hamming", "center": False}
    mel = mel_power(waves, WINDOW, BANDS, frames)
    cepstra = dct(log_floored(mel), axis=-2, norm="ortho")[:, 1:COEFFICIENTS]
    framed = load_librosa().util.frame(waves, frame_length=WINDOW, hop_length=HOP)
    energy = np.square(framed).sum(axis=-2, keepdims=True)
    return np.concatenate([cepstra, log_floored(energy)], axis=-2).swapaxes(-1, -2).astype(np.float32)


def mel_power(
    waves: NDArray[np.float32], n_fft: int, bands: int, frames: Mapping[str, Any], pad: int = 0
) -> NDArray[np.float32]:
    """The power of mel bands (B, bands, frames) of (B, samples), `pad` zeros put around every wave."""
    from threadpoolctl import threadpool_limits

    padded = np.pad(waves, ((0, 0), (pad // 2, pad - pad // 2))) if pad else waves
    # The sums of BLAS, and so a data set's digest, would depend on the number of threads.
    with threadpool_limits(1):
        found: NDArray[np.float32] = load_librosa().feature.melspectrogram(
            y=padded, sr=SAMPLE_RATE, n_fft=n_fft, n_mels=bands, htk=True, norm=None, **frames
        )
    return found


def log_floored(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Natural logarithm, floored clip by clip 80 dB below its greatest value, as padding holds no energy at all."""
    top = values.max(axis=tuple(range(1, values.ndim)), keepdims=True)
    logs: NDArray[np.float64] = np.log(np.maximum(values, np.maximum(top * DYNAMIC_RANGE, 1e-12)))
    return logs


def log_mel(waves: NDArray[np.int16], bands: int) -> NDArray[np.float32]:
    """(M, samples) at 16 kHz to the logarithms of so many mel bands, (M, frames, bands) float32, without centring."""
    frames = {"win_length": SHORT_WINDOW, "hop_length": SHORT_HOP, "window": "hann", "center": False}
    found = np.empty((len(waves), 1 + (waves.shape[-1] - SHORT_WINDOW) // SHORT_HOP, bands), np.float32)
    for start in range(0, len(waves), BATCH):
        power = mel_power(to_float(waves[start : start + BATCH]), 512, bands, frames, pad=512 - SHORT_WINDOW)
        found[start : start + BATCH] = log_floored(power).swapaxes(-1, -2)
    return found

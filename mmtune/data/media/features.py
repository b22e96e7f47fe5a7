"""Waveforms at 16 kHz to features over time: Khacef's MFCCs, of 50 ms every 25 ms, and log-mel spectrograms.

They are computed in float64 and rounded to a grid, so that they are the same on every processor, whose sums differ in
their last bits: a data set's digest would be of one kind of processor otherwise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.media.recordings import SAMPLE_RATE, to_float

WINDOW, HOP = 800, 400  # samples: 50 ms and 25 ms
SHORT_WINDOW, SHORT_HOP = 400, 160  # 25 ms and 10 ms
COEFFICIENTS, BANDS = 13, 40
DYNAMIC_RANGE = 1e-8  # 80 dB: what lies further below the loudest point of a clip is silence
BATCH = 256
GRID = 4096.0  # parts of one: to round a 16-bit sample costs more


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
    mel = mel_power(waves, WINDOW, HOP, "hamming", BANDS)
    cepstra = dct(log_floored(mel), axis=-2, norm="ortho")[:, 1:COEFFICIENTS]
    energy = np.square(framed(waves, WINDOW, HOP)).sum(axis=-2, keepdims=True, dtype=np.float64)
    return on_grid(np.concatenate([cepstra, log_floored(energy)], axis=-2).swapaxes(-1, -2))


def mel_power(
    waves: NDArray[np.float32], window: int, hop: int, shape: str, bands: int, n_fft: int | None = None
) -> NDArray[np.float64]:
    """The power of mel bands (B, bands, frames) of (B, samples), without centring.

    shape: of the window, as scipy names it; n_fft: a frame's length, zeros around the window, which it is without.
    """
    from scipy.signal import get_window
    from threadpoolctl import threadpool_limits

    n_fft = n_fft or window
    before = (n_fft - window) // 2
    around = (before, n_fft - window - before)
    weights = np.pad(get_window(shape, window), around)
    spectra = np.fft.rfft(weights[:, None] * framed(np.pad(waves, ((0, 0), around)), n_fft, hop), axis=-2)
    power = np.abs(np.asfortranarray(spectra)) ** 2
    # The sums of BLAS depend on the number of threads, if by less than the grid.
    with threadpool_limits(1):
        found: NDArray[np.float64] = np.einsum("...ft,mf->...mt", power, mel_filters(n_fft, bands), optimize=True)
    return found


def framed(waves: NDArray[np.float32], length: int, hop: int) -> NDArray[np.float32]:
    """Pieces (B, length, frames) of (B, samples), one every `hop` samples; a view."""
    return np.lib.stride_tricks.sliding_window_view(waves, length, axis=-1)[:, ::hop].swapaxes(-1, -2)


def mel_filters(n_fft: int, bands: int) -> NDArray[np.float64]:
    """Weights (bands, n_fft // 2 + 1): triangles of height one, evenly spaced on HTK's mel scale up to 8 kHz."""
    top = 2595.0 * np.log10(1.0 + SAMPLE_RATE / 2 / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(0.0, top, bands + 2) / 2595.0) - 1.0)
    ramps, widths = np.subtract.outer(edges, np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE)), np.diff(edges)[:, None]
    found: NDArray[np.float64] = np.maximum(0, np.minimum(-ramps[:-2] / widths[:-1], ramps[2:] / widths[1:]))
    return found


def log_floored(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Natural logarithm, floored clip by clip 80 dB below its greatest value, as padding holds no energy at all."""
    top = values.max(axis=tuple(range(1, values.ndim)), keepdims=True)
    logs: NDArray[np.float64] = np.log(np.maximum(values, np.maximum(top * DYNAMIC_RANGE, 1e-12)))
    return logs


def log_mel(waves: NDArray[np.int16], bands: int) -> NDArray[np.float32]:
    """(M, samples) at 16 kHz to the logarithms of so many mel bands, (M, frames, bands) float32, without centring."""
    found = np.empty((len(waves), 1 + (waves.shape[-1] - SHORT_WINDOW) // SHORT_HOP, bands), np.float32)
    for start in range(0, len(waves), BATCH):
        batch = to_float(waves[start : start + BATCH])
        power = mel_power(batch, SHORT_WINDOW, SHORT_HOP, "hann", bands, n_fft=512)
        found[start : start + BATCH] = on_grid(log_floored(power).swapaxes(-1, -2))
    return found


def on_grid(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rounded to multiples of 1 / GRID."""
    return (np.rint(values * GRID) / GRID).astype(np.float32)

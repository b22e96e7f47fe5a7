"""Recordings of any kind to samples at 16 kHz."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmtune.base.bounds import MEBIBYTE, open_bounded
from mmtune.base.errors import InputError

SAMPLE_RATE = 16_000
SIXTEEN_BIT = 32768.0
MAX_SECONDS = 60.0
MIN_RATE, MAX_RATE = 1_000, 768_000
MAX_SAMPLES = 2**25  # of all channels: 134 MB in float32
MOST_BYTES = 512 * MEBIBYTE
LOUDEST = 2.0**31  # integers taken for floats, at most
CODINGS = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")


def read_wav(path: Path) -> tuple[NDArray[np.float32], int]:
    """A WAV or FLAC recording as mono samples (n,) float32, channels averaged, and its rate in Hz.

    Raises InputError where the file is missing, empty, truncated, no such recording, silent, not finite, absurdly
    loud, longer than 60 s, or holds more than MAX_SAMPLES in all channels together.
    """
    path = Path(path)
    samples, rate = decode(path)
    with np.errstate(over="ignore"):
        mono: NDArray[np.float32] = samples.mean(axis=1, dtype=np.float32)
    if not np.all(np.isfinite(mono)):
        raise InputError(f"{path}: samples must be finite, got NaN or infinity")
    if float(np.abs(mono).max()) > LOUDEST:
        raise InputError(f"{path}: samples must lie within {LOUDEST:g}, got {float(np.abs(mono).max()):g}")
    if float(np.ptp(mono)) <= 2 / SIXTEEN_BIT:
        raise InputError(f"{path}: a recording must not be silent, its samples span {float(np.ptp(mono)):.2g}")
    return mono, rate


def decode(path: Path) -> tuple[NDArray[np.float32], int]:
    """Samples (n, channels) and the rate, checked before anything is decoded."""
    import soundfile

    require_recording(path)
    try:
        with soundfile.SoundFile(path) as file:
            frames, rate, channels = file.frames, file.samplerate, file.channels
            if not MIN_RATE <= rate <= MAX_RATE:
                raise InputError(f"{path}: sample rate must be {MIN_RATE} to {MAX_RATE} Hz, got {rate}")
            if frames <= 0:
                raise InputError(f"{path}: must hold samples, holds none")
            if frames / rate > MAX_SECONDS:
                raise InputError(f"{path}: must be at most {MAX_SECONDS:g} s long, is {frames / rate:.0f} s")
            if frames * channels > MAX_SAMPLES:
                found = f"{frames} in each of {channels} channels"
                raise InputError(f"{path}: must hold at most {MAX_SAMPLES} samples, holds {found}")
            if file.subtype not in CODINGS:
                raise InputError(f"{path}: samples must be PCM, floats or companded, are {file.subtype}")
            samples = file.read(dtype="float32", always_2d=True)
    except InputError:
        raise
    except Exception as error:  # a broken header makes libsndfile, and soundfile itself, raise errors of many kinds
        reason = " ".join(str(error).split()).replace(str(path), "file")
        raise InputError(f"{path}: must be an audio file that can be decoded: {reason}") from error
    if len(samples) != frames:
        raise InputError(f"{path}: must be complete, has {len(samples)} of {frames} samples")
    return samples, rate


def require_recording(path: Path) -> None:
    """Raise InputError unless a file begins as WAV or FLAC, which of all that libsndfile reads are the best tried.

    A RIFF file may not be shorter than its header says: libsndfile would read it silently.
    """
    with open_bounded(path, MOST_BYTES) as file:
        head, size = file.read(12), os.fstat(file.fileno()).st_size
    if not size:
        raise InputError(f"{path}: must be an audio file, is empty (0 bytes)")
    if not (head[:4] == b"fLaC" or (head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:] == b"WAVE")):
        raise InputError(f"{path}: must be an audio file that can be decoded, WAV or FLAC, begins with {head!r}")
    said = int.from_bytes(head[4:8], "little")
    streamed = said in (0, 0xFFFFFFFF)  # written to a pipe: the length was never filled in
    if head[:4] == b"RIFF" and not streamed and said + 8 > size + 1:
        raise InputError(f"{path}: must be complete, has {size} of {said + 8} bytes")


def at_rate(samples: NDArray[np.float32], rate: int, count: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """(count,) float32 at 16 kHz, on the 16-bit grid so that stored waveforms give the same features.

    What is shorter is padded with zeros on both sides; of what is longer the loudest part is kept.
    """
    if rate != SAMPLE_RATE:
        samples = resampled(samples, rate)
    if len(samples) > count:
        energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
        start = int(np.argmax(energy[count:] - energy[:-count]))
        samples = samples[start : start + count]
    before = (count - len(samples)) // 2
    cut = np.pad(samples, (before, count - len(samples) - before))
    return to_float(to_int16(cut))


def resampled(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """The same sound at 16 kHz, of as many samples, rounded up, as its length in seconds needs."""
    import soxr

    made: NDArray[np.float32] = soxr.resample(samples, rate, SAMPLE_RATE)
    count = math.ceil(len(samples) * (SAMPLE_RATE / rate))
    return np.pad(made[:count], (0, max(0, count - len(made))))


def to_int16(wave: NDArray[np.float32]) -> NDArray[np.int16]:
    """Samples in [-1, 1) as 16-bit integers; louder ones are cut off."""
    levels: NDArray[np.float32] = np.clip(np.rint(wave * SIXTEEN_BIT), -SIXTEEN_BIT, SIXTEEN_BIT - 1)
    return levels.astype(np.int16)


def to_float(wave: NDArray[np.int16]) -> NDArray[np.float32]:
    """The inverse of `to_int16`."""
    return wave.astype(np.float32) / np.float32(SIXTEEN_BIT)

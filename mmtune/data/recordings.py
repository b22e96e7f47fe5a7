"""Recordings of any kind to one second at 16 kHz."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmtune.data.dataset import SAMPLE_RATE
from mmtune.errors import InputError

SIXTEEN_BIT = 32768.0
MAX_SECONDS = 60.0
MIN_RATE, MAX_RATE = 1_000, 768_000


def read_wav(path: Path) -> tuple[NDArray[np.float32], int]:
    """A recording as mono samples (n,) float32, channels averaged, and its rate in Hz.

    Raises InputError where the file is missing, empty, truncated, no audio, silent, not finite, or longer than 60 s.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: must be an audio file, {'is no file' if path.exists() else 'is missing'}")
    samples, rate = decode(path)
    mono: NDArray[np.float32] = samples.mean(axis=1, dtype=np.float32)
    if not np.all(np.isfinite(mono)):
        raise InputError(f"{path}: samples must be finite, got NaN or infinity")
    if float(np.ptp(mono)) <= 2 / SIXTEEN_BIT:
        raise InputError(f"{path}: a recording must not be silent, its samples span {float(np.ptp(mono)):.2g}")
    return mono, rate


def decode(path: Path) -> tuple[NDArray[np.float32], int]:
    """Samples (n, channels) and the rate, checked before anything is decoded."""
    import soundfile

    if path.stat().st_size == 0:
        raise InputError(f"{path}: must be an audio file, is empty (0 bytes)")
    require_whole(path)
    try:
        with soundfile.SoundFile(path) as file:
            require_sane(path, file.frames, file.samplerate)
            return file.read(dtype="float32", always_2d=True), file.samplerate
    except (soundfile.LibsndfileError, RuntimeError, OSError, ValueError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        reason = " ".join(str(error).split()).replace(str(path), "file")
        raise InputError(f"{path}: must be an audio file that can be decoded: {reason}") from error


def require_sane(path: Path, frames: int, rate: int) -> None:
    """Raise InputError unless rate and length are those of a short recording."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise InputError(f"{path}: sample rate must be {MIN_RATE} to {MAX_RATE} Hz, got {rate}")
    if frames <= 0:
        raise InputError(f"{path}: must hold samples, holds none")
    if frames / rate > MAX_SECONDS:
        raise InputError(f"{path}: must be at most {MAX_SECONDS:g} s long, is {frames / rate:.0f} s")


def require_whole(path: Path) -> None:
    """Raise InputError where a RIFF file is shorter than its header says: libsndfile would read it silently."""
    with path.open("rb") as file:
        head = file.read(8)
    said = int.from_bytes(head[4:8], "little")
    streamed = said in (0, 0xFFFFFFFF)  # written to a pipe: the length was never filled in
    if head[:4] == b"RIFF" and not streamed and said + 8 > path.stat().st_size + 1:
        raise InputError(f"{path}: must be complete, has {path.stat().st_size} of {said + 8} bytes")


def one_second(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """(16000,) float32: one second at 16 kHz, on the 16-bit grid so that stored waveforms give the same features.

    What is shorter is padded with zeros on both sides; of what is longer the loudest second is kept.
    """
    if rate != SAMPLE_RATE:
        import librosa

        samples = librosa.resample(samples, orig_sr=rate, target_sr=SAMPLE_RATE)
    if len(samples) > SAMPLE_RATE:
        energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
        start = int(np.argmax(energy[SAMPLE_RATE:] - energy[:-SAMPLE_RATE]))
        samples = samples[start : start + SAMPLE_RATE]
    before = (SAMPLE_RATE - len(samples)) // 2
    second = np.pad(samples, (before, SAMPLE_RATE - len(samples) - before))
    return to_float(to_int16(second))


def to_int16(wave: NDArray[np.float32]) -> NDArray[np.int16]:
    """Samples in [-1, 1) as 16-bit integers; louder ones are cut off."""
    levels: NDArray[np.float32] = np.clip(np.rint(wave * SIXTEEN_BIT), -SIXTEEN_BIT, SIXTEEN_BIT - 1)
    return levels.astype(np.int16)


def to_float(wave: NDArray[np.int16]) -> NDArray[np.float32]:
    """The inverse of `to_int16`."""
    return wave.astype(np.float32) / np.float32(SIXTEEN_BIT)

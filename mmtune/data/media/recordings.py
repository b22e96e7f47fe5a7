"""Recordings of any kind to samples at 16 kHz."""

from __future__ import annotations

import math
import re
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmtune.base.bounds import MEBIBYTE, read_bounded
from mmtune.base.errors import InputError
from mmtune.data.media.riff import filled

SAMPLE_RATE = 16_000
SIXTEEN_BIT = 32768.0
MAX_SECONDS = 60.0
MIN_RATE, MAX_RATE = 1_000, 768_000
MAX_SAMPLES = 2**25  # of all channels: 134 MB in float32
MOST_BYTES = 512 * MEBIBYTE
LOUDEST = 16.0  # times full scale: floats that go so far beyond it were never divided by what integers span
LOUD = 0.1  # of full scale; in what is fainter, few levels make neighbours alike
COARSE = 256  # levels of 8 bits
MATROSKA = b"\x1a\x45\xdf\xa3"
KINDS = "WAV, FLAC, MP3, Ogg, M4A or WebM"
PCM = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32")
CODINGS = (*PCM, "FLOAT", "DOUBLE", "ULAW", "ALAW", "MPEG_LAYER_III", "VORBIS", "OPUS")


def read_wav(path: Path) -> tuple[NDArray[np.float32], int]:
    """A recording (WAV, FLAC, MP3, Ogg, M4A, WebM) as mono samples (n,) float32, channels averaged, and its rate in Hz.

    Raises InputError where the file is missing, empty, truncated, no such recording, silent, not finite, absurdly
    loud, longer than 60 s, or holds more than MAX_SAMPLES in all channels together.
    """
    path = Path(path)
    samples, rate = decode(path)
    with np.errstate(over="ignore", invalid="ignore"):
        mono: NDArray[np.float32] = samples.mean(axis=1, dtype=np.float32)
    if not np.all(np.isfinite(mono)):
        raise InputError(f"{path}: samples must be finite, got NaN or infinity")
    if float(np.abs(mono).max()) > LOUDEST:
        top = float(np.abs(mono).max())
        raise InputError(f"{path}: floats must be samples from -1 to 1, got {top:g}: whole numbers written as floats?")
    if float(np.ptp(mono)) <= 2 / SIXTEEN_BIT:
        raise InputError(f"{path}: a recording must not be silent, its samples span {float(np.ptp(mono)):.2g}")
    return mono, rate


def decode(path: Path) -> tuple[NDArray[np.float32], int]:
    """Samples (n, channels) and the rate, checked before anything is decoded."""
    content = read_bounded(path, MOST_BYTES)
    if not content:
        raise InputError(f"{path}: must be an audio file, is empty (0 bytes)")
    is_contained = content[4:8] == b"ftyp" or content[:4] == MATROSKA
    if not is_contained and not is_recording(content[:12]):
        raise InputError(f"{path}: must be an audio file that can be decoded, {KINDS}, begins with {content[:12]!r}")
    content = filled(content, path)
    try:
        return contained(path, content) if is_contained else by_soundfile(path, content)
    except InputError:
        raise
    except Exception as error:  # a broken header makes libraries raise errors of many kinds
        reason = re.sub(r"<_io\.BytesIO[^>]*>", "file", " ".join(str(error).split()))
        raise InputError(f"{path}: must be an audio file that can be decoded: {reason}") from error


def by_soundfile(path: Path, content: bytes) -> tuple[NDArray[np.float32], int]:
    """`decode` of what libsndfile reads."""
    import soundfile

    with soundfile.SoundFile(BytesIO(content)) as file:
        frames, rate, channels = file.frames, file.samplerate, file.channels
        require_size(path, frames, rate, channels)
        if file.subtype not in CODINGS:
            raise InputError(f"{path}: samples must be PCM, floats or companded, are {file.subtype}")
        samples = file.read(dtype="float32", always_2d=True)
    if len(samples) != frames:
        raise InputError(f"{path}: must be complete, has {len(samples)} of {frames} samples")
    return samples, rate


def contained(path: Path, content: bytes) -> tuple[NDArray[np.float32], int]:
    """`decode` of M4A and WebM, whose sound lies in a container."""
    try:
        import av
    except ImportError as error:
        raise InputError(f"{path}: M4A and WebM recordings need PyAV: pip install 'mmtune[media]'") from error
    with av.open(BytesIO(content), format="mov" if content[4:8] == b"ftyp" else "matroska") as file:
        if not file.streams.audio:
            raise InputError(f"{path}: must hold a recording, it has no sound")
        stream = file.streams.audio[0]
        rate, channels = stream.rate, stream.channels
        require_size(path, 1, rate, channels)
        planes, total = [], 0
        resampler = av.AudioResampler(format="fltp", rate=rate)
        for frame in file.decode(stream):
            for part in resampler.resample(frame):
                planes.append(part.to_ndarray())
                total += part.samples
            # What it says of its length is nothing to go by.
            require_size(path, total, rate, channels)
    require_size(path, total, rate, channels)
    return np.concatenate(planes, axis=1).T.astype(np.float32), rate


def clipped_share(wave: NDArray[np.float32]) -> float:
    """The share of (n,) samples that stand, as their neighbours do, at its highest or lowest value, if that is loud.

    0 of what has 8 bits or less, linear or companded: the tops of its waves are flat by themselves.
    """
    flat = ((wave == wave.max()) & (wave >= LOUD)) | ((wave == wave.min()) & (wave <= -LOUD))
    share = float((flat[:-2] & flat[1:-1] & flat[2:]).sum()) / len(wave)
    # Levels are counted last: few recordings get so far.
    return share if share and len(np.unique(wave)) > COARSE else 0.0


def require_size(path: Path, frames: int, rate: int, channels: int) -> None:
    """Raise InputError unless a recording has samples, at a known rate, and not too many."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise InputError(f"{path}: sample rate must be {MIN_RATE} to {MAX_RATE} Hz, got {rate}")
    if frames <= 0:
        raise InputError(f"{path}: must hold samples, holds none")
    if frames / rate > MAX_SECONDS:
        raise InputError(f"{path}: must be at most {MAX_SECONDS:g} s long, is {frames / rate:.0f} s")
    if frames * channels > MAX_SAMPLES:
        found = f"{frames} in each of {channels} channels"
        raise InputError(f"{path}: must hold at most {MAX_SAMPLES} samples, holds {found}")


def is_recording(head: bytes) -> bool:
    """Whether a file begins as WAV, FLAC, Ogg or MP3 do."""
    wav = head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE"
    mp3 = head[:3] == b"ID3" or (len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2)
    return wav or mp3 or head[:4] in (b"fLaC", b"OggS")


def at_rate(samples: NDArray[np.float32], rate: int, count: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """(count,) float32 at 16 kHz, on the 16-bit grid so that stored waveforms give the same features.

    What is shorter is padded with zeros on both sides; of what is longer the loudest part is kept.
    """
    samples = resampled(samples, rate)
    if len(samples) > count:
        start = loudest(samples, count)
        samples = samples[start : start + count]
    before = (count - len(samples)) // 2
    cut = np.pad(samples, (before, count - len(samples) - before))
    return to_float(to_int16(cut))


def loudest(samples: NDArray[np.float32], count: int) -> int:
    """Where the `count` of more samples (n,) begin that have the most energy."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    return int(np.argmax(energy[count:] - energy[:-count]))


def resampled(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """The same sound at 16 kHz, of as many samples, rounded up, as its length in seconds needs."""
    if rate == SAMPLE_RATE:
        return samples
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

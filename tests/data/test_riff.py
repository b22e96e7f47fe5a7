"""WAV files whose lengths were never filled in are read whole, and those that were cut are refused."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from mmtune.base.errors import InputError
from mmtune.data.media.recordings import read_wav
from mmtune.data.media.riff import filled

RATE = 16_000
WAVE = (np.sin(np.arange(4001) / 9) * 9000).astype(np.int16)
NEVER = [0, 0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2_000_000_000, 0xFFFFFFFF - 44]


def wav(order: str = "<", samples: np.ndarray = WAVE, before: bytes = b"") -> bytes:
    """A file with all lengths right."""
    name = b"RIFF" if order == "<" else b"RIFX"
    data = samples.astype(f"{order}i2").tobytes()
    form = struct.pack(f"{order}4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    body = b"WAVE" + form + before + struct.pack(f"{order}4sI", b"data", len(data)) + data
    return name + struct.pack(f"{order}I", len(body)) + body


def said(content: bytes, riff: int, data: int, order: str = "<") -> bytes:
    """A file with these lengths instead."""
    place = content.index(b"data") + 4
    lengths = [struct.pack(f"{order}I", length) for length in (riff, data)]
    return content[:4] + lengths[0] + content[8:place] + lengths[1] + content[place + 4 :]


def read(path: Path, content: bytes) -> np.ndarray:
    path.write_bytes(content)
    samples, rate = read_wav(path)
    assert rate == RATE
    return np.rint(samples * 32768).astype(np.int16)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("riff", NEVER)
@pytest.mark.parametrize("data", NEVER)
def test_lengths_that_were_never_filled_in_are_those_of_the_file(
    tmp_path: Path, riff: int, data: int, order: str
) -> None:
    assert np.array_equal(read(tmp_path / "x.wav", said(wav(order), riff, data, order)), WAVE)


@pytest.mark.parametrize("by", [-8, 0, 8])
def test_a_length_that_is_off_by_a_header_is_read(tmp_path: Path, by: int) -> None:
    right = wav()
    found = read(tmp_path / "x.wav", said(right, len(right) - 8 + by, 2 * len(WAVE) + by))
    assert np.array_equal(found, WAVE[: len(WAVE) + min(by, 0) // 2])


def test_an_odd_chunk_before_the_samples_is_stepped_over(tmp_path: Path) -> None:
    content = wav(before=struct.pack("<4sI", b"LIST", 3) + b"abc\0")
    assert np.array_equal(read(tmp_path / "x.wav", said(content, 0, 0)), WAVE)


@given(kept=st.integers(60, len(wav()) - 10))
def test_a_file_that_was_cut_is_refused(kept: int) -> None:
    with pytest.raises(InputError, match=rf"x\.wav: must be complete, has {kept} of {len(wav())} bytes"):
        filled(wav()[:kept], Path("x.wav"))


@given(content=st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: b"RIFF" + tail))
def test_any_bytes_are_refused_in_a_line_or_kept_as_long_as_they_were(content: bytes) -> None:
    with suppress(InputError):
        assert len(filled(content, Path("x.wav"))) == len(content)


def test_a_file_without_samples_stays_one_of_none(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(wav(samples=WAVE[:0]))
    with pytest.raises(InputError, match="holds none"):
        read_wav(tmp_path / "x.wav")


@pytest.mark.parametrize(
    ("kind", "subtype"), [("MP3", "MPEG_LAYER_III"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("FLAC", "PCM_16")]
)
@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_packed_recordings_are_read_as_long_as_they_are(tmp_path: Path, kind: str, subtype: str, rate: int) -> None:
    seconds = np.arange(rate // 2) / rate
    wave = (0.4 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32)
    soundfile.write(tmp_path / "x", wave, rate, format=kind, subtype=subtype)
    samples, found = read_wav(tmp_path / "x")
    assert found == rate
    assert abs(len(samples) - len(wave)) <= 0.1 * rate
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    assert np.abs(np.fft.rfft(middle)).argmax() / len(middle) * rate == pytest.approx(440, abs=8)
    content = (tmp_path / "x").read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) // 20])
    with pytest.raises(InputError):
        read_wav(tmp_path / "cut")

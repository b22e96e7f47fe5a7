"""Recordings to features: numpy, librosa and scikit-learn as oracles, and every WAV that must be refused."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from mmtune.base.errors import InputError
from mmtune.data.forms import Mfcc
from mmtune.data.media.features import log_mel, mel_power, mfcc
from mmtune.data.media.recordings import at_rate, read_wav, resampled, to_float, to_int16


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)


def chirp(rate: int, seconds: float) -> np.ndarray:
    """A tone that rises to 2 kHz, (n,) float32."""
    time = np.arange(int(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * 1000 * time**2 / seconds)).astype(np.float32)


def mel_by_hand() -> np.ndarray:
    """(40, 401): triangles of height one, evenly spaced on HTK's mel scale up to 8 kHz."""
    top = 2595 * np.log10(1 + 8000 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, 42) / 2595) - 1)
    bins = np.linspace(0, 8000, 401)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rising, falling))


def test_cepstra_are_those_written_out_by_hand() -> None:
    wave = noise(16000)
    order, band = np.arange(1, 13)[:, None], np.arange(40) + 0.5
    cosines = np.sqrt(2 / 40) * np.cos(np.pi / 40 * order * band)
    for frame in (0, 7, 38):
        window = np.hamming(801)[:-1] * wave[400 * frame : 400 * frame + 800]
        power = np.abs(np.fft.rfft(window)) ** 2
        assert np.allclose(mfcc(wave)[frame, :12], cosines @ np.log(mel_by_hand() @ power), atol=1e-3)


def test_the_last_coefficient_is_the_log_energy_of_the_frame() -> None:
    wave = noise(16000)
    energy = [np.log(np.sum(np.square(wave[400 * t : 400 * t + 800], dtype=np.float64))) for t in range(39)]
    assert np.allclose(mfcc(wave)[:, 12], energy, atol=2e-4)


def test_mfcc_maps_any_leading_shape_and_each_clip_by_itself() -> None:
    waves = noise(2, 3, 16000) * np.array([1e-3, 1, 0.1], np.float32)[:, None]
    features = mfcc(waves)
    assert (features.shape, features.dtype.name) == ((2, 3, 39, 13), "float32")
    for index in np.ndindex(2, 3):
        assert np.allclose(features[index], mfcc(waves[index]), atol=1e-4)
    assert mfcc(noise(0, 16000)).shape == (0, 39, 13)
    many = noise(600, 16000)
    assert np.allclose(mfcc(many)[590], mfcc(many[590]), atol=1e-4)


DIGEST = """
import hashlib
import numpy as np
from mmtune.data.media.features import log_mel, mfcc
from mmtune.data.forms import LogMel, Mfcc
rng = np.random.default_rng(0)
waves = (rng.normal(0, 3000, (300, 16000)) * rng.uniform(0.01, 1, (300, 1))).astype(np.int16)
for form, made in ((Mfcc(), mfcc(waves)), (LogMel(), log_mel(waves, 40))):
    print(hashlib.sha256(form.fit(made).scaled(made).tobytes()).hexdigest())
"""
PROCESSORS = [
    {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    {"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4"},
    {"OPENBLAS_CORETYPE": "Nehalem"},
    {"NPY_DISABLE_CPU_FEATURES": "X86_V4,X86_V3"},
]


@pytest.mark.slow
def test_features_are_the_same_with_any_number_of_threads_and_on_any_processor() -> None:
    """As a data set's digest is of them: sums differ in their last bits with how many numbers are added at once."""
    found = set()
    for processor in PROCESSORS:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | processor
        command = [sys.executable, "-c", DIGEST]
        found.add(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert len(found) == 1


def test_padding_and_silence_stay_finite() -> None:
    padded = np.pad(noise(3000), (8000, 5000))
    assert np.all(np.isfinite(mfcc(padded)))
    assert np.all(np.isfinite(mfcc(np.zeros(16000, np.float32))))


def test_mfcc_takes_a_window_at_least() -> None:
    with pytest.raises(InputError, match="must have 800 samples or more"):
        mfcc(noise(799))
    assert mfcc(noise(2, 800)).shape == (2, 1, 13)


def mel_of_frame(wave: np.ndarray, frame: int, bands: int) -> np.ndarray:
    """Log mel power of one frame of 25 ms, written out by hand."""
    top = 2595 * np.log10(1 + 8000 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    bins = np.linspace(0, 8000, 257)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    window = np.hanning(401)[:-1] * wave[160 * frame : 160 * frame + 400]
    power = np.abs(np.fft.rfft(window, 512)) ** 2
    return np.log(np.maximum(0, np.minimum(rising, falling)) @ power)


def test_log_mel_is_that_written_out_by_hand() -> None:
    wave = to_int16(noise(16000))
    found = log_mel(np.stack([wave, wave[::-1]]), 24)
    assert (found.shape, found.dtype.name) == ((2, 98, 24), "float32")
    for frame in (0, 50, 97):
        assert np.allclose(found[0, frame], mel_of_frame(to_float(wave), frame, 24), atol=1e-3)
    assert log_mel(np.zeros((0, 1600), np.int16), 24).shape[0] == 0


@pytest.mark.parametrize(("window", "n_fft", "hop", "shape"), [(800, 800, 400, "hamming"), (400, 512, 160, "hann")])
@pytest.mark.parametrize("bands", [24, 40, 80])
def test_mel_power_is_librosas(window: int, n_fft: int, hop: int, shape: str, bands: int) -> None:
    waves = noise(30, 16000)
    wide = np.pad(waves, ((0, 0), ((n_fft - window) // 2,) * 2))
    frames = {"win_length": window, "hop_length": hop, "window": shape, "center": False}
    with threadpool_limits(1):
        expected = librosa.feature.melspectrogram(
            y=wide.astype(float), sr=16000, n_fft=n_fft, n_mels=bands, htk=True, norm=None, dtype=float, **frames
        )
    np.testing.assert_allclose(mel_power(waves, window, hop, shape, bands, n_fft), expected, rtol=1e-6)


@pytest.mark.parametrize("rate", [1000, 8000, 11025, 22050, 44100, 48000, 768_000])
def test_sounds_are_resampled_as_librosa_does_it_to_the_last_bit(rate: int) -> None:
    for count in (1, 2, 101, rate // 3, rate):
        wave = noise(count)
        assert np.array_equal(resampled(wave, rate), librosa.resample(wave, orig_sr=rate, target_sr=16000))


def test_any_length_is_asked_for() -> None:
    wave = chirp(16000, 0.5)
    assert np.array_equal(at_rate(wave, 16000, 8000), to_float(to_int16(wave)))
    assert at_rate(wave, 16000, 1600).shape == (1600,)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 96000])
def test_any_rate_gives_the_same_second(rate: int) -> None:
    second = at_rate(chirp(rate, 1.0), rate)
    assert second.shape == (16000,)
    assert second.dtype == np.float32
    middle = slice(200, -200)
    assert np.abs(second[middle] - chirp(16000, 1.0)[middle]).max() < 0.01


def test_short_is_centred_and_long_keeps_its_loudest_second() -> None:
    short = at_rate(np.full(1000, 0.5, np.float32), 16000)
    assert np.array_equal(np.flatnonzero(short), np.arange(7500, 8500))
    quiet = 0.01 * np.ones(40000, np.float32)
    quiet[15000:31000] = 0.5
    assert np.all(at_rate(quiet, 16000) == 0.5)


def test_stored_waveforms_give_the_same_features() -> None:
    second = at_rate(chirp(8000, 0.6), 8000)
    assert np.array_equal(to_float(to_int16(second)), second)
    assert to_int16(np.array([-2.0, -1.0, 1.0, 2.0], np.float32)).tolist() == [-32768, -32768, 32767, 32767]


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_every_depth_and_channel_count_is_read(tmp_path: Path, subtype: str, channels: int) -> None:
    wave = chirp(22050, 0.4)
    path = tmp_path / "x.wav"
    soundfile.write(path, np.repeat(wave[:, None], channels, axis=1), 22050, subtype=subtype)
    samples, rate = read_wav(path)
    assert rate == 22050
    assert samples.shape == wave.shape
    assert np.abs(samples - wave).max() < (0.01 if subtype == "PCM_U8" else 1e-4)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = chirp(8000, 0.2), noise(1600)
    soundfile.write(tmp_path / "x.wav", np.stack([left, right], axis=1), 8000, subtype="FLOAT")
    assert np.allclose(read_wav(tmp_path / "x.wav")[0], (left + right) / 2, atol=1e-6)


def wav_header(rate: int, data: bytes, said: int) -> bytes:
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * 2 % 2**32, 2, 16)
    return struct.pack("<4sI4s", b"RIFF", said + 36, b"WAVE") + form + struct.pack("<4sI", b"data", said) + data


def write_float(path: Path, samples: np.ndarray, rate: int = 8000) -> None:
    soundfile.write(path, samples, rate, subtype="FLOAT")


BAD_WAVS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda p: p.write_bytes(b""), "is empty"),
    "no samples": (lambda p: p.write_bytes(wav_header(8000, b"", 0)), "holds none"),
    "text": (lambda p: p.write_text("I am no sound\n" * 99), "can be decoded"),
    "zeros": (lambda p: p.write_bytes(bytes(5000)), "can be decoded"),
    "header only": (lambda p: p.write_bytes(b"RIFF"), "must be"),
    "no fmt": (lambda p: p.write_bytes(b"RIFF\x04\x00\x00\x00WAVE"), "can be decoded"),
    "cut": (lambda p: p.write_bytes(wav_header(8000, bytes(range(250)) * 4, 9000)), "must be complete"),
    "NaN": (lambda p: write_float(p, np.where(np.arange(800) == 5, np.nan, chirp(8000, 0.1))), "finite"),
    "inf": (lambda p: write_float(p, np.where(np.arange(800) == 5, np.inf, chirp(8000, 0.1))), "finite"),
    "silent": (lambda p: write_float(p, np.zeros(8000)), "silent"),
    "constant": (lambda p: write_float(p, np.full(8000, 0.3)), "silent"),
    "long": (lambda p: write_float(p, noise(8000 * 61)), "at most 60 s long, is 61 s"),
    "rate 0": (lambda p: p.write_bytes(wav_header(0, bytes(range(200)), 200)), "must be"),
    "rate 1": (lambda p: p.write_bytes(wav_header(1, bytes(range(200)), 200)), "sample rate"),
    "rate 4 GHz": (lambda p: p.write_bytes(wav_header(2**32 - 1, bytes(range(200)), 200)), "must be"),
    "folder": (lambda p: p.mkdir(), "is no file"),
    "missing": (lambda p: None, "is missing"),
}


@pytest.mark.parametrize("name", BAD_WAVS)
def test_a_bad_wav_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    make, said = BAD_WAVS[name]
    make(tmp_path / "x.wav")
    with pytest.raises(InputError) as caught:
        read_wav(tmp_path / "x.wav")
    line = str(caught.value)
    assert line.startswith(str(tmp_path / "x.wav"))
    assert said in line
    assert "\n" not in line


def test_one_sample_is_refused_or_read_but_never_a_crash(tmp_path: Path) -> None:
    write_float(tmp_path / "x.wav", np.array([0.5, -0.5]))
    samples, rate = read_wav(tmp_path / "x.wav")
    assert at_rate(samples, rate).shape == (16000,)


def test_statistics_standardise_then_map_training_to_the_unit_interval() -> None:
    features = mfcc(noise(20, 16000))
    form = Mfcc().fit(features)
    clips = form.scaled(features)
    assert (clips.shape, clips.dtype.name) == (features.shape, "float32")
    assert clips.min() == 0
    assert clips.max() == 1
    scaled = StandardScaler().fit_transform(features.reshape(-1, 13).astype(np.float64))
    expected = (scaled - scaled.min()) / np.ptp(scaled)
    assert np.allclose(clips.reshape(-1, 13), expected, atol=1e-6)
    assert np.array_equal(form.scaled(features[3:4])[0], clips[3])


def test_features_that_never_vary_are_refused() -> None:
    with pytest.raises(InputError, match="positive"):
        Mfcc().fit(np.ones((4, 39, 13), np.float32))

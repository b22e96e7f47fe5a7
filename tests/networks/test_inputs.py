"""First layers against scikit-learn, librosa and scipy; what they learn depends on the training rows alone."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.signal import ShortTimeFFT
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from mmtune.base.errors import InputError
from mmtune.networks.inputs import CoefficientsFirst, ScaledByMaximum, Spectrogram, Standardised, one_channel


def clips(rows: int = 40) -> Tensor:
    """Clips on different scales; column 0 never varies, 1 is always zero, 2 varies by less than float64 can tell."""
    values = np.random.default_rng(5).normal(3, 2, (rows, 39, 13)).astype(np.float32)
    values *= np.linspace(0.01, 100, 13, dtype=np.float32)
    values[:, 0, 0], values[:, 0, 1] = 0.1, 0
    values[:, 0, 2] = 1e-12
    values[0, 0, 2] = np.nextafter(np.float32(1e-12), np.float32(1))
    return torch.from_numpy(values)


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_standardised_is_the_standard_scaler_of_the_training_rows(seed: int | None) -> None:
    audio = clips()
    weights = torch.ones(40) if seed is None else torch.randint(1, 9, (40,), generator=torch.manual_seed(seed))
    layer = Standardised((39, 13))
    layer.prepare(audio, weights.long())
    rows = np.repeat(audio.flatten(1).numpy(), weights.long().numpy(), axis=0)
    scaler = StandardScaler().fit(rows)
    np.testing.assert_allclose(layer.mean, scaler.mean_, rtol=1e-6)
    np.testing.assert_allclose(layer.scale, scaler.scale_, rtol=1e-6)
    np.testing.assert_allclose(layer(audio), scaler.transform(audio.flatten(1).numpy()), rtol=1e-4, atol=1e-4)


def test_columns_without_variance_are_only_centred() -> None:
    layer = Standardised((39, 13))
    layer.prepare(clips(), torch.ones(40, dtype=torch.int64))
    assert layer.scale[:2].tolist() == [1, 1]
    assert layer(clips())[:, :2].abs().max() == 0


def test_standardised_passes_everything_before_it_is_prepared() -> None:
    assert torch.equal(Standardised((39, 13))(clips()), clips().flatten(1))


def test_what_is_learnt_is_saved_with_the_weights() -> None:
    layer, copy = (Standardised((39, 13)) for _ in range(2))
    layer.prepare(clips(), torch.ones(40, dtype=torch.int64))
    copy.load_state_dict(layer.state_dict())
    assert torch.equal(layer(clips()), copy(clips()))


def waves(count: int = 5) -> NDArray[np.float32]:
    """Full-scale noise, one of its samples -1; the second is silent."""
    values = np.random.default_rng(2).integers(-32768, 32768, (count, 16_000), dtype=np.int16)
    values[0, 700], values[1] = -32768, 0
    return values.astype(np.float32) / 32768


@pytest.mark.parametrize(("n_fft", "hop"), [(512, 256), (400, 160), (1024, 1024), (255, 100)])
def test_spectrogram_is_that_of_librosa(n_fft: int, hop: int) -> None:
    found = Spectrogram(n_fft, hop)(torch.from_numpy(waves()))
    wide = waves().astype(np.float64)
    expected = librosa.stft(wide, n_fft=n_fft, hop_length=hop, window="hann", center=False)
    assert found.dtype == torch.float32
    assert found.shape == (5, n_fft // 2 + 1, 1 + (16_000 - n_fft) // hop)
    np.testing.assert_allclose(found, np.abs(expected), atol=2e-4)


def test_spectrogram_is_that_of_scipy() -> None:
    transform = ShortTimeFFT.from_window("hann", fs=16_000, nperseg=512, noverlap=256, symmetric_win=False)
    wave = waves()[0].astype(np.float64)
    frames = transform.stft(wave)[:, 1:62]  # scipy's first frame begins before the recording does
    np.testing.assert_allclose(Spectrogram(512, 256)(torch.from_numpy(waves()))[0], np.abs(frames), atol=2e-4)


def test_a_tone_lies_in_its_bin() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    found = Spectrogram(512, 256)(torch.from_numpy(tone)[None])
    assert found.argmax(1).unique().tolist() == [1000 * 512 // 16_000]


@pytest.mark.parametrize("count", [5, 300])
def test_the_greatest_value_of_the_training_set_becomes_one(count: int) -> None:
    layer, audio = ScaledByMaximum(Spectrogram(512, 256)), torch.from_numpy(waves(count))
    before = layer(audio)
    layer.prepare(audio)
    torch.testing.assert_close(layer(audio), before / before.max())
    assert layer(audio).max() == pytest.approx(1)


def test_the_maximum_of_signed_features_is_one_of_magnitude() -> None:
    layer = ScaledByMaximum(CoefficientsFirst())
    layer.prepare(-clips())
    assert layer(-clips()).abs().max() == 1
    assert layer(clips()).shape == (40, 13, 39)


def test_silence_alone_is_refused() -> None:
    layer = ScaledByMaximum(Spectrogram(512, 256))
    with pytest.raises(InputError, match="maximum above 0"):
        layer.prepare(torch.zeros(3, 16_000))
    assert layer.maximum == 1


@pytest.mark.parametrize("shape", [(4, 507), (4, 28, 28)])
def test_a_channel_is_added_and_the_values_stay_in_place(shape: tuple[int, ...]) -> None:
    values = torch.rand(shape)
    assert torch.equal(one_channel(values), values.unsqueeze(1))
    assert one_channel(values).data_ptr() == values.data_ptr()

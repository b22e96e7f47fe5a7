"""What of a waveform a network may hear, against librosa, numpy and scipy."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from scipy.fft import dct
from torch import Tensor

from mmtune.base.errors import InputError
from mmtune.networks.config import SpectrogramCNN
from mmtune.networks.sounds import (
    FLOOR,
    LOWEST,
    PITCHES,
    TUNING,
    Cepstrum,
    LogSpectrogram,
    WithDeltas,
    chroma_filters,
    mel_filters,
)


def waves(samples: int, rows: int = 2) -> Tensor:
    return torch.randn(rows, samples, generator=torch.Generator().manual_seed(0)) / 10


@pytest.mark.parametrize(("n_fft", "mels", "rate"), [(512, 40, 16_000), (400, 23, 8_000), (1024, 80, 44_100)])
def test_mel_filters_are_librosas(n_fft: int, mels: int, rate: int) -> None:
    expected = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=mels, htk=True, norm=None)
    np.testing.assert_allclose(mel_filters(n_fft // 2 + 1, mels, rate).T, expected, atol=1e-5)


@pytest.mark.parametrize("mels", [0, 20])
def test_a_spectrogram_is_the_logarithm_of_the_power_of_each_windowed_piece(mels: int) -> None:
    given = waves(1000)
    made = LogSpectrogram(256, 100, mel_filters(129, mels, 16_000) if mels else None)(given)
    pieces = given.unfold(1, 256, 100).double().numpy()
    power = np.abs(np.fft.rfft(pieces * torch.hann_window(256).double().numpy())) ** 2
    bands = power @ mel_filters(129, mels, 16_000).double().numpy() if mels else power
    np.testing.assert_allclose(made, np.log(bands + FLOOR), rtol=1e-3, atol=1e-3)
    silence = LogSpectrogram(256, 100, mel_filters(129, mels, 16_000) if mels else None)(torch.zeros(1, 256))
    torch.testing.assert_close(silence, torch.full_like(silence, FLOOR).log())


def test_cepstra_are_the_first_coefficients_of_the_orthonormal_cosine_transform() -> None:
    bands = torch.randn(2, 5, 40, generator=torch.Generator().manual_seed(0))
    made = Cepstrum(40, 13)(bands)
    np.testing.assert_allclose(made, dct(bands.double().numpy(), type=2, norm="ortho")[..., :13], atol=1e-5)


@pytest.mark.parametrize(("n_fft", "rate"), [(512, 16_000), (2048, 44_100)])
def test_a_frequency_counts_for_its_pitch_in_any_octave(n_fft: int, rate: int) -> None:
    """All of it counts, for the two nearest pitches; twice the frequency is the same pitch."""
    bins = n_fft // 2 + 1
    weights, hertz = chroma_filters(bins, rate), np.linspace(0, rate / 2, bins)
    np.testing.assert_allclose(weights.sum(1), hertz >= LOWEST, atol=1e-5)
    assert ((weights > 0).sum(1) <= 2).all()
    whole = [n for n in range(bins // 2) if hertz[n] >= LOWEST]
    np.testing.assert_allclose(weights[whole], weights[[2 * n for n in whole]], atol=1e-5)
    nearest = np.round(PITCHES * np.log2(hertz[whole] / TUNING)) % PITCHES
    assert (weights[whole].argmax(1).numpy() == nearest).all()


@pytest.mark.parametrize(
    ("changed", "features"),
    [
        ({}, 40),
        ({"mels": 0}, 257),
        ({"features": "cepstra"}, 13),
        ({"features": "cepstra", "mels": 0, "coefficients": 20}, 20),
        ({"features": "chroma"}, PITCHES),
    ],
)
@pytest.mark.parametrize("deltas", [0, 2])
def test_each_kind_of_features_is_a_picture_for_the_same_convolutions(
    changed: dict[str, int | str], features: int, deltas: int
) -> None:
    config = SpectrogramCNN(channels=2, width=5, deltas=deltas, input_norm="batch", **changed)  # type: ignore[arg-type]
    network = config.build((4000,))
    assert network(waves(4000)).shape == (2, 5)
    norm = next(own for own in network if isinstance(own, torch.nn.BatchNorm1d))
    assert norm.num_features == features
    first = next(own for own in network if isinstance(own, torch.nn.Conv2d))
    assert first.in_channels == 1 + deltas


def test_deltas_are_central_differences() -> None:
    ramp = torch.arange(12.0).reshape(1, 6, 2) ** 2
    made = WithDeltas(2)(ramp)
    np.testing.assert_allclose(made[0, 1], np.gradient(ramp[0].numpy(), axis=0), atol=1e-5)
    np.testing.assert_allclose(made[0, 2], np.gradient(made[0, 1].numpy(), axis=0), atol=1e-5)


def test_no_more_coefficients_than_bands() -> None:
    with pytest.raises(InputError, match="coefficients must be at most the 8 bands they are of, got 13"):
        SpectrogramCNN(features="cepstra", mels=8).build((4000,))

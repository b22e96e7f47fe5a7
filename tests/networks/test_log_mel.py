"""Log-mels are librosa's, and neither level nor, band by band, the microphone is anything to the encoder."""

from __future__ import annotations

from typing import Any

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor

from mmtune.base.errors import InputError
from mmtune.networks.config.log_mel import LogMelResNet
from mmtune.networks.encoders.log_mel import (
    AtSpeeds,
    FlooredLogMel,
    HiddenBands,
    MaximaOverTime,
    StandardisedClips,
    WithDeltas,
    played,
)
from mmtune.networks.output import count_parameters
from mmtune.networks.sounds import mel_filters

RATE = 16_000


def waves(rows: int = 3, samples: int = 8000) -> Tensor:
    made = torch.Generator().manual_seed(3)
    swell = torch.linspace(0, 3.1, samples).sin()
    return 0.1 * torch.randn(rows, samples, generator=made) * swell


def test_filters_between_two_frequencies_are_librosas() -> None:
    expected = librosa.filters.mel(sr=RATE, n_fft=512, n_mels=40, fmin=60, fmax=3800, htk=True, norm=None)
    torch.testing.assert_close(mel_filters(257, 40, RATE, 60, 3800), torch.from_numpy(expected.T), rtol=1e-4, atol=1e-5)


def test_spectrograms_are_librosas_floored_below_their_own_top() -> None:
    x = waves()
    made = FlooredLogMel(LogMelResNet(floor=40.0))(x)
    kinds = {"n_fft": 512, "win_length": 400, "hop_length": 320, "center": False, "n_mels": 40}
    bands = {"fmin": 60, "fmax": 3800, "htk": True, "norm": None}
    power = librosa.feature.melspectrogram(y=x.double().numpy(), sr=RATE, **kinds, **bands)
    floor = power.max(axis=(1, 2), keepdims=True) * 1e-4
    expected = np.log(np.maximum(power, floor) / floor).swapaxes(1, 2)
    torch.testing.assert_close(made.double(), torch.from_numpy(expected), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("standardise", ["clip", "band"])
def test_the_level_of_a_recording_is_nothing_to_it(standardise: str) -> None:
    torch.manual_seed(0)
    encoder = LogMelResNet(channels=4, standardise=standardise).build((8000,)).eval()
    x = waves()
    torch.testing.assert_close(encoder(x), encoder(0.05 * x), rtol=1e-3, atol=1e-4)


def test_what_a_microphone_does_to_the_bands_is_nothing_to_features_standardised_by_band() -> None:
    features, gains = torch.randn(4, 30, 12), torch.randn(4, 1, 12)
    by_band, whole = StandardisedClips(True), StandardisedClips(False)
    torch.testing.assert_close(by_band(features + gains), by_band(features), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(whole(features + gains), whole(features), atol=0.1)
    assert float(whole(5 * features + 3).std(correction=0)) == pytest.approx(1, abs=1e-3)


def test_silence_is_zeros() -> None:
    encoder = LogMelResNet(channels=4).build((8000,)).eval()
    assert torch.isfinite(encoder(torch.zeros(2, 8000))).all()
    assert not StandardisedClips(False)(FlooredLogMel(LogMelResNet())(torch.zeros(2, 8000))).any()


def test_one_stretch_of_bands_is_hidden_while_training_and_none_after() -> None:
    hide, x = HiddenBands(0.25), torch.ones(400, 5, 20)
    gone = hide(x)[:, 0] == 0
    assert gone.sum(1).unique().tolist() == [0, 1, 2, 3, 4, 5]
    edges = (gone.int().diff(dim=1) != 0).sum(1) + gone[:, 0] + gone[:, -1]
    assert set(edges.tolist()) <= {0, 2}, "one stretch"
    assert gone.any(0).all()
    assert torch.equal(hide.eval()(x), x)


def test_no_more_than_its_share_of_bands_is_hidden() -> None:
    """Of 40 bands .19 are 7.6."""
    assert int((HiddenBands(0.19)(torch.ones(4_000, 1, 40)) == 0).sum(2).max()) == 7


def test_deltas_are_numpys_gradients_along_time() -> None:
    x = torch.randn(2, 9, 5)
    found = WithDeltas(2)(x)
    first = np.gradient(x.numpy(), axis=1)
    for channel, expected in enumerate([x.numpy(), first, np.gradient(first, axis=1)]):
        np.testing.assert_allclose(found[:, channel], expected, atol=1e-5)
    assert LogMelResNet(channels=4, deltas=2).build((20, 12))(torch.randn(3, 20, 12)).shape == (3, 64)


def test_maxima_keep_the_order_of_sounds() -> None:
    maps = torch.zeros(1, 2, 9, 4)
    maps[0, 0, 1], maps[0, 1, 8] = 1.0, 2.0
    assert MaximaOverTime(3)(maps).tolist() == [[1, 0, 0, 0, 0, 2]]


def test_at_three_speeds_it_is_the_mean_once_trained_and_the_waveform_alone_before() -> None:
    class Crossings(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x.sign().diff(dim=1) != 0).float().sum(1, keepdim=True)

    n = torch.arange(8001) - 4000
    tone = (2 * torch.pi * 0.05 * n + 0.3).sin().unsqueeze(0)
    hear = AtSpeeds(0.25, Crossings())
    assert hear(tone).item() == pytest.approx(800, abs=1), "as it is"
    # Slower, all of it is a part of the tone; faster, what lies outside is silence.
    assert hear.eval()(tone).item() == pytest.approx((800 / 1.25 + 800 + 800) / 3, abs=2)


def test_what_three_speeds_leave_is_averaged_before_the_linear_layer() -> None:
    torch.manual_seed(0)
    encoder = LogMelResNet(channels=4, test_speed=0.1).build((8000,)).eval()
    x = waves()
    still = torch.zeros(len(x))
    pooled = [encoder[0].features(played(x, still + factor, still)) for factor in (1 / 1.1, 1.0, 1.1)]
    torch.testing.assert_close(encoder(x), encoder[1:](sum(pooled) / 3))
    assert not torch.allclose(encoder(x), encoder[1:](pooled[1]))


def test_features_over_time_are_heard_once() -> None:
    of_features = LogMelResNet(channels=4, test_speed=0.1).build((20, 12))
    assert not any(isinstance(own, AtSpeeds) for own in of_features.modules())


def test_its_usual_size_is_what_a_phone_can_hold() -> None:
    assert 50_000 < count_parameters(LogMelResNet().build((RATE,))) < 500_000


@pytest.mark.parametrize(
    ("fields", "shape", "rule"),
    [
        (
            {"low": 5000.0},
            (8000,),
            "low and high must be frequencies up to half of sample_rate=16000.* got 5000 and 3800",
        ),
        ({"high": 9000.0}, (8000,), "got 60 and 9000"),
        ({"hop": 500}, (8000,), "hop must be .* 1 to 400, got 500"),
        ({}, (511,), "must be given 512 samples or more, got 511"),
        ({"parts": 4}, (8, 40), "parts must be at most the 2 steps that so many stages leave, got 4"),
        ({}, (1, 28, 28), "LogMelResNet must be given a waveform"),
    ],
)
def test_what_it_cannot_read_is_refused(fields: dict[str, Any], shape: tuple[int, ...], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        LogMelResNet(**fields).build(shape)

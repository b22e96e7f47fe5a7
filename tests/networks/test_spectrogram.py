"""Subrahmanya's network: sizes that follow from layers and frames, both views of the audio, parts of the embedding."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from shapes import built, drawn_alike
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmtune.base.errors import InputError
from mmtune.networks.config.subrahmanya import SpectrogramFusionConfig
from mmtune.networks.layers import in_rows
from mmtune.networks.output import count_parameters
from mmtune.networks.papers.subrahmanya import SpectrogramFusion

IMAGE = torch.rand(6, 1, 28, 28)
WAVES = torch.rand(6, 16_000) * 0.5 - 0.25
CLIPS = torch.rand(6, 39, 13)


def build(**fields: Any) -> SpectrogramFusion:
    model = built(SpectrogramFusionConfig(**fields))
    assert isinstance(model, SpectrogramFusion)
    return model


def sound_of(config: SpectrogramFusionConfig) -> tuple[str, Tensor]:
    name = config.reads[1]
    return name, {"waveform": WAVES, "audio": CLIPS}[name]


def prepare(model: SpectrogramFusion, values: Tensor) -> None:
    model.prepare({model.heard: (values, torch.ones(6, dtype=torch.int64))})


def test_the_defaults_are_the_printed_layers() -> None:
    model = build()
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv1d | nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.kernel_size[0]) for m in convolutions] == [
        *((1, 32, 3), (32, 64, 3)),
        *((257, 32, 3), (32, 64, 3)),
    ]
    norms = [m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    assert norms == [32, 64, 32, 64]
    image = (9 * 32 + 32) + (9 * 32 * 64 + 64) + 2 * (32 + 64)
    audio = (3 * 257 * 32 + 32) + (3 * 32 * 64 + 64) + 2 * (32 + 64)
    dense = (64 * 7 * 7 + 64 * 15) * 128 + 128 + 128 * 10 + 10
    assert count_parameters(model) == image + audio + dense


@pytest.mark.parametrize(
    ("view", "layers", "fc_layers", "hidden"), list(itertools.product(("stft", "mfcc"), (1, 2, 3), (1, 3), (16,)))
)
def test_every_size_trains_a_step_and_answers(view: str, layers: int, fc_layers: int, hidden: int) -> None:
    torch.manual_seed(0)
    config = SpectrogramFusionConfig(view=view, layers=layers, fc_layers=fc_layers, hidden=hidden, filters=8)
    model, (name, sound) = built(config), sound_of(config)
    prepare(model, sound)
    cross_entropy(model(IMAGE, **{name: sound}).logits, torch.arange(6)).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    output = model.eval()(IMAGE, **{name: sound})
    assert output.logits.shape == (6, 10)
    assert output.embedding.shape == (6, sum(model.parts.values())) == (6, 2 * hidden)
    assert sum(isinstance(m, nn.Dropout) for m in model.modules()) == fc_layers


@pytest.mark.parametrize(("n_fft", "hop"), [(256, 128), (512, 160), (4000, 4000), (16, 16)])
def test_the_dense_layer_fits_every_spectrogram(n_fft: int, hop: int) -> None:
    model = build(n_fft=n_fft, hop=hop, filters=4, hidden=8).eval()
    assert torch.isfinite(model(IMAGE, waveform=WAVES).logits).all()


def test_the_parts_add_up_to_the_first_dense_layer_of_the_joined_maps() -> None:
    model = build().eval()
    output = model(IMAGE, waveform=WAVES)
    maps = torch.cat([model.image(IMAGE), model.audio(model.scaled(WAVES))], dim=1)
    assert maps.shape == (6, 64 * 7 * 7 + 64 * 15)
    seen, heard = output.embedding.split(list(model.parts.values()), dim=1)
    torch.testing.assert_close(seen + heard + model.fc.bias, model.fc(maps), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.logits, model.head(model.fc(maps)), rtol=1e-4, atol=1e-5)
    silent = model(IMAGE, waveform=torch.zeros_like(WAVES)).embedding.split(list(model.parts.values()), dim=1)
    assert torch.equal(silent[0], seen)
    assert not torch.allclose(silent[1], heard)


def test_pooling_before_the_activation_is_the_same() -> None:
    model, hidden = build().eval(), IMAGE
    layers = list(model.image)
    for conv, norm in zip(layers[:-1:4], layers[1::4], strict=True):
        hidden = nn.functional.max_pool2d(norm(conv(hidden)).relu(), 2)
    torch.testing.assert_close(model.image(IMAGE), in_rows(hidden))


@pytest.mark.parametrize("view", ["stft", "mfcc"])
def test_loudness_that_the_whole_training_set_shares_does_not_matter(view: str) -> None:
    config = SpectrogramFusionConfig(view=view)
    model, (name, sound) = built(config).eval(), sound_of(config)
    prepare(model, sound)
    before = model(IMAGE, **{name: sound}).logits
    prepare(model, sound * 2)
    torch.testing.assert_close(model(IMAGE, **{name: sound * 2}).logits, before)


def test_the_maximum_is_saved_with_the_weights_and_the_window_is_not() -> None:
    model, copy = build().eval(), build().eval()
    prepare(model, WAVES)
    state = model.state_dict()
    assert {name for name in state if name.startswith("scaled.")} == {"scaled.maximum"}
    copy.load_state_dict(state)
    assert torch.equal(copy(IMAGE, waveform=WAVES).logits, model(IMAGE, waveform=WAVES).logits)


def test_the_same_seed_draws_the_same_weights() -> None:
    assert drawn_alike(SpectrogramFusionConfig())


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({"layers": 4}, "layers"),
        ({"layers": 0}, "layers"),
        ({"hidden": 0}, "hidden"),
        ({"dropout": 1.0}, "dropout"),
        ({"view": "chroma"}, "view"),
        ({"n_fft": 512, "hop": 513}, "hop"),
        ({"n_fft": 16_001}, "n_fft"),
        ({"n_fft": 8000, "hop": 8000, "layers": 2}, "at least 4 frames"),
    ],
    ids=str,
)
def test_what_is_no_network_is_refused_in_one_line(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(InputError, match=rule) as caught:
        build(**fields)
    assert "\n" not in str(caught.value)

"""Venkatachalam's network: the printed sizes, the ladder of tries, and where the softmax comes twice."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
import torch
from shapes import built, drawn_alike
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmtune.base.errors import InputError
from mmtune.networks.config import MultiheadFusionConfig
from mmtune.networks.papers.venkatachalam import MultiheadFusion
from mmtune.study import load_study

STUDY = load_study("multihead_fusion")
TRIES = STUDY.tries
IMAGE, AUDIO = torch.rand(4, 1, 28, 28), torch.rand(4, 39, 13)
LABELS = torch.tensor([3, 1, 4, 1])


def config_of(name: str) -> MultiheadFusionConfig:
    model = {path.removeprefix("model."): value for path, value in TRIES[name].items() if path.startswith("model.")}
    return MultiheadFusionConfig(**model)  # type: ignore[arg-type]


def build(**fields: Any) -> MultiheadFusion:
    model = built(MultiheadFusionConfig(**fields))
    assert isinstance(model, MultiheadFusion)
    return model


def dropouts(module: nn.Module) -> int:
    return sum(isinstance(m, nn.Dropout) for m in module.modules())


def linears(module: nn.Module) -> list[tuple[int, int]]:
    return [(m.in_features, m.out_features) for m in module.modules() if isinstance(m, nn.Linear)]


def test_the_defaults_are_try_10_with_the_printed_audio_encoder() -> None:
    model = build()
    assert config_of("try_10") == MultiheadFusionConfig()
    assert linears(model.audio) == [(96 * 507, 128), (128, 64)]
    assert linears(model.image) == [(128 * 3 * 3, 64)]
    assert linears(model.head) == [(128, 10)]


@pytest.mark.parametrize("name", TRIES)
def test_every_try_trains_a_step_and_answers(name: str) -> None:
    torch.manual_seed(0)
    config = config_of(name)
    model = built(config)
    optimizer = torch.optim.Adam(model.parameters())
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    cross_entropy(model(IMAGE, AUDIO).logits, LABELS).backward()
    optimizer.step()
    assert all(not torch.equal(p, before[n]) for n, p in model.named_parameters())
    output = model.eval()(IMAGE, AUDIO)
    assert output.logits.shape == (4, 10)
    assert output.embedding.shape == (4, sum(model.parts.values())) == (4, 2 * config.width)


def test_every_try_says_everything() -> None:
    fields = {f"model.{f.name}" for f in dataclasses.fields(MultiheadFusionConfig)}
    train = {f"train.{f}" for f in ("epochs", "batch_size", "learning_rate", "class_weights", "keep_final")}
    assert list(TRIES) == [f"try_{n}" for n in range(1, 14)]
    assert all(set(values) == fields | train for values in TRIES.values())


def test_the_ladder_is_the_reports() -> None:
    tries = {name: config_of(name) for name in TRIES}
    assert [n for n, v in TRIES.items() if not v["train.class_weights"]] == ["try_1"]
    assert [n for n, c in tries.items() if not c.softmax] == ["try_1", "try_2"]
    assert [TRIES[n]["train.epochs"] for n in TRIES] == [30, 30, 50, 50, 30, 20] + 7 * [100]
    assert tries["try_6"] == tries[STUDY.going_on["try_6"]]
    assert tries["try_2"] == tries["try_1"]
    assert dataclasses.replace(tries["try_7"], softmax=False) == tries["try_2"]
    assert linears(built(tries["try_8"]).head)[0] == (256, 64)
    assert linears(built(tries["try_3"]).image) == [(64 * 7 * 7, 128), (128, 64)]


@pytest.mark.parametrize(
    ("name", "image", "audio"),
    [
        *(("try_1", 1, 0), ("try_3", 2, 1), ("try_4", 1, 0), ("try_8", 0, 0)),
        *(("try_10", 2, 2), ("try_11", 3, 3), ("try_12", 2, 2), ("try_13", 1, 2)),
    ],
)
def test_a_try_has_its_number_of_dropouts(name: str, image: int, audio: int) -> None:
    model = built(config_of(name))
    assert (dropouts(model.image), dropouts(model.audio)) == (image, audio)


def test_dropouts_at_the_same_place_are_one() -> None:
    model = build(image_kernels="3-3", image_dropouts="conv2-last-fc1", audio_dropouts="conv1-last")
    assert (dropouts(model.image), dropouts(model.audio)) == (2, 1)


def test_training_sees_the_softmax_and_evaluation_what_goes_into_it() -> None:
    model = build(dropout=0.0, fusion_norm=False)
    z = model.eval()(IMAGE, AUDIO).logits
    torch.testing.assert_close(model.train()(IMAGE, AUDIO).logits, z.softmax(1))
    single = build(dropout=0.0, fusion_norm=False, softmax=False)
    single.load_state_dict(model.state_dict())
    torch.testing.assert_close(single.train()(IMAGE, AUDIO).logits, z)


def plain_image(model: MultiheadFusion, image: Tensor) -> Tensor:
    """Try 10's image encoder in the printed order: convolution, ReLU, pool."""
    first, second, third = (m for m in model.image if isinstance(m, nn.Conv2d))
    hidden = nn.functional.max_pool2d(first(image).relu(), 2)
    hidden = nn.functional.max_pool2d(second(hidden).relu(), 2)
    return model.image[-2](nn.functional.max_pool2d(third(hidden), 2).movedim(1, -1).flatten(1))


def plain_audio(model: MultiheadFusion, audio: Tensor) -> Tensor:
    """Try 10's audio encoder over channels that lie one after the other."""
    heads = [m for m in model.audio.modules() if isinstance(m, nn.Conv1d)]
    first, second = (m for m in model.audio if isinstance(m, nn.Linear))
    wide = torch.cat([head(audio.reshape(-1, 1, 507).contiguous()) for head in heads], dim=1)
    assert wide.shape[1:] == (96, 507)
    return second(first(nn.functional.max_pool1d(wide, 3, 1, 1).movedim(1, -1).flatten(1)).relu())


def test_layout_and_order_of_pools_change_nothing() -> None:
    model = build().eval()
    embedding = model(IMAGE, AUDIO).embedding
    expected = torch.cat([plain_image(model, IMAGE), plain_audio(model, AUDIO)], dim=1)
    torch.testing.assert_close(embedding, expected)


def test_each_part_of_the_embedding_is_of_its_modality() -> None:
    model = build(width=128).eval()
    seen, heard = model(IMAGE, AUDIO).embedding.split(list(model.parts.values()), dim=1)
    other_seen, other_heard = model(IMAGE, AUDIO.flip(0)).embedding.split(list(model.parts.values()), dim=1)
    assert torch.equal(seen, other_seen)
    assert not torch.equal(heard, other_heard)


CHOICES = itertools.product(
    ("3-3", "5-3-3", "7-5-3-3"),
    ("none", "conv2-last-fc1"),
    (("multihead", False), ("multihead", True), ("sequential", False)),
    ("none", "conv1-last-fc1"),
    (1, 3),
)


@pytest.mark.parametrize(("kernels", "places", "net", "audio_places", "layers"), list(CHOICES)[::3])
def test_any_combination_is_a_network(
    kernels: str, places: str, net: tuple[str, bool], audio_places: str, layers: int
) -> None:
    model = build(
        image_kernels=kernels,
        image_dropouts=places,
        image_fc=layers,
        audio_net=net[0],
        extra_conv=net[1],
        audio_dropouts=audio_places,
        audio_fc=layers,
        audio_pool=3,
        last_relu=True,
    )
    with torch.no_grad():
        assert torch.isfinite(model(IMAGE, AUDIO).logits).all()
    assert len(linears(model.image)) == len(linears(model.audio)) == layers


def test_the_same_seed_draws_the_same_weights() -> None:
    assert drawn_alike(MultiheadFusionConfig())


@pytest.mark.parametrize(
    "fields",
    [
        {"image_kernels": "4-3"},
        {"image_kernels": "3"},
        {"image_kernels": "3-3-3-3-3"},
        {"image_kernels": ""},
        {"image_kernels": 3},
        {"image_kernels": "3-²"},
        {"audio_kernels": "5-3-3"},
        {"audio_kernels": "05-3"},
        {"heads": "7,5,3"},
        {"image_dropouts": "fc1-conv2"},
        {"image_dropouts": "conv2-conv2"},
        {"audio_dropouts": "conv9"},
        {"audio_dropouts": ""},
        {"audio_net": "heads"},
        {"image_fc": 0},
        {"softmax": 1},
        {"dropout": 1.0},
        {"fusion_fc": 3},
    ],
    ids=str,
)
def test_what_is_no_network_is_refused_in_one_line(fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(InputError, match=name) as caught:
        build(**fields)
    assert "\n" not in str(caught.value)

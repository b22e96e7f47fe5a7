"""Every network that is shipped is built for the shapes and classes of any data, or says which rule these break."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from shapes import DIGITS
from torch.nn.functional import cross_entropy

from mmtune.base.errors import InputError
from mmtune.networks.config import (
    AudioRNNConfig,
    DualCNNConfig,
    ImageCNNConfig,
    LatentFusionConfig,
    MultiheadFusionConfig,
    SpectrogramFusionConfig,
    XFlowLSTMConfig,
    XFlowMLPConfig,
)
from mmtune.networks.shapes import Shape, Shapes
from mmtune.networks.storage import load_model, save_model

CONFIGS = [
    ImageCNNConfig(),
    ImageCNNConfig(kernel=5, pools="3-4"),
    AudioRNNConfig(hidden=8),
    AudioRNNConfig(hidden=8, view="sequence"),
    LatentFusionConfig(encoders="joint", audio=AudioRNNConfig(hidden=8)),
    LatentFusionConfig(embedding=10, audio=AudioRNNConfig(hidden=8)),
    MultiheadFusionConfig(extra_conv=True),
    MultiheadFusionConfig(audio_net="sequential"),
    DualCNNConfig(),
    SpectrogramFusionConfig(filters=4, hidden=8),
    SpectrogramFusionConfig(filters=4, hidden=8, view="mfcc"),
    XFlowMLPConfig(),
    XFlowLSTMConfig(),
]
COLOUR = Shapes(banks={"image": (3, 32, 40), "audio": (50, 20), "waveform": (8_000,)}, classes=7)
SEQUENCES = Shapes(banks={"image": (6, 32, 40), "audio": (6, 20)}, classes=7)
ROWS = 14


def names(config: object) -> str:
    return type(config).__name__


def batch(config: Any, shapes: Shapes, rows: int = ROWS) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {bank: torch.rand(rows, *shapes[bank], generator=generator) for bank in config.reads}


@pytest.mark.parametrize(
    ("config", "shapes"),
    [*((config, COLOUR) for config in CONFIGS), (XFlowMLPConfig(frames=4), SEQUENCES), (XFlowLSTMConfig(), SEQUENCES)],
    ids=names,
)
def test_it_trains_a_step_and_answers_for_other_data(config: Any, shapes: Shapes, tmp_path: Any) -> None:
    torch.manual_seed(0)
    model, inputs = config.build(shapes), batch(config, shapes)
    if hasattr(model, "prepare"):
        model.prepare({bank: (values, torch.ones(ROWS, dtype=torch.int64)) for bank, values in inputs.items()})
    output = model.train()(**inputs)
    losses = [cross_entropy(logits, torch.arange(ROWS) % 7) for logits in (output.logits, *output.alone.values())]
    torch.stack(losses).sum().backward()
    # A bias right before a batch norm has nothing to learn and gets no gradient.
    reached = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(reached) > len(list(model.parameters())) / 2
    assert all(torch.isfinite(grad).all() for grad in reached)
    answered = model.eval()(**inputs)
    assert answered.logits.shape == (ROWS, 7)
    assert answered.embedding.shape == (ROWS, sum(model.parts.values()))
    assert all(logits.shape == (ROWS, 7) for logits in answered.alone.values())
    save_model(tmp_path, model, config, shapes)
    loaded = load_model(tmp_path)
    assert loaded.shapes == shapes
    assert torch.equal(loaded.model(**inputs).logits, answered.logits)


@pytest.mark.parametrize("config", CONFIGS, ids=names)
def test_every_channel_of_a_picture_counts(config: Any) -> None:
    if "image" not in config.reads:
        return
    torch.manual_seed(0)
    model, inputs = config.build(COLOUR).eval(), batch(config, COLOUR, 2)
    before = model(**inputs).embedding
    for channel in range(3):
        changed = inputs["image"].clone()
        changed[:, channel] = 1 - changed[:, channel]
        assert not torch.allclose(model(**{**inputs, "image": changed}).embedding, before)


SMALL: list[tuple[Any, str, Shape, str]] = [
    (ImageCNNConfig(), "image", (1, 12, 40), "image must be larger for kernel 3 and 2 pools, got (1, 12, 40)"),
    (ImageCNNConfig(kernel=5), "image", (3, 40, 8), "image must be larger for kernel 5 and 2 pools, got (3, 40, 8)"),
    (MultiheadFusionConfig(), "image", (1, 7, 28), "image must be larger for 3 pools, got (1, 7, 28)"),
    (
        MultiheadFusionConfig(audio_net="sequential"),
        "audio",
        (3, 3),
        "audio must have more values for kernels 5-5, nothing is left of it",
    ),
    (MultiheadFusionConfig(extra_conv=True), "audio", (1, 3), "audio must have more values for an extra convolution"),
    (
        DualCNNConfig(),
        "image",
        (1, 28, 3),
        "kernel and stride must leave something of the image, got kernel 5 and stride 1: nothing is left of its 3",
    ),
    (
        DualCNNConfig(),
        "audio",
        (1, 3),
        "kernel and stride must leave something of the audio, got kernel 5 and stride 1: nothing is left of its 3",
    ),
    (
        SpectrogramFusionConfig(),
        "image",
        (1, 3, 28),
        "image must have 4 pixels a side or more where layers=2, got [3, 28]",
    ),
    (
        SpectrogramFusionConfig(),
        "waveform",
        (1_000,),
        "n_fft and hop must give at least 4 frames where layers=2, got n_fft 512 and hop 256: 2 frames of 1000 samples",
    ),
    (
        SpectrogramFusionConfig(),
        "waveform",
        (100,),
        "n_fft and hop must give at least 4 frames where layers=2, got n_fft 512 and hop 256: 0 frames of 100 samples",
    ),
    (SpectrogramFusionConfig(view="mfcc"), "audio", (3, 13), "audio must have at least 4 steps where layers=2, got 3"),
    (XFlowMLPConfig(), "image", (1, 7, 28), "a side of the image must be a whole number from 8"),
    (XFlowLSTMConfig(), "image", (1, 28, 12), "kernel1 must be a whole number from 1 to 6, got 8"),
]


@pytest.mark.parametrize(("config", "bank", "shape", "said"), SMALL, ids=lambda value: str(value)[:30])
def test_what_is_too_small_is_refused_with_rule_and_value(config: Any, bank: str, shape: Shape, said: str) -> None:
    with pytest.raises(InputError) as refusal, torch.device("meta"):
        config.build(replace(DIGITS, banks={**DIGITS.banks, bank: shape}))
    assert str(refusal.value).startswith(said)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("config", CONFIGS, ids=names)
def test_the_smallest_that_is_accepted_runs(config: Any) -> None:
    """Of every bank, the least length of each axis that is not refused; nothing may fail there."""
    for bank in config.reads:
        for axis in range(len(DIGITS[bank])):
            length, shapes = least(config, bank, axis)
            inputs = batch(config, shapes, 2)
            with torch.no_grad():
                assert torch.isfinite(config.build(shapes).eval()(**inputs).logits).all(), (bank, axis, length)


def least(config: Any, bank: str, axis: int) -> tuple[int, Shapes]:
    """The least length of an axis for which a network is built, and the shapes with it."""
    whole, low, high = DIGITS[bank], 0, DIGITS[bank][axis]
    while high - low > 1:
        length = (low + high) // 2
        try:
            with torch.device("meta"):
                config.build(shorter(whole, bank, axis, length))
        except InputError:
            low = length
        else:
            high = length
    return high, shorter(whole, bank, axis, high)


def shorter(whole: Shape, bank: str, axis: int, length: int) -> Shapes:
    return replace(DIGITS, banks={**DIGITS.banks, bank: (*whole[:axis], length, *whole[axis + 1 :])})


@pytest.mark.parametrize("config", CONFIGS, ids=names)
@pytest.mark.parametrize("shape", [None, (5,), (5, 6), (1, 28, 28, 28)], ids=str)
def test_a_bank_that_is_missing_or_of_another_kind_is_refused(config: Any, shape: Shape | None) -> None:
    for bank in config.reads:
        if shape is not None and len(shape) == len(DIGITS[bank]):
            continue
        banks = {name: own for name, own in {**DIGITS.banks, bank: shape}.items() if own is not None}
        with pytest.raises(InputError, match=rf"^{bank} must be of shape \(.*\) for this network, got ") as refusal:
            config.build(Shapes(banks=banks, classes=10))
        assert str(refusal.value).endswith(f"got {shape or 'none'}")

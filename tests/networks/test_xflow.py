"""XFlow's networks: the report's parameter counts, what masks hide, and each shortcut against the long way."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from shapes import DIGITS
from torch import Tensor, nn
from torch.nn.functional import batch_norm, cross_entropy, linear, max_pool2d, relu

from mmtune.base.errors import InputError
from mmtune.networks.config.xflow import XFlowLSTMConfig, XFlowMLPConfig
from mmtune.networks.layers import Dropout, in_rows
from mmtune.networks.output import count_parameters
from mmtune.networks.papers import xflow
from mmtune.networks.papers.crossing import repeat
from mmtune.networks.papers.xflow import LSTM, BatchNormOverTime, XFlowLSTM, XFlowMLP, evenly, valid_steps
from mmtune.networks.shapes import Shapes
from mmtune.study import load_study

Config = XFlowMLPConfig | XFlowLSTMConfig
NO_DROPOUT = {"pool_dropout": 0.0, "dense_dropout": 0.0, "merge_dropout": 0.0}
SMALL = {"kernel1": 3, "kernel2": 2}
STEPS = 7
STILL = Shapes(banks={"image": (1, 12, 16), "audio": (STEPS, 3)}, classes=4)
SEQUENCES = Shapes(banks={"image": (STEPS, 12, 16), "audio": (STEPS, 3)}, classes=4)
SHAPES = {1: STILL, STEPS: SEQUENCES}
SWITCHES = [(True, True), (True, False), (False, True), (False, False)]


def small_mlp(cross: bool = True, residual: bool = True, frames: int = 0) -> XFlowMLPConfig:
    return XFlowMLPConfig(**SMALL, frames=frames, cross=cross, residual=residual, **NO_DROPOUT)


def small_lstm(cross: bool = True, residual: bool = True) -> XFlowLSTMConfig:
    return XFlowLSTMConfig(**SMALL, cross=cross, residual=residual, merge_dropout=0.0)


def build(config: Config, shapes: Shapes = STILL, seed: int = 0) -> XFlowMLP | XFlowLSTM:
    """A model whose slopes, norms and biases are not at their beginnings, where some of them cancel."""
    torch.manual_seed(seed)
    model = config.build(shapes)
    assert isinstance(model, XFlowMLP | XFlowLSTM)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
        for name, buffer in model.named_buffers():
            if name.endswith(("mean", "var")):
                buffer.add_(torch.rand_like(buffer) * 0.2)
    return model


def batch(lengths: list[int], frames: int = 1, steps: int = STEPS, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Pictures and MFCCs of the small shapes, zero beyond the lengths."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.arange(steps) < torch.tensor(lengths)[:, None]
    audio = torch.randn(len(lengths), steps, 3, generator=generator) * own[:, :, None]
    image = torch.rand(len(lengths), frames if frames == 1 else steps, 12, 16, generator=generator)
    return image, audio


@pytest.mark.parametrize(("cross", "residual"), SWITCHES)
@pytest.mark.parametrize("cls", [XFlowMLPConfig, XFlowLSTMConfig])
def test_every_ablation_runs_on_pairs(cls: type[Config], cross: bool, residual: bool) -> None:
    model = build(cls(cross=cross, residual=residual), DIGITS).eval()
    output = model(torch.rand(2, 1, 28, 28), torch.randn(2, 39, 13))
    assert output.logits.shape == (2, 10)
    assert output.embedding.shape == (2, sum(model.parts.values()))
    assert list(model.parts)[:3] == (["cross"] if cross else []) + ["image", "audio"] + (
        ["lstm"] if not cross and cls is XFlowLSTMConfig else []
    )
    assert torch.isfinite(output.logits).all()
    assert not output.alone


@pytest.mark.parametrize(("cross", "residual"), SWITCHES)
@pytest.mark.parametrize("make", [small_mlp, small_lstm])
def test_every_parameter_is_reached_by_the_loss(make: Callable[..., Config], cross: bool, residual: bool) -> None:
    model = build(make(cross, residual)).train()
    image, audio = batch([STEPS] * 12)
    cross_entropy(model(image, audio).logits, torch.arange(12) % 4).backward()
    unreached = [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)
    ]
    assert unreached == []


def outputs_of(model: nn.Module, name: str) -> list[Tensor]:
    """Filled with what a part of the model returns, call by call."""
    seen: list[Tensor] = []
    model.get_submodule(name).register_forward_hook(lambda module, given, made: seen.append(made))
    return seen


@pytest.mark.parametrize("make", [small_mlp, small_lstm])
def test_the_cross_part_is_the_second_2d_to_1d_connection(make: Callable[..., Config]) -> None:
    model = build(make()).eval()
    seen = outputs_of(model, "extractor.junction2.cross_to_audio")
    image, audio = batch([STEPS, STEPS, 4])
    part = model(image, audio).embedding[:, : model.parts["cross"]]
    made = seen[0]
    if isinstance(model, XFlowLSTM):
        steps = made.unflatten(0, (3, STEPS))
        made = torch.stack([steps[n, :length].mean(0) for n, length in enumerate([STEPS, STEPS, 4])])
    torch.testing.assert_close(part, made)


def norm_of(x: Tensor, norm: Any) -> Tensor:
    return batch_norm(x, None, None, norm.weight, norm.bias, training=True, eps=1e-3)


def test_the_mlp_baseline_is_the_plain_network_of_the_report() -> None:
    """Figure 4a's left column, written down layer by layer."""
    model = build(small_mlp(cross=False, residual=False)).double().train()
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    fc1, fc2, fc_image, fc_merge, out = (
        next(m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == units and m.in_features == n)
        for n, units in ((21, 128), (128, 128), (32 * 3 * 4, 256), (384, 512), (512, 4))
    )
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    first, block1, audio1, block2, merge = norms
    picture, audio = (x.double() for x in batch([STEPS] * 5))
    x = relu(convs[1](relu(convs[0](norm_of(picture, first)))))
    x = max_pool2d(norm_of(x, block1), 2)
    x = max_pool2d(norm_of(relu(convs[3](relu(convs[2](x)))), block2), 2)
    seen = relu(fc_image(in_rows(x)))
    heard = relu(fc2(norm_of(relu(fc1(audio.flatten(1))), audio1)))
    merged = torch.cat([seen, heard], dim=1)
    expected = out(relu(fc_merge(norm_of(merged, merge))))
    assert len(convs) == 4
    torch.testing.assert_close(model(picture, audio).logits, expected)


def lstm_by_hand(model: XFlowLSTM, x: Tensor) -> Tensor:
    """The state after the steps (T, F) of one sequence, gate by gate as Keras has it: one bias."""
    weights = dict(model.lstm.lstm.named_parameters())
    h = c = torch.zeros(model.state)
    for step in x:
        gates = linear(step, weights["weight_ih_l0"], weights["bias_ih_l0"]) + weights["weight_hh_l0"] @ h
        i, f, g, o = gates.chunk(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
    return h


def by_hand(model: XFlowLSTM, image: Tensor, audio: Tensor, lengths: list[int]) -> Tensor:
    """Logits in training mode, the long way: every step of every sequence by itself, padding never touched."""
    merged: dict[tuple[int, int], Tensor] = {}
    if not model.sequences:
        shown = model.norm.weight * (image - image.mean()) / (image.var(correction=0) + 1e-3).sqrt() + model.norm.bias
    for t in range(max(lengths)):
        rows = [n for n, length in enumerate(lengths) if length > t]
        if not model.sequences:
            step = shown[rows]
        else:
            x = image[rows, t]
            step = model.norm.weight[t] * (x - x.mean()) / (x.var(correction=0) + 1e-3).sqrt() + model.norm.bias[t]
            step = step.unsqueeze(1)
        features, _ = model.extractor(step, audio[rows, t])
        x = torch.cat(list(features.values()), dim=1)
        norm = model.merge_norm
        x = norm.weight[t] * (x - x.mean()) / (x.var(correction=0) + 1e-3).sqrt() + norm.bias[t]
        merged |= {(n, t): x[place] for place, n in enumerate(rows)}
    states = [
        lstm_by_hand(model, torch.stack([merged[n, t] for t in range(length)])) for n, length in enumerate(lengths)
    ]
    return model.classify(torch.stack(states))


@pytest.mark.parametrize("frames", [1, STEPS])
@pytest.mark.parametrize(("cross", "residual"), SWITCHES)
def test_the_lstm_is_every_step_by_itself(frames: int, cross: bool, residual: bool) -> None:
    model = build(small_lstm(cross, residual), SHAPES[frames]).train()
    assert isinstance(model, XFlowLSTM)
    lengths = [7, 3, 1, 5]
    image, audio = batch(lengths, frames)
    found, expected = model(image, audio).logits, by_hand(model, image, audio, lengths)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    parameters = [p for p in model.parameters() if p.requires_grad]
    direction = torch.randn(found.shape)
    ours, theirs = (torch.autograd.grad(y, parameters, direction) for y in (found, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize(("cross", "residual"), SWITCHES)
def test_a_still_picture_computed_once_is_the_picture_repeated(cross: bool, residual: bool) -> None:
    model = build(XFlowLSTMConfig(cross=cross, residual=residual), DIGITS).train()
    picture, sound = torch.rand(3, 1, 28, 28), torch.randn(3 * 39, 13)
    convolutions = outputs_of(model, "extractor.image1")
    once, maps_once = model.extractor(picture, sound)
    often, maps_often = model.extractor(repeat(picture, len(sound)), sound)
    assert [len(made) for made in convolutions] == [3, 3 * 39]
    assert once.keys() == often.keys()
    parameters = list(model.extractor.parameters())
    for ours, theirs in ((once, often), (maps_once, maps_often)):
        for name, made in ours.items():
            torch.testing.assert_close(made, theirs[name])
    totals = [sum((made.square().mean() for made in features.values()), torch.zeros(())) for features in (once, often)]
    for a, b in zip(*(torch.autograd.grad(total, parameters) for total in totals), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("longer", [5, STEPS, STEPS + 4])
@pytest.mark.parametrize("frames", [1, STEPS])
def test_growing_the_padding_changes_nothing(frames: int, longer: int, training: bool) -> None:
    lengths = [4, 2, 3]
    image, audio = batch(lengths, frames, steps=4)
    grown = torch.cat([audio, torch.zeros(3, longer - 4, 3)], dim=1)
    wider = image if frames == 1 else torch.cat([image, torch.rand(3, longer - 4, 12, 16) * 99], dim=1)
    model = build(small_lstm(), SHAPES[frames]).train(training)
    other = copy.deepcopy(model)
    short, long = model(image, audio), other(wider, grown)
    torch.testing.assert_close(long.logits, short.logits)
    torch.testing.assert_close(long.embedding, short.embedding)
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(dict(other.named_buffers())[name], buffer)


def test_frames_beyond_a_sequence_are_never_seen() -> None:
    lengths = [7, 2, 5]
    image, audio = batch(lengths, STEPS)
    changed = image.clone()
    for row, length in enumerate(lengths):
        changed[row, length:] = 5.0
    assert not torch.equal(image, changed)
    for model in (build(small_lstm(), SEQUENCES).eval(), build(small_mlp(frames=3), SEQUENCES).eval()):
        torch.testing.assert_close(model(changed, audio).logits, model(image, audio).logits)


def test_a_zero_step_amid_others_is_no_padding() -> None:
    audio = torch.ones(3, 4, 2)
    audio[0, 1] = 0
    audio[1, 2:] = 0
    audio[2] = 0
    assert valid_steps(audio).tolist() == [[True] * 4, [True, True, False, False], [True, False, False, False]]


def test_more_steps_than_the_model_has_are_refused() -> None:
    image, audio = batch([STEPS + 1, 3], 1, steps=STEPS + 1)
    with pytest.raises(InputError, match="at most 7 steps"):
        build(small_lstm()).eval()(image, audio)


@pytest.mark.parametrize("frames", [2, 3, 6])
def test_the_mlp_reads_evenly_spaced_steps_of_a_sequence(frames: int) -> None:
    model = build(small_mlp(frames=frames), SEQUENCES).eval()
    lengths = [7, 4, 2, 1]
    image, audio = batch(lengths, STEPS)
    chosen = [[round((length - 1) * n / (frames - 1) + 1e-9) for n in range(frames)] for length in lengths]
    assert evenly(torch.tensor(lengths), frames).tolist() == chosen
    pick = [torch.stack([whole[row, steps] for row, steps in enumerate(chosen)]) for whole in (image, audio)]
    torch.testing.assert_close(model(image, audio).logits, model(*pick).logits, atol=1e-5, rtol=1e-4)
    grown = torch.cat([image, torch.rand(4, 3, 12, 16)], dim=1), torch.cat([audio, torch.zeros(4, 3, 3)], dim=1)
    torch.testing.assert_close(model(*grown).logits, model(image, audio).logits)


def test_batch_norm_over_time_keeps_running_statistics_of_what_is_valid() -> None:
    norm, x = BatchNormOverTime(3).train(), torch.randn(4, 3, 5) * 2 + 1
    valid = torch.tensor([[True, True, False]] * 2 + [[True, False, False]] * 2)
    norm(x, valid)
    mean = torch.stack([x[:, 0].mean(), x[:2, 1].mean(), torch.zeros(())])
    var = torch.stack([x[:, 0].var(correction=0), x[:2, 1].var(correction=0), torch.ones(())])
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, var)
    for _ in range(150):
        norm(x, valid)
    norm(x + 1, valid)
    torch.testing.assert_close(norm.running_mean, mean + 0.01 * valid.any(0))
    flat = norm.eval()(x, valid)
    torch.testing.assert_close(flat, (x - norm.running_mean[:, None]) / (norm.running_var[:, None] + 1e-3).sqrt())


def test_the_lstm_begins_as_that_of_keras_and_its_second_bias_stays_zero() -> None:
    torch.manual_seed(0)
    layer = LSTM(6, 4)
    weights = dict(layer.lstm.named_parameters())
    assert weights["bias_ih_l0"].tolist() == [0.0] * 4 + [1.0] * 4 + [0.0] * 8
    recurrent = weights["weight_hh_l0"]
    torch.testing.assert_close(recurrent.T @ recurrent, torch.eye(4))
    optimizer = torch.optim.Adam(layer.parameters(), fused=True)
    layer(torch.randn(5, 3, 6), torch.ones(5, 3, dtype=torch.bool)).sum().backward()
    optimizer.step()
    assert not weights["bias_hh_l0"].any()
    assert count_parameters(layer) == 4 * 4 * (6 + 4 + 1)


@pytest.mark.parametrize("make", [small_mlp, small_lstm])
def test_maps_show_what_the_audio_becomes(make: Callable[..., Config]) -> None:
    model = build(make()).eval()
    image, audio = batch([STEPS, 4, 2])
    maps = model.maps(image, audio)
    time = (STEPS,) if isinstance(model, XFlowLSTM) else ()
    assert {name: tuple(made.shape) for name, made in maps.items()} == {
        "cross1": (3, *time, 6, 8),
        "residual1": (3, *time, 6, 8),
        "cross2": (3, *time, 3, 4),
        "residual2": (3, *time, 3, 4),
    }
    unseen = model.maps(torch.rand_like(image), audio)
    for name in ("cross1", "residual1", "residual2"):
        torch.testing.assert_close(unseen[name], maps[name])
    assert not torch.allclose(unseen["cross2"], maps["cross2"])
    direct = model.extractor.junction1.residual_to_image(audio.flatten(0, 1) if time else audio.flatten(1)).mean(1)
    torch.testing.assert_close(maps["residual1"][0].flatten(), direct[: STEPS if time else 1].flatten())
    if time:
        assert not any(made[1, 4:].any() or made[2, 2:].any() for made in maps.values())
    assert set(build(make(residual=False)).eval().maps(image, audio)) == {"cross1", "cross2"}
    assert build(make(cross=False, residual=False)).eval().maps(image, audio) == {}


def test_many_sequences_are_classified_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(small_lstm()).eval()
    image, audio = batch([7, 2, 5, 6, 1])
    whole = model(image, audio)
    monkeypatch.setattr(xflow, "AT_ONCE", 2)
    parts = model(image, audio)
    torch.testing.assert_close(parts.logits, whole.logits)
    torch.testing.assert_close(parts.embedding, whole.embedding)


def losses(config: Config, steps: int) -> list[float]:
    torch.manual_seed(5)
    model = config.build(STILL)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, fused=True)
    image, audio = batch([7, 5, 6, 4] * 4)
    labels, found = torch.arange(16) % 4, []
    for _ in range(steps):
        loss = cross_entropy(model(image, audio).logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found


@pytest.mark.parametrize("make", [small_mlp, small_lstm])
@pytest.mark.parametrize("full", [True, False])
def test_training_fits_and_the_same_seed_fits_the_same(make: Callable[..., Config], full: bool) -> None:
    config = dataclasses.replace(make(full, full), merge_dropout=0.1)
    found = losses(config, 60)
    assert found[-1] < found[0] / 2
    assert losses(config, 5) == found[:5]


@pytest.mark.parametrize(
    ("fields", "image", "words"),
    [
        ({}, (1, 7, 28), "a side of the image must be a whole number from 8 to 2147483647, got 7"),
        ({}, (28, 28), r"image must be of shape (channels, height, width) for this network, got (28, 28)"),
        ({"kernel1": 15}, (1, 28, 40), "kernel1 must be a whole number from 1 to 14, got 15"),
        ({"kernel2": 8}, (1, 40, 28), "kernel2 must be a whole number from 1 to 7, got 8"),
    ],
)
@pytest.mark.parametrize("cls", [XFlowMLPConfig, XFlowLSTMConfig])
def test_shapes_that_do_not_fit_are_refused(
    cls: type[Config], fields: dict[str, Any], image: tuple[int, ...], words: str
) -> None:
    with pytest.raises(InputError) as caught:
        cls(**fields).build(Shapes(banks={"image": image, "audio": (39, 13)}, classes=10))
    assert str(caught.value) == words


@pytest.mark.parametrize("frames", [0, 2, STEPS, 9])
def test_all_of_a_sequence_is_seen_unless_so_many_frames_are_asked_for(frames: int) -> None:
    model = build(small_mlp(frames=frames), SEQUENCES).eval()
    chosen: list[Tensor] = []
    model.norm.register_forward_hook(lambda module, given, made: chosen.append(given[0]))
    image, audio = batch([STEPS, 3], STEPS)
    model(image, audio)
    assert chosen[0].shape[1] == (frames or STEPS)
    if not frames:
        torch.testing.assert_close(chosen[0][0], image[0])
    # A still picture has no frames to choose from.
    assert build(small_mlp(frames=frames)).eval()(*batch([STEPS, 3])).logits.shape == (2, 4)


@pytest.mark.parametrize(
    ("cls", "values", "words"),
    [
        (XFlowMLPConfig, {"cross": 1}, "cross must be one of True, False, got 1"),
        (XFlowLSTMConfig, {"residual": "no"}, "residual must be one of True, False, got 'no'"),
        (XFlowMLPConfig, {"kernel1": 513}, "kernel1 must be a whole number from 1 to 512, got 513"),
        (XFlowLSTMConfig, {"kernel2": 0}, "kernel2 must be"),
        (XFlowMLPConfig, {"frames": 1}, "frames must be 0 for all of a sequence, or 2 or more, got 1"),
        (XFlowMLPConfig, {"frames": 3.0}, "frames must be a whole number from 0"),
        (XFlowMLPConfig, {"pool_dropout": 1.0}, "pool_dropout must be a number from 0 to 0.95"),
        (XFlowMLPConfig, {"dense_dropout": True}, "dense_dropout must be"),
        (XFlowLSTMConfig, {"merge_dropout": float("nan")}, "merge_dropout must be"),
    ],
)
def test_odd_configurations_are_refused(cls: type[Any], values: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        cls(**values)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)


def test_dropout_stands_where_the_authors_have_it() -> None:
    def rates(config: Config) -> dict[str, float]:
        return {name: m.p for name, m in build(config, DIGITS).named_modules() if isinstance(m, Dropout) and m.p}

    found = rates(XFlowMLPConfig())
    pooled = {name.removeprefix("extractor.") for name, rate in found.items() if rate == 0.25}
    assert pooled == {
        "image1.6",
        "image2.6",
        "junction1.residual_to_audio.dropout",
        "junction2.residual_to_audio.dropout",
        "junction1.residual_to_image.cross.dropout",
    }
    assert sorted(found.values()) == [0.25] * 5 + [0.5] * 10
    assert sorted(rates(load_study("xflow_cnn_mlp_baseline").base.model).values()) == [0.25] * 2 + [0.5] * 3
    assert rates(XFlowLSTMConfig()) == {"dropout": 0.5}
    assert rates(load_study("xflow_lstm_baseline").base.model) == {"dropout": 0.25}

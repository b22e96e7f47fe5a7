"""Encoders read every shape of their kind, are what torch's own layers make of it, and refuse the rest."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, conv1d, conv2d, cross_entropy, max_pool1d, max_pool2d
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mmtune.base.errors import InputError
from mmtune.networks.attention import SelfAttention, TransformerLayer
from mmtune.networks.config.encoders import (
    MLP,
    Conv1dEncoder,
    Encoder,
    Recurrent,
    SmallCNN,
    SmallResNet,
    SmallTransformer,
    SpectrogramCNN,
)
from mmtune.networks.encoders.convolutional import Residual
from mmtune.networks.encoders.over_time import FeatureNorm
from mmtune.networks.encoders.recurrent import CELLS, turned
from mmtune.networks.output import count_parameters
from mmtune.networks.shapes import Shape

PICTURES = [(1, 28, 28), (3, 9, 14), (2, 1, 5), (1, 1, 1)]
FEATURES = [(39, 13), (7, 1), (1, 5)]
WAVES = [(1600,), (601,)]
READ: list[tuple[Any, Shape]] = [
    *((SmallCNN(width=5, channels=2, blocks=blocks), shape) for shape in PICTURES for blocks in (1, 5)),
    *((SmallCNN(activation=name, norm="none", dropout=0.3), (2, 8, 8)) for name in ("gelu", "silu", "tanh")),
    *((SmallResNet(width=6, channels=2, stages=4, blocks=2, dropout=0.2), shape) for shape in PICTURES),
    *((Conv1dEncoder(width=7, channels=4, summary=name), shape) for shape in FEATURES for name in ("mean", "flat")),
    *((Conv1dEncoder(channels=4, blocks=4, kernel=31, stride=4, summary="flat"), shape) for shape in WAVES),
    *((Recurrent(cell=cell, hidden=5, layers=2, dropout=0.2), (9, 4)) for cell in CELLS),
    *((Recurrent(hidden=5, bidirectional=True, layers=2, summary=name), (9, 4)) for name in ("last", "mean")),
    *((Recurrent(hidden=5, norm="none"), shape) for shape in FEATURES),
    *((SmallTransformer(width=8, heads=2, patch=1), shape) for shape in [*FEATURES, (1, 1, 1), (2, 3, 5)]),
    *((SmallTransformer(width=8, heads=2, patch=4), shape) for shape in [(1, 28, 28), (3, 9, 14)]),
    *((SpectrogramCNN(channels=2), shape) for shape in FEATURES),
    *((SpectrogramCNN(channels=2, n_fft=600, hop=100, mels=mels), shape) for shape in WAVES for mels in (0, 20)),
    *((MLP(hidden=9, layers=2, dropout=0.1), shape) for shape in [(4,), *WAVES, *FEATURES, *PICTURES]),
    (MLP(norm="none"), (3,)),
]
EACH: list[tuple[Any, Shape]] = [
    *((SmallCNN(), (1, 12, 12)), (SmallResNet(), (1, 12, 12)), (Conv1dEncoder(), (12, 5))),
    *((Conv1dEncoder(stride=4), (800,)), (Recurrent(), (12, 5)), (Recurrent(bidirectional=True), (12, 5))),
    *((SmallTransformer(), (12, 5)), (SmallTransformer(), (1, 12, 12)), (SpectrogramCNN(), (12, 5))),
    *((SpectrogramCNN(), (1600,)), (MLP(), (6,))),
]


def values(shape: Shape, rows: int = 6) -> Tensor:
    return torch.randn(rows, *shape, generator=torch.Generator().manual_seed(sum(shape)))


def build(config: Encoder, shape: Shape, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return config.build(shape)


def said(config: Encoder | tuple[int, ...]) -> str:
    return str(config) if isinstance(config, tuple) else type(config).__name__


@pytest.mark.parametrize(("config", "shape"), READ, ids=said)
def test_every_shape_of_its_kind_trains_a_step_and_each_row_is_answered_by_itself(config: Any, shape: Shape) -> None:
    encoder, x = build(config, shape), values(shape)
    made = encoder(x)
    assert (made.shape, made.dtype) == ((6, config.width), torch.float32)
    made.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in encoder.parameters())
    with torch.no_grad():
        alone = encoder.eval()(x[:1])
        torch.testing.assert_close(alone, encoder(x)[:1], rtol=1e-4, atol=1e-5)
        assert torch.equal(alone, encoder(x[:1]))


@pytest.mark.parametrize(("config", "shape"), EACH, ids=said)
def test_what_every_encoder_owes_its_network(config: Any, shape: Shape) -> None:
    encoder, again = build(config, shape), build(config, shape)
    x = values(shape)
    for first, second in zip(encoder.parameters(), again.parameters(), strict=True):
        assert torch.equal(first, second)
    others = build(config, shape, 1).parameters()
    assert any(not torch.equal(*two) for two in zip(encoder.parameters(), others, strict=True))
    with torch.autocast("cpu", torch.bfloat16):
        half = encoder.eval()(x)
    torch.testing.assert_close(half.float(), again.eval()(x), rtol=0.1, atol=0.1)
    encoder.train()(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in encoder.parameters())


@pytest.mark.parametrize(("config", "shape"), EACH, ids=said)
def test_without_memory_it_is_built_and_goes_through_a_step_the_same(config: Any, shape: Shape) -> None:
    with torch.device("meta"):
        encoder = config.build(shape)
        encoder(torch.empty(6, *shape)).square().sum().backward()
    there = build(config, shape).state_dict()
    assert {name: (v.shape, v.dtype) for name, v in encoder.state_dict().items()} == {
        name: (v.shape, v.dtype) for name, v in there.items()
    }


@pytest.mark.parametrize(("config", "shape"), EACH, ids=said)
def test_a_few_values_are_learnt(config: Any, shape: Shape) -> None:
    torch.manual_seed(0)
    model, x, labels = nn.Sequential(config.build(shape), nn.Linear(64, 3)), values(shape), torch.arange(6) % 3
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(50):
        optimizer.zero_grad()
        cross_entropy(model(x), labels).backward()
        optimizer.step()
    assert (model(x).argmax(1) == labels).all()


@pytest.mark.parametrize(
    ("config", "shape", "line"),
    [
        (SmallCNN(), (39, 13), "SmallCNN must be given a picture (channels, height, width), got values of shape"),
        (
            SmallResNet(),
            (5,),
            "SmallResNet must be given a picture (channels, height, width), got values of shape (5,)",
        ),
        (SmallCNN(), (1, 0, 28), "SmallCNN must be given a picture (channels, height, width), got values of shape"),
        (Conv1dEncoder(), (1, 2, 3), "Conv1dEncoder must be given a waveform (samples,) or features over time"),
        (SpectrogramCNN(), (1, 2, 3), "SpectrogramCNN must be given a waveform (samples,) or features over time"),
        (SpectrogramCNN(), (511,), "SpectrogramCNN must be given a waveform of n_fft=512 or more samples, got 511"),
        (Recurrent(), (5,), "Recurrent must be given features over time (steps, features), got values of shape (5,)"),
        (SmallTransformer(), (5,), "SmallTransformer must be given features over time (steps, features) or a picture"),
        (SmallTransformer(patch=9), (1, 8, 20), "patch must be at most the sides of a picture, 8 x 20, got 9"),
    ],
    ids=said,
)
def test_a_shape_that_cannot_be_read_is_refused(config: Any, shape: Shape, line: str) -> None:
    with pytest.raises(InputError, match=r"^[^\n]*$") as caught:
        config.build(shape)
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize(
    ("cls", "fields", "line"),
    [
        (SmallCNN, {"width": 0}, "width must be a whole number from 1 to 8192, got 0"),
        (SmallCNN, {"kernel": 4}, "kernel must be an odd number from 1 to 255, got 4"),
        (SmallCNN, {"activation": "elu"}, "activation must be one of relu, gelu, silu, tanh, got 'elu'"),
        (Conv1dEncoder, {"summary": "last"}, "summary must be one of mean, flat, got 'last'"),
        (SpectrogramCNN, {"n_fft": 64, "hop": 65}, "hop must be a whole number from 1 to 64, got 65"),
        (Recurrent, {"bidirectional": 1}, "bidirectional must be one of True, False, got 1"),
        (SmallTransformer, {"width": 30}, "width must be a multiple of heads=4, got 30"),
        (MLP, {"dropout": 1.0}, "dropout must be a number from 0 to 0.95, got 1.0"),
    ],
)
def test_a_field_outside_its_rule_is_refused(cls: Any, fields: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError) as caught:
        cls(**fields)
    assert str(caught.value) == line


def test_the_convolutions_have_the_weights_that_follow_from_the_shape() -> None:
    picture = count_parameters(SmallCNN(width=10, channels=4, blocks=3, kernel=5).build((3, 28, 13)))
    assert picture == 25 * (3 * 4 + 4 * 8 + 8 * 16) + 2 * (4 + 8 + 16) + (16 * 3 * 1 + 1) * 10
    plain = count_parameters(SmallCNN(width=10, channels=4, blocks=5, norm="none").build((1, 4, 4)))
    assert plain == 9 * (4 + 4 * 8 + 8 * 16 + 16 * 32 + 32 * 64) + 4 + 8 + 16 + 32 + 64 + 65 * 10
    features = Conv1dEncoder(width=10, channels=4, blocks=2, kernel=7)
    convolved = 7 * (13 * 4 + 4 * 8) + 2 * (4 + 8)
    assert count_parameters(features.build((39, 13))) == convolved + 9 * 10
    wave = Conv1dEncoder(width=10, channels=4, blocks=2, kernel=7, stride=4, summary="flat")
    assert count_parameters(wave.build((1000,))) == 7 * (4 + 32) + 24 + (8 * 16 + 1) * 10
    mels = SpectrogramCNN(width=10, channels=4, blocks=1, n_fft=100, hop=50, mels=20)
    assert count_parameters(mels.build((1000,))) == 9 * 4 + 8 + (4 * 9 * 10 + 1) * 10


def test_the_other_encoders_have_the_weights_that_follow_from_the_shape() -> None:
    stages = (9 * 2 * 4 * 4 + 4 * 4) + (9 * (4 * 8 + 8 * 8) + 4 * 8 + 4 * 8 + 2 * 8)
    resnet = SmallResNet(width=10, channels=4, stages=2).build((3, 9, 9))
    assert count_parameters(resnet) == 9 * 3 * 4 + 8 + stages + 9 * 10
    for cell, gates in {"rnn": 1, "gru": 3, "lstm": 4}.items():
        model = Recurrent(width=10, cell=cell, hidden=6, layers=2, bidirectional=True).build((9, 5))
        layers = [2 * gates * 6 * (features + 6 + 2) for features in (5, 12)]
        assert count_parameters(model) == 2 * 5 + sum(layers) + 13 * 10
    layer = 4 * (8 + 1) * 8 + 2 * 16 + (8 + 1) * 24 + (24 + 1) * 8
    settings: dict[str, Any] = {"width": 8, "heads": 2, "layers": 3, "feed_forward": 3}
    steps = SmallTransformer(**settings).build((9, 5))
    assert count_parameters(steps) == 2 * 5 + (5 + 1) * 8 + 9 * 8 + 3 * layer + 16
    patches = SmallTransformer(**settings, patch=4).build((3, 9, 14))
    assert count_parameters(patches) == (3 * 16 + 1) * 8 + 3 * 4 * 8 + 3 * layer + 16
    assert count_parameters(MLP(width=10, hidden=6, layers=2).build((3, 4))) == 12 * 6 + 36 + 2 * 12 + 7 * 10
    assert count_parameters(MLP(width=10, hidden=6, norm="none").build((3, 4))) == 13 * 6 + 7 * 10


def test_a_picture_is_convolved_as_torch_does_it() -> None:
    encoder, hidden = build(SmallCNN(channels=3, blocks=2, activation="tanh"), (2, 9, 7)).eval(), values((2, 9, 7))
    expected = hidden
    for conv, norm in zip(of_type(encoder, nn.Conv2d), of_type(encoder, nn.BatchNorm2d), strict=True):
        convolved = conv2d(expected.contiguous(), conv.weight, padding=1)
        expected = max_pool2d(batch_norm(convolved, norm.running_mean, norm.running_var).tanh(), 2)
    (last,) = of_type(encoder, nn.Linear)
    torch.testing.assert_close(encoder(hidden), last(expected.movedim(1, -1).flatten(1)).tanh(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(30, 4), (200,)], ids=str)
def test_a_signal_is_convolved_as_torch_does_it(shape: Shape) -> None:
    config = Conv1dEncoder(channels=3, blocks=2, stride=2, norm="none")
    encoder, x = build(config, shape), values(shape)
    hidden = x.transpose(1, 2) if len(shape) == 2 else x.unsqueeze(1)
    for conv in of_type(encoder, nn.Conv2d):
        hidden = max_pool1d(conv1d(hidden, conv.weight.squeeze(2), conv.bias, stride=2, padding=2), 2).relu()
    (last,) = of_type(encoder, nn.Linear)
    torch.testing.assert_close(encoder(x), last(hidden.mean(2)).relu())


def of_type(network: nn.Module, cls: Any) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, cls)]


def test_a_residual_block_without_a_path_is_its_input() -> None:
    maps = values((4, 5, 5)).abs()
    block = Residual(4, 4, 1)
    nn.init.zeros_(block.path[-1].weight)
    torch.testing.assert_close(block(maps), maps)
    assert Residual(4, 8, 2)(maps).shape == (6, 8, 3, 3)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("summary", ["last", "mean"])
@pytest.mark.parametrize("cell", CELLS)
def test_states_are_torchs_of_the_steps_before_the_padding(cell: str, summary: str, bidirectional: bool) -> None:
    config = Recurrent(cell=cell, hidden=5, layers=2, bidirectional=bidirectional, summary=summary, norm="none")
    encoder, lengths = build(config, (9, 4)), torch.tensor([9, 1, 4, 8])
    theirs = CELLS[cell](4, 5, 2, batch_first=True, bidirectional=bidirectional)
    for n, layer in enumerate(encoder.layers):
        for way, end in (("there", ""), ("back", "_reverse")):
            for name, weight in getattr(layer, way).named_parameters() if getattr(layer, way) else ():
                theirs.get_parameter(f"{name[:-1]}{n}{end}").data.copy_(weight)
    x = values((9, 4), 4) * (torch.arange(9) < lengths[:, None]).unsqueeze(2)
    states, ends = theirs(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    ends = ends[0] if cell == "lstm" else ends
    last = torch.cat(list(ends[-2:] if bidirectional else ends[-1:]), dim=1)
    mean = pad_packed_sequence(states, batch_first=True)[0].sum(1) / lengths[:, None]
    expected = encoder.ending(mean if summary == "mean" else last)
    torch.testing.assert_close(encoder(x), expected)


def test_features_are_standardised_by_the_steps_that_are_no_padding() -> None:
    """As torch's own batch norm does it with those steps alone."""
    ours, theirs = FeatureNorm(4), nn.BatchNorm1d(4)
    for seed in range(5):
        x = 5 + torch.randn(8, 9, 4, generator=torch.Generator().manual_seed(seed))
        valid = torch.arange(9) < torch.tensor([9, 1, 4, 8, 2, 9, 3, 0])[:, None]
        made, expected = ours(x * valid.unsqueeze(2)), theirs(x[valid])
        torch.testing.assert_close(made[valid], expected)
    # A batch in which nobody has anything tells nothing of what is usual.
    ours(torch.zeros(3, 9, 4))
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(ours.eval()(x)[valid], theirs.eval()(x[valid]))


def test_steps_that_are_turned_twice_are_where_they_were() -> None:
    valid = torch.arange(5) < torch.tensor([[5], [3], [1]])
    places = turned(valid).squeeze(2)
    assert places.tolist() == [[4, 3, 2, 1, 0], [2, 1, 0, 4, 3], [0, 4, 3, 2, 1]]
    assert torch.equal(places.take_along_dim(places, 1), torch.arange(5).expand(3, 5))


@pytest.mark.parametrize("config", [Recurrent(bidirectional=True), SmallTransformer()], ids=said)
def test_the_amount_of_padding_changes_no_answer(config: Any) -> None:
    short, long = build(config, (6, 4)), build(config, (9, 4))
    weights = {name: v for name, v in short.state_dict().items() if name != "positions"}
    long.load_state_dict(weights, strict=False)
    if isinstance(config, SmallTransformer):
        long.positions.data[:6] = short.positions
    x = values((6, 4))
    padded = torch.cat([x, torch.zeros(6, 3, 4)], dim=1)
    torch.testing.assert_close(long.eval()(padded), short.eval()(x))


def test_attention_and_its_layer_are_torchs() -> None:
    torch.manual_seed(0)
    ours, theirs = TransformerLayer(12, 3, 20, 0.0), nn.TransformerEncoderLayer(12, 3, 20, 0.0, "gelu", norm_first=True)
    alone = nn.MultiheadAttention(12, 3, batch_first=True)
    theirs.self_attn.batch_first = True
    valid, tokens = torch.arange(7) < torch.tensor([[7], [2], [5]]), torch.randn(3, 7, 12)
    give(ours.attention, alone)
    give(ours.attention, theirs.self_attn)
    theirs.linear1.load_state_dict(ours.feed_forward[0].state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward[3].state_dict())
    expected = alone(tokens, tokens, tokens, ~valid, need_weights=False)[0]
    torch.testing.assert_close(ours.attention(tokens, valid), expected)
    torch.testing.assert_close(ours(tokens, valid), theirs(tokens, src_key_padding_mask=~valid))
    torch.testing.assert_close(ours(tokens), theirs(tokens))


def give(ours: SelfAttention, theirs: nn.MultiheadAttention) -> None:
    """Torch's own attention has the weights of ours from now on."""
    theirs.in_proj_weight.data.copy_(ours.project.weight)
    theirs.in_proj_bias.data.copy_(ours.project.bias)
    theirs.out_proj.load_state_dict(ours.join.state_dict())


def test_only_positions_tell_a_transformer_the_order_of_steps() -> None:
    encoder, x = build(SmallTransformer(), (6, 4)).eval(), values((6, 4))
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert not torch.allclose(encoder(x[:, order]), encoder(x), atol=1e-3)
    nn.init.zeros_(encoder.positions)
    torch.testing.assert_close(encoder(x[:, order]), encoder(x), rtol=1e-4, atol=1e-5)


def test_patches_are_the_squares_of_a_picture_row_by_row() -> None:
    encoder, x = build(SmallTransformer(patch=3), (2, 5, 7)), values((2, 5, 7))
    squares = nn.functional.pad(x, (0, 2, 0, 1)).unfold(2, 3, 3).unfold(3, 3, 3)
    flat = squares.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)
    made = flat @ encoder.embed.weight.flatten(1).T + encoder.embed.bias
    torch.testing.assert_close(encoder.embed(x), made, rtol=1e-4, atol=1e-5)

"""Networks made from parts, ours and a user's own."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmtune.base.errors import InputError
from mmtune.networks.config import (
    MLP,
    Concatenation,
    Conv1dEncoder,
    CrossAttention,
    EarlyFusion,
    Gated,
    Head,
    LateFusion,
    LogMelResNet,
    LowRank,
    Recurrent,
    SmallCNN,
    SmallResNet,
    SmallTransformer,
    SpectrogramCNN,
    Sum,
)
from mmtune.networks.output import count_parameters
from mmtune.networks.shapes import Shapes

SHAPES = Shapes(banks={"image": (1, 8, 8), "sound": (12, 5), "scan": (6,)}, classes=3)
FUSIONS: list[Any] = [Concatenation(), Sum(), Gated(), CrossAttention(), LowRank()]


@dataclass(frozen=True)
class Linear:
    """A user's own encoder."""

    width: int = 6

    def build(self, shape: tuple[int, ...]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), self.width))


@dataclass(frozen=True)
class Greatest:
    """A user's own fusion: of banks as wide as each other, the greatest value of each unit."""

    def build(self, widths: Mapping[str, int]) -> nn.Module:
        return GreatestOf(max(widths.values()))


class GreatestOf(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, **banks: Tensor) -> Tensor:
        return torch.stack(list(banks.values())).amax(0)


def late(**fields: Any) -> LateFusion:
    encoders = {"image": SmallCNN(width=6, channels=4), "sound": Recurrent(width=5, hidden=7), "scan": MLP(width=4)}
    return LateFusion(**{"encoders": encoders, **fields})


def crossed(**fields: Any) -> LateFusion:
    picture, sound = SmallResNet(width=6, channels=4, stages=3), LogMelResNet(width=5, channels=3, stages=2, parts=2)
    return LateFusion(**{"encoders": {"image": picture, "sound": sound}, "crossed": True, "alone": False, **fields})


def early(**fields: Any) -> EarlyFusion:
    return EarlyFusion(**{"reads": ("image", "scan", "sound"), "hidden": 20, **fields})


def build(config: LateFusion | EarlyFusion, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return config.build(SHAPES)


def banks(rows: int = 6) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return {bank: torch.randn(rows, *shape, generator=generator) for bank, shape in SHAPES.banks.items()}


NETWORKS: list[Any] = [
    *(late(fusion=fusion) for fusion in FUSIONS),
    *(crossed(), crossed(fusion=Sum())),
    *(late(head=Head(hidden=8, dropout=0.2), alone=False), early(), early(layers=3, dropout=0.1, norm="none")),
    late(encoders={"scan": Linear(), "image": Linear()}, fusion=Greatest()),
    *(late(encoders={"sound": Linear()}), early(reads=("scan",))),
]
each = pytest.mark.parametrize("config", NETWORKS, ids=lambda c: f"{type(c).__name__}-{','.join(c.reads)}")


@each
def test_a_network_answers_by_logits_and_an_embedding_of_its_parts(config: Any) -> None:
    model = build(config)
    x = {bank: values for bank, values in banks().items() if bank in config.reads}
    output = model(**x)
    assert output.logits.shape == (6, 3)
    assert output.embedding.shape == (6, sum(model.parts.values()))
    speaks = getattr(config, "alone", False) and len(config.reads) > 1
    assert {bank: own.shape for bank, own in output.alone.items()} == dict.fromkeys(
        config.reads if speaks else (), (6, 3)
    )
    sum(own.square().sum() for own in (output.logits, *output.alone.values())).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    model.eval()
    one = model(**{bank: values[:1] for bank, values in x.items()})
    torch.testing.assert_close(one.logits, model(**x).logits[:1], rtol=1e-4, atol=1e-5)
    assert torch.equal(model(**x).logits, model(**x).logits)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model(**x).logits.float(), model(**x).logits.float())


@each
def test_a_seed_draws_the_weights_and_without_memory_they_have_the_same_names(config: Any) -> None:
    first, second = build(config).state_dict(), build(config).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    with torch.device("meta"):
        meta = config.build(SHAPES).state_dict()
    assert {name: value.shape for name, value in meta.items()} == {name: value.shape for name, value in first.items()}


@each
def test_a_few_rows_are_learnt(config: Any) -> None:
    model, labels = build(config), torch.arange(6) % 3
    x = {bank: values for bank, values in banks().items() if bank in config.reads}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        output = model(**x)
        sum(cross_entropy(own, labels) for own in (output.logits, *output.alone.values())).backward()
        optimizer.step()
    assert (model.eval()(**x).logits.argmax(1) == labels).all()


@pytest.mark.parametrize(
    ("encoder", "shape", "fusion"),
    [
        *((encoder, (1, 8, 8), Concatenation()) for encoder in (SmallCNN(), SmallResNet(), SmallTransformer())),
        *((encoder, (9, 4), Concatenation()) for encoder in (Recurrent(bidirectional=True), SmallTransformer())),
        *((encoder, (700,), Concatenation()) for encoder in (Conv1dEncoder(), SpectrogramCNN())),
        (LogMelResNet(), (8000,), Concatenation()),
        *((MLP(), (5,), fusion) for fusion in FUSIONS),
    ],
    ids=lambda v: type(v).__name__,
)
def test_no_part_asks_for_a_value_as_a_cuda_graph_could_not(encoder: Any, shape: tuple[int, ...], fusion: Any) -> None:
    shapes = Shapes(banks={"one": shape, "other": (4,)}, classes=3)
    model = LateFusion(encoders={"one": encoder, "other": MLP(width=5)}, fusion=fusion).build(shapes)
    x = {bank: torch.randn(4, *shape) for bank, shape in shapes.banks.items()}
    with torch.autograd.profiler.profile() as profile:
        model(**x).logits.square().sum().backward()
    called = {event.name for event in profile.function_events}
    assert "aten::mm" in called
    assert not called & {"aten::item", "aten::_local_scalar_dense", "aten::nonzero"}


def test_the_embedding_is_what_the_encoders_make_in_the_order_of_its_parts() -> None:
    model, x = build(late(fusion=Gated())).eval(), banks()
    output = model(**x)
    assert model.parts == {"image": 6, "sound": 5, "scan": 4}
    for bank, part in zip(model.parts, output.embedding.split(list(model.parts.values()), dim=1), strict=True):
        assert torch.equal(part, model.encoders[bank](x[bank]))
        assert torch.equal(output.alone[bank], model.own[bank](part))


def test_a_banks_own_classifier_leaves_its_encoder_as_it_is() -> None:
    model = build(late())
    sum(own.sum() for own in model(**banks()).alone.values()).backward()
    assert {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None} == {"own"}


def test_one_bank_has_no_answer_beside_the_networks_own() -> None:
    assert not build(LateFusion(encoders={"image": late().encoders["image"]}))(image=banks()["image"]).alone


def test_guided_the_same_classifier_trains_its_encoder_and_says_the_same() -> None:
    model, plain, x = build(late(guided=True)).eval(), build(late()).eval(), banks()
    guided, usual = model(**x), plain(**x)
    for bank, logits in usual.alone.items():
        assert torch.equal(guided.alone[bank], logits)
    guided.alone["image"].sum().backward()
    trained = {name.rpartition(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert {name.split(".")[0] for name in trained} == {"own", "encoders"}
    assert {name.split(".")[1] for name in trained} == {"image"}


def test_early_fusion_is_one_dense_network_of_all_values() -> None:
    model, x = build(early(layers=2, norm="none")), banks()
    flat = torch.cat([x[bank].flatten(1) for bank in ("image", "scan", "sound")], dim=1)
    first, second = (m for m in model.hidden if isinstance(m, nn.Linear))
    hidden = second(first(flat).relu()).relu()
    torch.testing.assert_close(model(**x).embedding, hidden)
    torch.testing.assert_close(model(**x).logits, model.classify(hidden))
    assert model.parts == {"hidden": 20}


def test_weights_follow_from_the_parts() -> None:
    parts = [encoder.build(SHAPES[bank]) for bank, encoder in late().encoders.items()]
    encoders = sum(map(count_parameters, parts))
    assert count_parameters(build(late(alone=False))) == encoders + 16 * 3
    assert count_parameters(build(late(head=Head(hidden=8)))) == encoders + 16 * 8 + 9 * 3 + (7 + 6 + 5) * 3
    values = 64 + 60 + 6
    assert count_parameters(build(early(layers=2))) == values * 20 + 20 * 20 + 4 * 20 + 21 * 3
    assert count_parameters(build(early(norm="none"))) == 21 * 3 + (values + 1) * 20


def test_a_fusion_of_ones_own_says_how_wide_it_is() -> None:
    @dataclass(frozen=True)
    class Forgetful:
        def build(self, widths: Mapping[str, int]) -> nn.Module:
            return nn.Identity()

    with pytest.raises(InputError, match=r"^width of Identity must be a whole number from 1 to \d+, got 0$"):
        late(fusion=Forgetful()).build(SHAPES)


def test_a_part_of_ones_own_makes_what_it_announced() -> None:
    @dataclass(frozen=True)
    class Flat:
        width: int = 5

        def build(self, shape: tuple[int, ...]) -> nn.Module:
            return nn.Flatten()

    with pytest.raises(InputError, match=r"^the encoder of scan must make vectors of shape \(B, 5\), got \(6, 6\)$"):
        build(late(encoders={"scan": Flat()}))(**banks())
    model = build(late(encoders={"scan": Linear()}))
    model.fusion = nn.Identity()
    model.fusion.forward = lambda scan: scan[:, :4]
    with pytest.raises(InputError, match=r"^the fusion must make vectors of shape \(B, 6\), got \(6, 4\)$"):
        model(**banks())


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: late(encoders={}), "encoders must name one or more banks, each once, got none"),
        (lambda: late(alone=False, guided=True), "guided must be False where alone is, whose losses it is about"),
        (lambda: late(alone=1), "alone must be one of True, False, got 1"),
        (lambda: early(reads=()), "reads must name one or more banks, each once, got none"),
        (lambda: early(reads=("scan", "scan")), "reads must name one or more banks, each once, got scan, scan"),
        (lambda: early(layers=0), "layers must be a whole number from 1 to 8, got 0"),
        (lambda: build(late(encoders={"smell": MLP()})), "a bank must be one of the data's image, sound, scan, got"),
        (lambda: build(early(reads=("smell",))), "a bank must be one of the data's image, sound, scan, got 'smell'"),
        (lambda: build(late(encoders={"scan": SmallCNN()})), "encoders.scan: SmallCNN must be given a picture"),
    ],
)
def test_what_breaks_a_rule_is_refused(make: Any, line: str) -> None:
    with pytest.raises(InputError, match=r"^[^\n]*$") as caught:
        make()
    assert str(caught.value).startswith(line)


def test_configurations_load_no_torch() -> None:
    code = "import sys, mmtune.networks.config; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_crossed_encoders_are_those_that_are_not_while_nothing_is_told() -> None:
    model, plain = build(crossed()).eval(), build(replace(crossed(), crossed=False)).eval()
    told = {name: own for name, own in model.named_parameters() if ".told." in name}
    # Of 4 and 3 channels after the first block, and 8 and 6 after the second, the last that both have.
    assert sum(own.numel() for own in told.values()) == (3 * 4 + 4) + (4 * 3 + 3) + (6 * 8 + 8) + (8 * 6 + 6)
    for own in told.values():
        nn.init.zeros_(own)
    plain.load_state_dict({name: own for name, own in model.state_dict().items() if name not in told})
    torch.testing.assert_close(model(**banks()), plain(**banks()))


def test_what_one_crossed_encoder_makes_depends_on_the_other_banks_values() -> None:
    x, other = banks(), banks()
    other["sound"] = other["sound"].flip(0)
    for config, depends in ((crossed(), True), (replace(crossed(), crossed=False), False)):
        model = build(config).eval()
        image, changed = (model(**own).embedding[:, :6] for own in (x, other))
        assert torch.equal(image, changed) is not depends


def test_crossings_want_two_encoders_of_residual_blocks_and_nobody_alone() -> None:
    for fields, rule in (
        ({"encoders": {"image": SmallResNet()}}, "crossed must be False where one bank is read, got image alone"),
        ({"encoders": {"image": SmallResNet(), "scan": MLP()}}, "no residual blocks in turn.*got such a one for scan"),
        ({"alone": True}, "alone must be False where encoders are crossed and know of each other, got True"),
    ):
        with pytest.raises(InputError, match=rule):
            build(crossed(**fields))

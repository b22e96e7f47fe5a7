"""Fusions take any number of banks of any widths, and are what their papers' formulas say."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from mmtune.base.errors import InputError
from mmtune.networks.config.fusions import Concatenation, CrossAttention, Fusion, Gated, Head, LowRank, Sum
from mmtune.networks.output import count_parameters

FUSIONS: list[Any] = [
    Concatenation(),
    Sum(),
    *(Gated(width=6, gate=name) for name in ("softmax", "sigmoid")),
    *(CrossAttention(width=8, heads=2, summary=name) for name in ("joined", "mean")),
    *(LowRank(width=6, rank=rank) for rank in (1, 3)),
]
WIDTHS = [{"one": 5}, {"image": 4, "sound": 4}, {"image": 3, "sound": 7, "text": 5}, {f"b{n}": n + 1 for n in range(6)}]


def build(fusion: Fusion, widths: dict[str, int], seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return fusion.build(widths)


def vectors(widths: dict[str, int], rows: int = 4) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(rows)
    return {bank: torch.randn(rows, width, generator=generator) for bank, width in widths.items()}


@pytest.mark.parametrize("widths", WIDTHS, ids=len)
@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_any_number_of_banks_is_fused_row_by_row(fusion: Fusion, widths: dict[str, int]) -> None:
    module, x = build(fusion, widths), {bank: v.requires_grad_() for bank, v in vectors(widths).items()}
    made = module(**x)
    assert (made.shape, made.dtype) == ((4, module.width), torch.float32)
    first = module(**{bank: values[:1] for bank, values in x.items()})
    torch.testing.assert_close(first, made[:1])
    again = build(fusion, widths)
    assert torch.equal(again(**dict(reversed(x.items()))), made)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(module(**x).float(), made, rtol=0.1, atol=0.1)
    made.square().sum().backward()
    # Among one bank's units there is nothing for a softmax to choose from.
    chosen = isinstance(fusion, Gated) and fusion.gate == "softmax" and len(widths) == 1
    assert all(v.grad is not None and v.grad.any() for v in x.values())
    assert all(p.grad is not None and (chosen or p.grad.any()) for p in module.parameters())


@pytest.mark.parametrize("widths", WIDTHS, ids=len)
@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_without_memory_it_is_built_and_goes_through_a_step_the_same(fusion: Any, widths: dict[str, int]) -> None:
    with torch.device("meta"):
        module = fusion.build(widths)
        x = {bank: torch.empty(4, width, requires_grad=True) for bank, width in widths.items()}
        module(**x).square().sum().backward()
    assert all(v.grad is not None for v in [*x.values(), *module.parameters()])
    assert module.state_dict().keys() == build(fusion, widths).state_dict().keys()


@pytest.mark.parametrize("widths", WIDTHS, ids=len)
def test_weights_follow_from_the_widths(widths: dict[str, int]) -> None:
    def count(fusion: Fusion) -> int:
        return count_parameters(fusion.build(widths))

    total, banks, most = sum(widths.values()), len(widths), max(widths.values())
    assert count(Concatenation()) == 0
    assert count(Sum()) == sum((width + 1) * most for width in widths.values() if width != most)
    assert count(Gated(width=6)) == (total + banks) * 6 + (total + 1) * banks * 6
    assert count(CrossAttention(width=8, heads=2)) == (total + banks) * 8 + 4 * 9 * 8
    assert count(LowRank(width=6, rank=3)) == (total + banks) * 3 * 6


def test_a_concatenation_is_in_the_order_of_the_widths() -> None:
    x = vectors({"b": 2, "a": 3})
    assert torch.equal(Concatenation().build({"b": 2, "a": 3})(**x), torch.cat([x["b"], x["a"]], dim=1))


def test_a_sum_does_not_know_the_order_of_its_banks_and_adds_as_it_stands_what_is_as_wide() -> None:
    equal = vectors({"a": 4, "b": 4, "c": 4})
    for order in itertools.permutations(equal):
        made = Sum().build(dict.fromkeys(order, 4))(**equal)
        torch.testing.assert_close(made, equal["a"] + equal["b"] + equal["c"])
    fitted, x = build(Sum(), {"a": 4, "b": 2}), vectors({"a": 4, "b": 2})
    torch.testing.assert_close(fitted(**x), x["a"] + fitted.fitted["b"](x["b"]))


def test_two_gates_that_add_up_to_one_are_the_papers() -> None:
    widths = {"a": 3, "b": 5}
    module, x = build(Gated(width=6), widths), vectors(widths)
    scores = module.gate(torch.cat([x["a"], x["b"]], dim=1))
    z = (scores[:, :6] - scores[:, 6:]).sigmoid()
    left, right = (module.units[bank](x[bank]).tanh() for bank in widths)
    torch.testing.assert_close(module(**x), z * left + (1 - z) * right)
    torch.testing.assert_close(module.gates(**x).sum(1), torch.ones(4, 6))


def test_gates_that_are_open_let_everything_through() -> None:
    widths = {"a": 3, "b": 5}
    module, x = build(Gated(width=6, gate="sigmoid"), widths), vectors(widths)
    nn.init.constant_(module.gate.bias, 40.0)
    units = [module.units[bank](x[bank]).tanh() for bank in widths]
    torch.testing.assert_close(module(**x), sum(units[1:], units[0]))


@pytest.mark.parametrize("summary", ["joined", "mean"])
def test_attention_across_banks_is_torchs(summary: str) -> None:
    widths = {"a": 3, "b": 5, "c": 4}
    module, x = build(CrossAttention(width=8, heads=2, summary=summary), widths), vectors(widths)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    theirs.in_proj_weight.data.copy_(module.attention.project.weight)
    theirs.in_proj_bias.data.copy_(module.attention.project.bias)
    theirs.out_proj.load_state_dict(module.attention.join.state_dict())
    tokens = torch.stack([module.tokens[bank](x[bank]) for bank in widths], dim=1)
    attended = tokens + theirs(tokens, tokens, tokens)[0]
    torch.testing.assert_close(module(**x), attended.flatten(1) if summary == "joined" else attended.mean(1))


@pytest.mark.parametrize("rank", [1, 3])
def test_two_banks_of_low_rank_are_a_linear_layer_of_their_outer_product(rank: int) -> None:
    widths = {"a": 3, "b": 5}
    module, x = build(LowRank(width=6, rank=rank), widths), vectors(widths)
    with_one = {bank: torch.cat([values, torch.ones(4, 1)], dim=1) for bank, values in x.items()}
    of_a, of_b = (
        torch.cat([layer.weight, layer.bias[:, None]], dim=1).unflatten(0, (rank, 6))
        for layer in module.factors.values()
    )
    weight = torch.einsum("roi,roj->oij", of_a, of_b)
    outer = torch.einsum("bi,bj->bij", with_one["a"], with_one["b"])
    torch.testing.assert_close(module(**x), torch.einsum("oij,bij->bo", weight, outer))


def test_the_product_of_many_banks_neither_vanishes_nor_grows() -> None:
    widths = {f"b{n}": 64 for n in range(12)}
    made = build(LowRank(rank=1), widths)(**{bank: 0.1 * values for bank, values in vectors(widths).items()})
    assert 0.5 < made.mean() < 2
    assert 0.1 < made.std() < 1


@pytest.mark.parametrize("fusion", [Gated(), CrossAttention(), LowRank()], ids=str)
def test_what_only_two_banks_together_say_is_learnt(fusion: Fusion) -> None:
    torch.manual_seed(0)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    labels = (signs.prod(1) > 0).long()
    fused, x = fusion.build({"a": 1, "b": 1}), {"a": signs[:, :1], "b": signs[:, 1:]}
    head = Head(hidden=8).build(fused.width, 2)
    optimizer = torch.optim.Adam([*fused.parameters(), *head.parameters()], lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        cross_entropy(head(fused(**x)), labels).backward()
        optimizer.step()
    assert (head(fused(**x)).argmax(1) == labels).all()


def test_a_head_has_the_layers_that_it_is_told() -> None:
    assert count_parameters(Head().build(7, 3)) == 8 * 3
    assert count_parameters(Head(hidden=5, dropout=0.5).build(7, 3)) == 8 * 5 + 6 * 3
    rates = [m.p for m in Head(hidden=5, dropout=0.5).build(7, 3).modules() if isinstance(m, nn.Dropout)]
    assert rates == [0.5, 0.5]


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Gated(gate="relu"), "gate must be one of softmax, sigmoid, got 'relu'"),
        (lambda: CrossAttention(width=10), "width must be a multiple of heads=4, got 10"),
        (lambda: LowRank(rank=0), "rank must be a whole number from 1 to 256, got 0"),
        (lambda: Head(hidden=-1), "hidden must be a whole number from 0 to 8192, got -1"),
        (lambda: Gated().build({"a.b": 3}), "a bank's name must be one that a torch module can have, got "),
        (lambda: LowRank().build({"values": 3}), "a bank's name must be one that a torch module can have, got "),
    ],
)
def test_what_breaks_a_rule_is_refused(make: Any, line: str) -> None:
    with pytest.raises(InputError, match=r"^[^\n]*$") as caught:
        make()
    assert str(caught.value).startswith(line)

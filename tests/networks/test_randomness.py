"""A training's own random numbers, whatever others in the process draw."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from mmtune.networks.randomness import CPU, Randomness


def draws(count: int) -> Tensor:
    return torch.cat([torch.rand(3), torch.randn(count)])


def test_it_is_what_a_seed_gives_and_leaves_torch_as_it_was() -> None:
    torch.manual_seed(5)
    expected = torch.cat([draws(7), draws(4)])
    torch.manual_seed(1)
    before = torch.get_rng_state()
    own, found = Randomness(5, CPU), []
    for count in (7, 4):
        with own:
            found.append(draws(count))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.cat(found), expected)


def test_one_inside_another_changes_nothing_of_it() -> None:
    with Randomness(5, CPU):
        expected = torch.cat([draws(7), draws(4)])
    with Randomness(5, CPU):
        first = draws(7)
        with Randomness(6, CPU):
            draws(100)
        assert torch.equal(torch.cat([first, draws(4)]), expected)


def test_it_goes_on_from_its_states() -> None:
    own, other = Randomness(5, CPU), Randomness(8, CPU)
    with own:
        draws(7)
    other.load(own.named())
    with own:
        expected = draws(4)
    with other:
        assert torch.equal(draws(4), expected)
    assert torch.equal(torch.rand(3, generator=own.order), torch.rand(3, generator=other.order))


def test_threads_draw_their_own() -> None:
    expected, found = {}, dict[int, list[Tensor]]()
    for seed in range(4):
        with Randomness(seed, CPU):
            expected[seed] = torch.cat([draws(50) for _ in range(40)])

    def draw(seed: int) -> None:
        own = Randomness(seed, CPU)
        for _ in range(40):
            with own:
                found.setdefault(seed, []).append(draws(50))

    threads = [threading.Thread(target=draw, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(torch.cat(found[seed]), expected[seed]) for seed in range(4))


@pytest.mark.cuda
def test_a_graph_draws_from_the_training_that_it_was_captured_in_whenever_it_is_launched() -> None:
    """Two trainings' graphs, launched in turn, draw what each draws by itself, and what it draws without a graph."""
    device = torch.device("cuda")

    def eager(seed: int) -> list[Tensor]:
        own = Randomness(seed, device)
        with own:
            return [torch.rand(100, device=device) for _ in range(6)]

    def captured(seed: int) -> tuple[torch.cuda.CUDAGraph, Tensor, list[Tensor]]:
        own = Randomness(seed, device)
        stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
        with own, torch.cuda.stream(stream):
            first = [torch.rand(100, device=device) for _ in range(2)]
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                drawn = torch.rand(100, device=device)
        torch.cuda.synchronize()
        return graph, drawn, first

    expected = [eager(seed) for seed in range(2)]
    before = torch.cuda.get_rng_state()
    made = [captured(seed) for seed in range(2)]
    found = [list(first) for _, _, first in made]
    for _ in range(4):
        for place, (graph, drawn, _) in enumerate(made):
            graph.replay()
            torch.cuda.synchronize()
            found[place].append(drawn.clone())
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.stack(mine), torch.stack(theirs), rtol=0, atol=0)
    assert torch.equal(torch.cuda.get_rng_state(), before)

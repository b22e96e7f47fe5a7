"""How long a study will take yet, held against simulated studies whose end is known."""

from __future__ import annotations

import heapq
import random
import statistics

import pytest

from mmtune.tune.forecast import Forecast
from mmtune.tune.halving import Halving, rungs


def forecasts(
    trials: int, epochs: int, workers: int, seed: int, prune: bool, spread: float
) -> list[tuple[float, float]]:
    """A study by halving, trials as good as chance has it: after each epoch the seconds since it began, and those that
    are forecast to be left. spread: by how much trials differ in the logarithm of their seconds for an epoch."""
    rng, rising = random.Random(seed), rungs(epochs) if prune else []
    halving, forecast = Halving(rising), Forecast(epochs, rising)
    queue: list[tuple[float, int, int, float, float]] = []
    found, begun, under_way = [], 0, 0

    def begin(now: float) -> None:
        nonlocal begun, under_way
        if begun < trials:
            pace = rng.lognormvariate(0, spread)
            heapq.heappush(queue, (now + pace, begun, 1, pace, rng.gauss(0, 1)))
            forecast.begin(begun, now)
            begun, under_way = begun + 1, under_way + 1

    for _ in range(workers):
        begin(0.0)
    while queue:
        now, number, epoch, pace, quality = heapq.heappop(queue)
        forecast.advance(number, epoch, now)
        go_on = epoch < epochs
        if epoch in rising:
            score = quality + rng.gauss(0, 2 / (1 + epoch))
            halving.add(epoch, score)
            go_on = go_on and halving.goes_on(epoch, score)
        if go_on:
            heapq.heappush(queue, (now + pace, number, epoch + 1, pace, quality))
        else:
            forecast.finish(number, now)
            under_way -= 1
            begin(now)
        found.append((now, forecast.left(trials - begun, now) or 0.0))
    return found


def error(told: list[tuple[float, float]], share: float) -> float:
    """By how much the forecast of the time left is off, at a share of a study's time."""
    end = told[-1][0]
    now, left = next(own for own in told if own[0] >= share * end)
    return abs(left - (end - now)) / (end - now)


@pytest.mark.parametrize(("trials", "epochs", "workers"), [(8, 10, 2), (30, 27, 2), (40, 9, 4)])
def test_of_trainings_that_are_alike_it_is_right_from_the_first_epoch_on(
    trials: int, epochs: int, workers: int
) -> None:
    told = forecasts(trials, epochs, workers, 0, prune=False, spread=0.0)
    assert all(error(told, share) < 0.15 for share in (0.01, 0.1, 0.5))
    assert told[-1][1] == 0


@pytest.mark.parametrize(("trials", "epochs", "workers"), [(27, 27, 2), (27, 10, 2), (50, 100, 2), (100, 40, 4)])
def test_of_a_study_that_stops_trainings_early_it_is_within_a_quarter_after_a_tenth(
    trials: int, epochs: int, workers: int
) -> None:
    errors = [error(forecasts(trials, epochs, workers, seed, prune=True, spread=0.0), 0.1) for seed in range(20)]
    assert statistics.median(errors) < 0.25


def test_epochs_that_differ_in_time_are_not_taken_for_those_of_the_fast_ones() -> None:
    """More epochs of fast trainings are seen than of slow ones: their mean would be half of what is true."""
    signed = []
    for seed in range(30):
        told = forecasts(60, 20, 4, seed, prune=False, spread=0.8)
        now, left = next(own for own in told if own[0] >= 0.2 * told[-1][0])
        signed.append(left / (told[-1][0] - now))
    assert 0.8 < statistics.median(signed) < 1.25


def test_nothing_is_said_before_the_first_epoch_and_nothing_is_left_at_the_end() -> None:
    forecast = Forecast(3, ())
    forecast.begin(0, 10.0)
    assert forecast.left(5, 11.0) is None
    assert forecast.soonest() == 0
    for epoch in (1, 2, 3):
        forecast.advance(0, epoch, 10.0 + 2 * epoch)
    assert forecast.soonest() == 6
    forecast.finish(0, 19.0)
    assert forecast.left(0, 20.0) == 0
    forecast.begin(1, 20.0)
    for epoch in (1, 2, 3):
        forecast.advance(1, epoch, 20.0 + 2 * epoch)
    forecast.finish(1, 27.0)
    # Six seconds of epochs, and one until it has ended: more than that takes a worker's first end alone.
    assert forecast.soonest() == 7
    assert forecast.left(1, 30.0) == 7


def test_what_can_be_told_at_the_first_rung_is_sooner_told() -> None:
    forecast = Forecast(27, (1, 3, 9))
    forecast.begin(0, 0.0)
    forecast.advance(0, 1, 4.0)
    assert forecast.soonest() == 4


def test_a_study_that_goes_on_knows_how_crowded_its_rungs_are() -> None:
    new, old = Forecast(27, (1, 3, 9)), Forecast(27, (1, 3, 9), {1: 200, 3: 90, 9: 25})
    for own in (new, old):
        own.begin(0, 0.0)
        own.advance(0, 1, 1.0)
    left = [own.left(10, 1.0) or 0.0 for own in (new, old)]
    assert left[1] < left[0]


def test_a_training_that_goes_on_is_timed_by_the_epochs_that_it_makes() -> None:
    forecast = Forecast(10, ())
    forecast.begin(0, 100.0)
    for epoch in (1, 2, 3, 4):
        forecast.advance(0, epoch, 100.5, new=False)
    assert forecast.left(0, 100.5) is None
    forecast.advance(0, 5, 102.5)
    assert forecast.left(0, 102.5) == 10
    forecast.drop(0)
    # What its checkpoint had is not told again.
    forecast.begin(1, 200.0)
    forecast.advance(1, 8, 203.0)
    assert forecast.left(0, 203.0) == 6
    forecast.drop(1)
    assert forecast.left(3, 103.0) is None

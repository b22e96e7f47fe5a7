"""How a search's choices tell on the time to an answer: searches replayed over trainings that were made once.

    python -m benchmarks.replayed --table table.json --data data/mnist_fsdd --rows 3000     make the table, in minutes
    python -m benchmarks.replayed --table table.json                                        replay 200 searches a choice
    python -m benchmarks.replayed --table table.json --earlier sample.json                  and a warm start's worth

The table has every epoch of audio_rnn at 24 learning rates for each of its six networks, trained once by mmtune itself,
nothing pruned. A replayed search asks mmtune's own Search, with its samplers and its halving; each training takes its
epochs from the table, that of the nearest learning rate, and as long as its network is large. Two workers, a simulated
clock. The target is the best score of the table less one standard deviation of a score over so many validation rows.
A warm start begins with the best complete trials of a search of the same seed over the bundled sample's table, as many
as `--warm-start` takes over.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import statistics
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from rich.console import Console

from benchmarks.cases import data_set
from benchmarks.command import command, say, whole
from mmtune.base.files import read_json
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import split
from mmtune.study import Study, load_study
from mmtune.study.options import Options
from mmtune.study.space import Categorical, Real, Space, Value, sample
from mmtune.tracking import COMPLETE, PRUNED, MlflowTracker
from mmtune.tune import halving, warm
from mmtune.tune.run import run_study
from mmtune.tune.search import Given, Search, derive_seed, make_samplers

EPOCHS, TRIALS, WORKERS, RATES = 27, 27, 2, 24
SAMPLE_ROWS = 1_500
LOWEST, HIGHEST = 1e-4, 3e-2
SCORE, RATE = "val_macro_f1", "train.learning_rate"
SPACE: Space = (
    Categorical(path="model.hidden", values=(320, 350, 400)),
    Categorical(path="model.layers", values=(1, 2)),
    Real(path=RATE, low=LOWEST, high=HIGHEST, log=True),
)
BASE: Mapping[str, Value] = {"model.hidden": 320, "model.layers": 1, RATE: LOWEST}
Samplers = Callable[[int, int], Iterable[BaseSampler]]
Point = Mapping[str, Value]


def rates() -> list[float]:
    """Learning rates in equal steps of their logarithm."""
    return [LOWEST * (HIGHEST / LOWEST) ** (n / (RATES - 1)) for n in range(RATES)]


def listed(study: Study) -> Study:
    """The study with listed learning rates, so that all of its points are a grid."""
    space = (*SPACE[:2], Categorical(path=RATE, values=tuple(rates())))
    fixed = replace(study.base.model, view="step")
    return replace(study, name="listed", grid=None, space=space, base=replace(study.base, model=fixed))


def make_table(dataset: Dataset) -> dict[str, Any]:
    """Train every point: by hidden, layers and number of the rate, the score of each epoch and seconds of one."""
    study, options = listed(load_study("audio_rnn")), Options(epochs=EPOCHS, sampler="grid", prune=False, keep="best:1")
    points = []
    with tempfile.TemporaryDirectory(prefix="mmtune-bench-") as folder:
        outcome = run_study(study, dataset, options, Path(folder), Console())
        assert outcome is not None
        tracker = MlflowTracker(Path(folder))
        parent = tracker.study(outcome.key)
        assert parent is not None
        for trial in tracker.trials(parent.run_id):
            curves = tracker.curves(trial.run_id, [SCORE, "epoch_seconds"])
            rate = min(range(RATES), key=lambda n, own=trial: abs(rates()[n] - own.params[RATE]))
            place = [trial.params["model.hidden"], trial.params["model.layers"], rate]
            scores = [value for _, value in curves[SCORE]]
            points.append({"place": place, "scores": scores[:EPOCHS], "seconds": median_of(curves["epoch_seconds"])})
    validates = len(split(dataset.train, "clip_disjoint", 0).validation)
    return {"data": dataset.name, "rows": len(dataset.train), "validates": validates, "points": points}


def median_of(curve: Iterable[tuple[int, float]]) -> float:
    return statistics.median(value for _, value in curve)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Trainings that were made. scores and seconds: by hidden, layers and number of the rate."""

    scores: Mapping[tuple[int, ...], list[float]]
    seconds: Mapping[tuple[int, ...], float]
    target: float

    @classmethod
    def read(cls, path: Path) -> Table:
        """From a file."""
        told = read_json(path)
        scores = {tuple(own["place"]): own["scores"] for own in told["points"]}
        best = max(max(own) for own in scores.values())
        sd = math.sqrt(best * (1 - best) / told["validates"])
        return cls(scores=scores, seconds={tuple(p["place"]): p["seconds"] for p in told["points"]}, target=best - sd)

    def place(self, values: Mapping[str, Value]) -> tuple[int, ...]:
        """Where the training of drawn values stands."""
        step = math.log(float(values[RATE]) / LOWEST) / math.log(HIGHEST / LOWEST) * (RATES - 1)
        return int(values["model.hidden"]), int(values["model.layers"]), round(step)


def ours(name: str, base: bool = False) -> Samplers:
    """mmtune's samplers of a name; base: whether the study's base comes first."""
    return lambda seed, index: [Given(BASE)] if base and not index else make_samplers(name, seed, index)


def tpe(base: bool, **options: Any) -> Samplers:
    """Optuna's TPE with other options, each draw its first."""
    made = optuna.samplers.TPESampler
    return lambda seed, index: [
        Given(BASE) if base and not index else made(seed=derive_seed(seed, index, 1), **options)
    ]


TPE = ours("tpe")
AS_IS, WARM = "tpe, the base first: as it is", "tpe, a warm start from the sample"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A way to search.

    places: how many of those that have come to a rung go on, given also whether it is the first one; None prunes
    nothing. shown: what halving is shown of a training's scores so far. cheapest_of: so many points are drawn for a
    trial, of which the one whose epochs take least is trained. warm: the first are the best of an earlier search.
    """

    samplers: Samplers = TPE
    places: Callable[[int, bool], int] | None = halving.places
    shown: Callable[[list[float]], float] = lambda scores: scores[-1]
    cheapest_of: int = 1
    warm: bool = False

    def draw(self, search: Search, table: Table, seed: int, index: int, first: Sequence[Point]) -> Mapping[str, Value]:
        """Begin the trial of an index; first: what the first ones are."""
        if index < len(first):
            return search.ask(index, [Given(first[index])], index)
        if self.cheapest_of == 1:
            return search.ask(index, self.samplers(seed, index), index)
        drawn: list[Mapping[str, Value]] = []
        for number in range(self.cheapest_of):
            search.study.sampler = next(iter(self.samplers(derive_seed(seed, number), index)))
            trial = search.study.ask()
            drawn.append(sample(SPACE, {}, trial))
            # Samplers learn nothing of a trial that failed.
            search.study.tell(trial, state=optuna.trial.TrialState.FAIL)
        cheapest = min(drawn, key=lambda values: table.seconds[table.place(values)])
        return search.ask(index, [Given(cheapest)], index)


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """A search: seconds to the target (infinity where it is not reached), seconds in all, its best score, epochs.

    complete: what was not pruned, the best first.
    """

    reached: float
    seconds: float
    best: float
    epochs: int
    complete: list[Point]


def replay(table: Table, choice: Choice, seed: int, first: Sequence[Point] = ()) -> Replayed:
    """A search over a table; first: the points that it begins with."""
    search = Search(SPACE, {}, halving.rungs(EPOCHS) if choice.places else ())
    queue: list[tuple[float, int, int, tuple[int, ...]]] = []
    reached, best, begun, epochs, now = math.inf, 0.0, 0, 0, 0.0

    def begin(now: float) -> None:
        nonlocal begun
        if begun < TRIALS:
            place = table.place(choice.draw(search, table, seed, begun, first))
            heapq.heappush(queue, (now + table.seconds[place], begun, 1, place))
            begun += 1

    for _ in range(WORKERS):
        begin(now)
    while queue:
        now, index, epoch, place = heapq.heappop(queue)
        score, epochs = table.scores[place][epoch - 1], epochs + 1
        best = max(best, score)
        if score >= table.target:
            reached = min(reached, now)
        shown = choice.shown(table.scores[place][:epoch])
        go_on = search.report(index, epoch, shown) if epoch in search.rungs else True
        if go_on and epoch < EPOCHS:
            heapq.heappush(queue, (now + table.seconds[place], index, epoch + 1, place))
        else:
            search.tell(index, COMPLETE if epoch == EPOCHS else PRUNED, max(table.scores[place][:epoch]))
            begin(now)
    made = [own for own in search.attempts() if own.state == COMPLETE]
    complete = [own.values for own in sorted(made, key=lambda own: own.scores, reverse=True)]
    return Replayed(reached=reached, seconds=now, best=best, epochs=epochs, complete=complete)


def gaining(scores: list[float]) -> float:
    """Where a training comes to if it gains in as many epochs more half of what it did in the last half of them."""
    return scores[-1] + (scores[-1] - scores[len(scores) // 2 - 1]) / 2 if len(scores) > 1 else scores[-1]


CHOICES: Mapping[str, Choice] = {
    AS_IS: Choice(samplers=ours("tpe", base=True)),
    "tpe, 5 random draws after the base": Choice(samplers=tpe(True, n_startup_trials=6)),
    "the cheapest of 3 draws of tpe, the base first": Choice(samplers=ours("tpe", base=True), cheapest_of=3),
    WARM: Choice(warm=True),
    "tpe alone": Choice(),
    "tpe alone, what was drawn before drawn again": Choice(samplers=tpe(False)),
    "random, as it is": Choice(samplers=ours("random")),
    "gp, the base first: as it is": Choice(samplers=ours("gp", base=True)),
    "the cheapest of 2 draws of tpe": Choice(cheapest_of=2),
    "the cheapest of 3 draws of tpe": Choice(cheapest_of=3),
    "tpe alone, halving by what a training gains": Choice(shown=gaining),
    "tpe alone, halving: a third and one more at every rung": Choice(places=lambda arrived, first: arrived // 3 + 1),
    "tpe alone, halving: a half at the first rung, then a third, at least one": Choice(
        places=lambda arrived, first: max(1, arrived // (2 if first else 3))
    ),
    "tpe alone, halving: a third, at least one": Choice(places=lambda arrived, first: max(1, arrived // 3)),
    "tpe alone, halving: a quarter, at least one": Choice(places=lambda arrived, first: max(1, arrived // 4)),
    "tpe alone, nothing pruned": Choice(places=None),
}


def row(table: Table, name: str, searches: int, earlier: Table | None) -> list[str]:
    """A choice's line: medians over searches, and the share that reached the target."""
    choice, usual = CHOICES[name], halving.places
    first: list[list[Point]] = [[]] * searches
    if choice.warm and earlier is not None:
        most = min(warm.MOST, TRIALS // warm.SHARE)
        first = [replay(earlier, CHOICES[AS_IS], seed).complete[:most] for seed in range(searches)]
    halving.places = choice.places or usual
    found = [replay(table, choice, seed, first[seed]) for seed in range(searches)]
    halving.places = usual
    share = sum(math.isfinite(own.reached) for own in found) / searches
    told = [
        f"{statistics.median(own.reached for own in found):.0f}",
        f"{share:.0%}",
        f"{statistics.median(own.seconds for own in found):.0f}",
    ]
    best, epochs = (statistics.fmean(each) for each in zip(*((own.best, own.epochs) for own in found), strict=True))
    return [name, *told, f"{best:.4f}", f"{epochs:.0f}"]


def read(path: Path, data: Path | None, rows: int) -> Table:
    """The table in a file, made of a data set if it is not there."""
    if not path.exists():
        with data_set(data, rows) as dataset:
            path.write_text(json.dumps(make_table(dataset)))
    return Table.read(path)


def run(given: argparse.Namespace) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table = read(given.table, given.data, given.rows)
    earlier = read(given.earlier, None, SAMPLE_ROWS) if given.earlier else None
    say(
        "| choice | seconds to the target | reached | seconds in all | best, mean | epochs |\n|---|---|---|---|---|---|"
    )
    for name, choice in CHOICES.items():
        if (not name.startswith("gp") or given.slow) and (not choice.warm or earlier):
            say(f"| {' | '.join(row(table, name, given.searches, earlier))} |")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.replayed", description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="made if it is not there")
    parser.add_argument("--data", type=Path, help="a data set's folder; the bundled sample if not given")
    parser.add_argument("--earlier", type=Path, help="the bundled sample's table, made if it is not there")
    parser.add_argument("--rows", type=whole, default=3_000)
    parser.add_argument("--searches", type=whole, default=200)
    parser.add_argument("--slow", action="store_true", help="Gaussian processes too, which take a second a draw")
    command(lambda: run(parser.parse_args()))


if __name__ == "__main__":
    main()

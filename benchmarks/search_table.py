"""What the runs of a search say, and their page: how long each side takes to an answer that is as good as any."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.table import commit

Entry = Mapping[str, Any]
Bests = Mapping[str, Mapping[int, float]]
Points = Iterable[tuple[float, float]]
NOT_REACHED = "not reached"
HEAD = ["side", "seconds in all", "seconds to the target", "reached", "times mmtune's", "times the plain loop's"]
HEAD += ["trials", "epochs", "best validation", "held out", "peak memory, MB", "machine used by others"]
KILL_HEAD = ["side", "seconds unkilled", "killed after", "seconds in all", "what it cost, s"]
KILL_HEAD += ["epochs", "epochs for nothing", "RUNNING in its own storage", "RUNNING in MLflow"]
NOTE = """\
Every side has the same rows, split, space and budget, all cores, and a fresh process for each seed, in turn. A seed
decides the split too, as it does for mmtune, so scores of different seeds are of different rows. So each seed has a
target of its own: the best validation macro-F1 that any side found with it, minus one standard deviation (sd), which is
pooled over the sides from the deviations of each one's best over the seeds. Seconds count from the start of a side's
process; to the target they count to the first epoch that reached it, and are the median over the seeds. A seed that did
not reach it counts as endless. Best validation is mean and sd over the seeds; held out is the macro-F1 on the test
partition of a model with the weights of its best epoch, mean over the seeds: of mmtune's best complete trial, of the
others' trial with the best epoch, be it stopped early or not. Memory is that of all of a side's processes together,
what they share divided between them. The rivals are treated kindly: see benchmarks/rivals. mmtune's seconds in all
contain more than theirs: a loadable model of every kept trial, calibration, pictures. It begins with the study's base,
as always where its sampler learns; the others, which know of none, begin with a draw.
"""
KILLS = """\
Every process of a side was killed with SIGKILL after half of the seconds that it took unkilled, and started again as
its documentation says, the plain loop and Syne Tune from the start. What it cost: seconds of both together beyond those
unkilled, which is also that a search whose trials end in another order then makes other trials: see its epochs, those
of trials that ended. Epochs for nothing were trained and are in no trial that ended, or were trained again.
"""


def improvements(points: Points) -> list[tuple[float, float]]:
    """Of (seconds, score) those that were better than all before them, in order of time."""
    best, found = -math.inf, []
    for seconds, score in sorted(points):
        if score > best:
            best = score
            found.append((seconds, score))
    return found


def seconds_to(timeline: Points, target: float) -> float:
    """When a timeline first reached a target; infinity where it never did."""
    return min((seconds for seconds, score in timeline if score >= target), default=math.inf)


def pooled_sd(bests: Bests) -> float:
    """The standard deviation over seeds, pooled over sides, each by its degrees of freedom; 0 where no side has two."""
    several = [list(own.values()) for own in bests.values() if len(own) > 1]
    if not several:
        return 0.0
    squares = sum(statistics.variance(own) * (len(own) - 1) for own in several)
    return math.sqrt(squares / sum(len(own) - 1 for own in several))


def targets(bests: Bests) -> dict[int, float]:
    """By seed, the best that any side found, minus the pooled standard deviation."""
    sd = pooled_sd(bests)
    seeds = sorted({seed for own in bests.values() for seed in own})
    return {seed: max(own[seed] for own in bests.values() if seed in own) - sd for seed in seeds}


def by_side(results: Mapping[str, Any]) -> dict[str, dict[int, Entry]]:
    """The runs that are kept, by side and seed."""
    found: dict[str, dict[int, Entry]] = {}
    for entry in results.get("runs", {}).values():
        found.setdefault(entry["side"], {})[entry["asked"]["seed"]] = entry
    return found


def reached(runs: Mapping[int, Entry], wanted: Mapping[int, float]) -> dict[int, float]:
    """By seed, seconds to the target."""
    return {seed: seconds_to(map(tuple, entry["timeline"]), wanted[seed]) for seed, entry in runs.items()}


def table(results: Mapping[str, Any]) -> str:
    """The whole page."""
    runs = by_side(results)
    bests = {side: {seed: entry["best"] for seed, entry in own.items()} for side, own in runs.items()}
    wanted = targets(bests)
    times = {side: statistics.median(reached(own, wanted).values()) for side, own in runs.items()}
    lines = ["# Time to an answer: mmtune beside other tools", "", *made_with(results), ""]
    told = ", ".join(f"{target:.4f} (seed {seed})" for seed, target in wanted.items())
    lines += [f"Target: validation macro-F1 of {told}; pooled sd {pooled_sd(bests):.4f}.", ""]
    lines += [*table_lines(HEAD, [row(side, own, wanted, times) for side, own in runs.items()]), "", NOTE]
    if results.get("kills"):
        kills = [kill_row(entry) for entry in results["kills"].values()]
        lines += ["## Killed half way", "", *table_lines(KILL_HEAD, kills), "", KILLS]
    return "\n".join(lines)


def table_lines(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def made_with(results: Mapping[str, Any]) -> list[str]:
    """A line for each machine, set of versions, date and question among the runs."""
    return list(dict.fromkeys(f"- {made_line(entry)}" for entry in results.get("runs", {}).values()))


def made_line(entry: Entry) -> str:
    machine, asked = entry["machine"], entry["asked"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    question = " ".join([f"`{asked['study']}`", *asked["fix"]])
    return (
        f"{entry['date']}: {machine['processor']}, {machine['cores']} cores; {machine['system']}; "
        f"Python {machine['python']}, {versions}; commit {commit(machine)}; data {entry['data']}, {entry['rows']:,} "
        f"rows; {question}, {asked['trials']} trials of {asked['epochs']} epochs"
    )


def row(side: str, runs: Mapping[int, Entry], wanted: Mapping[int, float], times: Mapping[str, float]) -> list[str]:
    """The line of a side."""
    found, bests = reached(runs, wanted), [entry["best"] for entry in runs.values()]
    deviation = f" ± {statistics.stdev(bests):.4f}" if len(bests) > 1 else ""
    return [
        f"`{side}`",
        f"{mean(runs, 'seconds'):.0f}",
        seconds(times[side]),
        f"{sum(map(math.isfinite, found.values()))} of {len(found)}",
        *(ratio(times[side], times.get(other, math.nan)) for other in ("mmtune", "plain")),
        f"{statistics.fmean(len(entry['trials']) for entry in runs.values()):.1f}",
        f"{mean(runs, 'epochs'):.0f}",
        f"{statistics.fmean(bests):.4f}{deviation}",
        f"{mean(runs, 'held_out'):.4f}",
        f"{mean(runs, 'peak_bytes') / 1e6:,.0f}",
        f"{mean(runs, 'others'):.0%}",
    ]


def kill_row(entry: Entry) -> list[str]:
    return [
        f"`{entry['side']}`",
        *(f"{entry[name]:.0f}" for name in ("full_seconds", "killed_after", "seconds", "cost")),
        *(str(entry.get(name, "not kept")) for name in ("epochs", "wasted", "running_own", "running_mlflow")),
    ]


def mean(runs: Mapping[int, Entry], name: str) -> float:
    return statistics.fmean(float(entry[name]) for entry in runs.values())


def seconds(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else NOT_REACHED


def ratio(own: float, other: float) -> str:
    """How many times as long; "-" where either never came to it."""
    return f"{own / other:.2f}" if math.isfinite(own) and math.isfinite(other) else "-"

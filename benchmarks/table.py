"""The markdown table of kept results: `python -m benchmarks.table FILE.json`."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmtune.base.files import read_json

Entry = Mapping[str, Any]
TITLES = {"studies": "Whole studies", "single": "One trial alone"}
HEAD = ["study", "trials", "epochs", "training rows", "batch", "trials per hour", "**ratio**", "epochs per second"]
HEAD += [
    "tracking + tuning",
    "first epoch, s",
    "first trial, s",
    "peak memory, MB",
    "of the ceiling",
    "machine used by others",
]
NOTE = """\
Where a column has two numbers, the first is the plain loop's and the second mmtune's. Trials per hour count a whole
process, from its start with nothing to its end; epochs per second count from the first tracked epoch to the last one.
Tracking + tuning is mmtune's share of wall time in both. Memory is that of all processes of a side together, what they
share counted in each. The ceiling is a float32 matrix product on all threads, the share of it what the printed
network's products and convolutions took of it. Ratios are what is claimed; seconds on a CPU say what they were made of.
"""


def table(results: Mapping[str, Any]) -> str:
    """The whole page."""
    entries = [entry for section in TITLES for entry in results.get(section, {}).values()]
    lines = ["# mmtune against the plain loop", "", *made_with(entries), ""]
    for section, title in TITLES.items():
        if results.get(section):
            lines += [f"## {title}", "", *section_lines(results[section]), ""]
    return "\n".join([*lines, NOTE])


def made_with(entries: Iterable[Entry]) -> list[str]:
    """A line for each machine, set of versions and date among the results."""
    return list(dict.fromkeys(f"- {machine_line(entry)}" for entry in entries))


def machine_line(entry: Entry) -> str:
    machine, peak = entry["machine"], entry["ceiling"]
    device = machine["device"] if machine["device"] != "cpu" else "CPU"
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"{entry['date']}: {device}; {machine['processor']}, {machine['cores']} cores; {machine['system']}; "
        f"Python {machine['python']}, {versions}; commit {commit(machine)}; "
        f"data {entry['data']}, seed {entry['seed']}; "
        f"product {peak['product_flops'] / 1e9:.0f} GFLOP/s, copy {peak['copy_bytes'] / 1e9:.1f} GB/s"
    )


def commit(machine: Mapping[str, Any]) -> str:
    """The commit in 12 letters, with "+changes" where files differed from it."""
    name, plus, changes = machine["commit"].partition("+")
    return f"{name[:12]}{plus}{changes}" or "unknown"


def section_lines(section: Mapping[str, Entry]) -> list[str]:
    """A row for each study and the geometric mean of their ratios."""
    mean = math.exp(statistics.fmean(math.log(entry["ratio"]) for entry in section.values()))
    rows = [HEAD, ["---"] * len(HEAD), *(row(name, entry) for name, entry in section.items())]
    return [*(f"| {' | '.join(cells)} |" for cells in rows), "", f"Geometric mean of the ratios: **{mean:.2f}**"]


def row(name: str, entry: Entry) -> list[str]:
    case = entry["case"]
    tried = f" ({', '.join(case['tries'])})" if case["tries"] else ""
    return [
        f"`{name}`{tried}",
        str(case["trials"]),
        str(case["epochs"]),
        f"{entry['rows']['train']:,}",
        ", ".join(map(str, entry["batch_sizes"])),
        both(entry, "trials_per_hour", "{:,.0f}"),
        f"**{entry['ratio']:.2f}**",
        both(entry, "epochs_per_second", "{:.2f}"),
        overhead(entry),
        both(entry, "first_epoch_seconds", "{:.1f}"),
        both(entry, "first_trial_seconds", "{:.1f}"),
        both(entry, "peak_bytes", "{:,.0f}", 1e-6),
        " / ".join(f"{share:.1%}" for share in shares_of_ceiling(entry)),
        both(entry, "others", "{:.0%}"),
    ]


def median(entry: Entry, side: str, name: str) -> float:
    return statistics.median(float(run[name]) for run in entry["runs"][side])


def both(entry: Entry, name: str, form: str, scale: float = 1.0) -> str:
    return " / ".join(form.format(median(entry, side, name) * scale) for side in ("plain", "mmtune"))


def shares_of_ceiling(entry: Entry) -> list[float]:
    """Of either side, its floating-point operations a second over those of a matrix product."""
    peak = entry["ceiling"]["product_flops"]
    return [entry["flops"] / median(entry, side, "seconds") / peak for side in ("plain", "mmtune")]


def overhead(entry: Entry) -> str:
    """mmtune's share of time in tracking and tuning, where it was measured."""
    runs = [run for run in entry["runs"]["mmtune"] if run.get("tracking") is not None and run.get("tuning") is not None]
    if not runs:
        return "not measured"
    share = statistics.median((run["tracking"] + run["tuning"]) / run["seconds"] for run in runs)
    return f"{share:.1%}"


def main() -> None:
    print(table(read_json(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()

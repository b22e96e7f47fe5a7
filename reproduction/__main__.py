"""The command line: `python -m reproduction`, which `make reproduce` calls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmtune.cli.opening import open_data
from mmtune.cli.options import MLRUNS, Data, Store
from mmtune.cli.program import answer, console

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.command()
def reproduce(
    names: Annotated[list[str] | None, typer.Argument(help="Studies; all of them if not given.")] = None,
    data: Data = None,
    epochs: Annotated[int | None, typer.Option(help="Of every training; the report's on a GPU, else fewer.")] = None,
    full: Annotated[bool, typer.Option("--full", help="The report's epochs on a CPU too.")] = False,
    seeds: Annotated[str, typer.Option(help="One or several, such as '0 1 2'.")] = "0",
    workers: Annotated[int | None, typer.Option(help="Studies at once; one a core, two on a GPU.")] = None,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:N")] = "auto",
    threads: Annotated[int, typer.Option(help="Threads of a training on a CPU; more where few are long.")] = 1,
    store: Store = MLRUNS,
    results: Annotated[Path | None, typer.Option(help="Where the table goes; studies/RESULTS.md if not given.")] = None,
) -> None:
    """Make the reports' own configurations again under every protocol; hold them against what is reported."""
    from mmtune.base.signals import interruptible
    from mmtune.study.finding import SHIPPED
    from mmtune.tune.machine import resolve_device
    from reproduction.run import reproduce
    from reproduction.tasks import Order, paper_names, parse_seeds, with_needed

    order = Order(
        seeds=parse_seeds(seeds),
        epochs=epochs,
        workers=workers,
        device=resolve_device(device),
        data=data,
        store=store,
        results=results or SHIPPED / "RESULTS.md",
        full=full,
        threads=threads,
    )
    chosen = with_needed(names or paper_names())
    dataset = open_data(data)
    with interruptible() as stopped:
        found = reproduce(order, chosen, dataset, console, stopped)
    if found is None:
        typer.echo("interrupted; the same command goes on with the tasks that are missing")
        raise typer.Exit(130)
    if any(result.problem.startswith("failed") for result in found):
        raise typer.Exit(1)


if __name__ == "__main__":
    answer(app)

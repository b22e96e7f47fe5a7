"""The verbs that train: a study, the best model for some data, an ensemble."""

from __future__ import annotations

from dataclasses import Field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmtune.base.commands import command_line
from mmtune.cli.opening import (
    Wanted,
    always,
    data_progress,
    example_inputs,
    is_trained,
    look_in,
    open_data,
    open_tracker,
    pick_study,
)
from mmtune.cli.options import MLRUNS, AnyData, AnyFolds, AnyProtocol, AnySeed, Data, Fix, Name, Run, Store, Studies
from mmtune.cli.program import app, console
from mmtune.study.options import Options, with_options

if TYPE_CHECKING:
    from mmtune.tune.run import Outcome


def as_flag(own: Field[Any], kind: Any) -> Any:
    """An option's annotation, by which typer explains it."""
    return Annotated[kind, typer.Option(help=own.metadata["help"])]


@app.command(rich_help_panel="Train")
def init(
    name: Annotated[str, typer.Argument(help="The new study's name, such as my_study.")],
    data: Annotated[
        Path | None, typer.Option(help="A data set's folder, whose banks it is to read; the sample's if not given.")
    ] = None,
    studies: Annotated[Path | None, typer.Option(help="Where its file is to be, if not in `studies` here.")] = None,
) -> None:
    """Write a study's file to begin with: a network of your own, what is searched, and how it is trained."""
    from mmtune.study.beginning import begin

    reads: list[str] = []
    missing: list[str] = []
    if data is not None:
        from mmtune.data.banks import banks_of, lacks

        dataset = open_data(data)
        reads = banks_of(dataset)
        missing = [bank for bank in reads if lacks(dataset, bank)]
    path = begin(name, studies, reads, missing)
    where = f"on {data}, of which it reads {', '.join(reads)}" if data else "on the bundled sample"
    typer.echo(f"{path}: a network, what is searched and how it is trained; it runs as it is, {where}")
    typer.echo(f"next: {command_line('study', name, studies=studies, data=data)}  |  change {path} to your own")


@app.command(rich_help_panel="Train")
@partial(with_options, annotate=as_flag)
def study(
    name: Name, data: Data = None, fix: Fix = None, studies: Studies = None, store: Store = MLRUNS, **chosen: Any
) -> None:
    """Run a study, or the trials of it that are missing; safe to interrupt and to repeat."""
    look_in(studies)
    from mmtune.study import load_study, parse_fixed
    from mmtune.study.finding import require_own_name

    found = load_study(name)
    require_own_name(found)
    options = Options(**chosen, fixed=parse_fixed(fix or [], found.base, found.space))

    from mmtune.api.running import INTERRUPTED, run_and_publish

    try:
        outcome = run_and_publish(found, open_data(data), options, store, console)
    except KeyboardInterrupt:
        typer.echo(INTERRUPTED.format("command"))
        raise typer.Exit(130) from None
    say_outcome(outcome, name, store=store, studies=studies, data=data)


def say_outcome(outcome: Outcome, name: str, **where: Path | None) -> None:
    """What came of a study and where to look next; exits with 1 where all failed.

    where: the folders that its command was given, as store, studies and data.
    """
    ui = command_line("ui", store=where["store"])
    if outcome.failed:
        of = f"{outcome.failed} of {outcome.trials} trial{'s' * (outcome.trials > 1)}"
        typer.echo(f"{of} failed; `{ui}` shows the reason of each")
    if outcome.ended:
        typer.echo(f"ended: {outcome.ended}; what was under way waits for a call that has time for it or asks for more")
    if outcome.best is None:
        raise typer.Exit(1)
    best, objective = outcome.best, outcome.key.objective
    told, accuracy = objective.show(objective.values(best.metrics)), best.metrics.get("val_accuracy_at_best")
    beside = "" if accuracy is None else f", val accuracy {accuracy:.4f}"
    typer.echo(
        f"best of {outcome.key.slug}: trial {best.name}, {told}{beside} (epoch {best.metrics['epoch_at_best']:.0f})"
    )
    looking = [command_line("report", name, **where), ui]
    if outcome.front:
        typer.echo(f"front of {objective.words}, {len(outcome.front)} trials that no other one dominates:")
        for trial in outcome.front:
            typer.echo(f"  {objective.show(objective.values(trial.metrics))}: trial {trial.name}")
        one = command_line("promote", name, **where, trial=outcome.front[0].number)
        typer.echo(f"one of them by its number, such as the first: {one}")
    # What is promoted has seen all training rows but those that validate it, and a fold's has seen fewer.
    key = outcome.key
    verbs = ["ensemble"] * key.joinable if key.divided else ["promote"]
    typer.echo(f"next: {'  |  '.join([*looking, *(command_line(verb, name, **where) for verb in verbs)])}")


@app.command(rich_help_panel="Train")
def best(
    data: Data = None,
    hours: Annotated[float, typer.Option(help="How long it may take, all calls together.")] = 1.0,
    protocol: Annotated[
        str | None, typer.Option(help="The split that chooses; the data's usual one if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides the split, weights, and what is drawn.")] = 0,
    workers: Annotated[int | None, typer.Option(help="Trials at once; one a core if not given.")] = None,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:N")] = "auto",
    studies: Studies = None,
    store: Store = MLRUNS,
) -> None:
    """Find the best model for a data set in a given time, and register it with a certificate; safe to interrupt.

    Encoders, fusion, augmentation and recipe are searched, as a study's file says that this writes and that may be
    changed. The best are trained again with other seeds, answer together where that is better, and are scored on the
    test partition once.
    """
    look_in(studies)
    from mmtune.api.best import find_and_register

    options = Options(hours=hours, protocol=protocol, seed=seed, workers=workers, device=device)
    asked = {"data": data, "hours": f"{hours:g}", "protocol": protocol, "seed": seed or None, "workers": workers}
    asked |= {"device": device if device != "auto" else None, "studies": studies, "store": store}
    dataset = open_data(data)
    made = find_and_register(dataset, options, studies, store.resolve(), console, asked)
    if made is None:
        typer.echo("interrupted; the same command goes on with what is left of the time")
        raise typer.Exit(130)
    inputs = example_inputs(made.study, dataset)
    where = {"store": store, "studies": studies, "version": None if made.is_champion else made.version}
    typer.echo(f"next: {command_line('predict', None, model=made.name, **inputs, **where)}")


@app.command(rich_help_panel="Train")
def ensemble(
    name: Name,
    data: AnyData = None,
    protocol: AnyProtocol = None,
    seed: AnySeed = None,
    folds: AnyFolds = None,
    run: Run = None,
    studies: Studies = None,
    store: Store = MLRUNS,
) -> None:
    """Let the best trials of a study, or the folds of its best one, answer together, as a model of its own to promote.

    Rows that did not train them choose.
    """
    look_in(studies)
    from mmtune.best.together import together
    from mmtune.study import load_study

    found = load_study(name)
    tracker = open_tracker(store)
    given = open_data(data) if data else None
    own, _ = pick_study(tracker, found.name, Wanted(given, protocol, seed, folds, run), always if run else is_trained)
    dataset = given or open_data(Path(own.tags["mmtune.data_dir"]))
    with data_progress() as advance:
        made, trials = together(tracker, found, own, dataset, advance)
    objective = made.key.objective
    for trial in trials:
        typer.echo(f"{trial.name}: {objective.show(objective.values(trial.metrics))}")
    top, alone = max(trials, key=lambda trial: objective.rank(trial.metrics)), tracker.best(own.run_id, objective)
    which: dict[str, object] = {"run": made.run_id[:8], "trial": top.number}
    if alone is not None and not own.key.folds and objective.rank(alone.metrics) >= objective.rank(top.metrics):
        typer.echo(f"no better than {alone.name} by itself: {objective.show(objective.values(alone.metrics))}")
        which = {"run": own.run_id[:8]}
    which |= {"studies": studies, "store": store}
    if dataset.test is None:
        del which["trial"]
    typer.echo(f"next: {command_line('report' if dataset.test is None else 'promote', name, **which)}")

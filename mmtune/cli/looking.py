"""The verbs that show what there is: studies, reports, comparisons, MLflow's UI, this machine."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

import typer

from mmtune.base.commands import command_line
from mmtune.base.errors import InputError
from mmtune.base.files import make_folder, require_writable
from mmtune.cli.opening import (
    Wanted,
    always,
    data_of,
    data_progress,
    is_trained,
    look_in,
    open_data,
    open_tracker,
    pick_study,
)
from mmtune.cli.options import (
    MLRUNS,
    AnyData,
    AnyFolds,
    AnyProtocol,
    AnySeed,
    Data,
    Name,
    Out,
    Port,
    Run,
    Store,
    Studies,
)
from mmtune.cli.program import app, console


@app.command(rich_help_panel="Look")
def studies(studies: Studies = None, store: Store = MLRUNS) -> None:
    """List the studies: paper, grid, reported number, last measured number."""
    look_in(studies)
    from mmtune.report.listing import study_table
    from mmtune.report.summary import show
    from mmtune.study import study_files
    from mmtune.tracking import MlflowTracker, exists

    table, broken = study_table(study_files(), MlflowTracker(store) if exists(store) else None)
    show(console, table)
    for line in broken:
        typer.echo(line)


@app.command(rich_help_panel="Look")
def report(
    name: Name,
    data: AnyData = None,
    protocol: AnyProtocol = None,
    seed: AnySeed = None,
    folds: AnyFolds = None,
    run: Run = None,
    out: Out = None,
    format: Annotated[str, typer.Option(help="html | pdf | png | svg, its figures; all but html by Chromium")] = "html",
    studies: Studies = None,
    store: Store = MLRUNS,
) -> None:
    """Write one HTML page on the study's last run, or on the last that fits the options.

    Figures as SVG are written into a folder, and kept with the run.
    """
    look_in(studies)
    from mmtune.base.rules import require_choice
    from mmtune.report.page import write_report
    from mmtune.report.printing import FORMATS, HTML, SVG, print_page, require_browser
    from mmtune.report.publish import keep_figures
    from mmtune.study import load_study

    require_choice("--format", format, FORMATS)
    if format != HTML:
        require_browser(format)
    told, tracker = load_study(name), open_tracker(store)
    given = open_data(data) if data else None
    own, others = pick_study(tracker, told.name, Wanted(given, protocol, seed, folds, run))
    written = write_report(tracker, own, told, others, out if format == HTML else None, given or data_of(own))
    if format != HTML:
        page = written.read_text(encoding="utf-8")
        written = out or written.with_suffix("" if format == SVG else f".{format}")
        if format == SVG:
            strangers = {*written.glob("*.svg")} - {*keep_figures(tracker, own, page, written)}
            if strangers:
                first = min(strangers).name
                typer.echo(f"{len(strangers)} more .svg in {written} are not of this report, such as {first}")
        else:
            print_page(page, written, format)
    typer.echo(f"report of {own.key.slug}: {written.resolve()}")


@app.command(rich_help_panel="Look")
def compare(
    reference: Annotated[str, typer.Argument(help="The study that the others are held against.")],
    others: Annotated[
        list[str] | None,
        typer.Argument(help="Studies that were run on the same rows; the trials of the one study if none is given."),
    ] = None,
    data: AnyData = None,
    protocol: AnyProtocol = None,
    seed: AnySeed = None,
    folds: AnyFolds = None,
    out: Out = None,
    studies: Studies = None,
    store: Store = MLRUNS,
) -> None:
    """Test whether studies, or the trials of one, differ by more than chance: over folds, rows, recordings."""
    look_in(studies)
    from mmtune.report import comparing
    from mmtune.report.comparison_page import write_comparison
    from mmtune.report.summary import show
    from mmtune.study import load_study

    reference, *rivals = [load_study(name).name for name in (reference, *(others or ()))]
    if out is not None:
        make_folder(out.parent)
        require_writable(out)
    tracker = open_tracker(store)
    given = open_data(data) if data else None
    run, _ = pick_study(
        tracker,
        reference,
        Wanted(given, protocol, seed, folds),
        lambda own: own.status == "FINISHED" and is_trained(own),
    )
    if rivals:
        dataset = given or open_data(Path(run.tags["mmtune.data_dir"]))
        runs = [run, *(comparing.matching(tracker.studies(name), run) for name in rivals)]
        for rival in runs[1:]:
            typer.echo(f"{rival.key.study}: run {rival.run_id[:8]}, {rival.key.title}")
        first, *rest = (comparing.answers_of(tracker, own, dataset) for own in runs)
    else:
        first, *rest = comparing.answers_by_trial(tracker, run)
    found = comparing.compared([(own, first) for own in rest])
    show(console, comparing.comparison_table(found))
    for own in found:
        typer.echo(own.sentence())
    others_hash = hashlib.sha256("\n".join(rivals).encode()).hexdigest()[:8]
    page = out or tracker.root / "reports" / f"compare-{run.key.slug}-{others_hash}.html"
    write_comparison(page, first, found)
    typer.echo(f"page: {page.resolve()}")


@app.command(rich_help_panel="Look")
def robustness(
    name: Name,
    data: AnyData = None,
    protocol: AnyProtocol = None,
    seed: AnySeed = None,
    folds: AnyFolds = None,
    run: Run = None,
    test: Annotated[bool, typer.Option("--test", help="Of the test partition, not of the rows that validate.")] = False,
    studies: Studies = None,
    store: Store = MLRUNS,
) -> None:
    """Measure the best trial while its pictures, sounds and numbers go wrong; the report then has the curves."""
    look_in(studies)
    from mmtune.data.dataset import TEST
    from mmtune.report.robustness import robustness_lines, robustness_table
    from mmtune.report.summary import show
    from mmtune.serve.measured import VALIDATES
    from mmtune.serve.promotion import best_of
    from mmtune.serve.robustness import measure
    from mmtune.study import load_study

    told, tracker = load_study(name), open_tracker(store)
    given = open_data(data) if data else None
    own, _ = pick_study(tracker, told.name, Wanted(given, protocol, seed, folds, run))
    dataset, trial = given or open_data(Path(own.tags["mmtune.data_dir"])), best_of(tracker, own)
    with data_progress() as advance:
        found = measure(tracker, own, trial, dataset, TEST if test else VALIDATES, advance)
    typer.echo(f"accuracy (%) of {own.key.slug}, trial {trial.name}, on {found.rows:,} {found.on} rows")
    show(console, robustness_table(found))
    for line in robustness_lines(found):
        typer.echo(line)
    where = {"data": data, "protocol": protocol, "seed": seed, "folds": folds, "run": run}
    typer.echo(f"next: {command_line('report', name, **where, studies=studies, store=store)}")


@app.command(rich_help_panel="Look")
def ui(
    port: Port = 5000,
    browser: Annotated[bool | None, typer.Option(help="Open a browser; if not given, where there is a screen.")] = None,
    store: Store = MLRUNS,
) -> None:
    """Open the MLflow UI on loopback until Ctrl-C, for whoever has the address that this prints.

    Where a server keeps the runs, its own UI is what there is to open, and this prints where.
    """
    from mmtune.serve.web.ui import bound, has_screen, serve, study_lines
    from mmtune.tracking import MlflowTracker
    from mmtune.tracking.address import tracking_uri

    if tracking_uri(store).startswith("http"):
        tracker = MlflowTracker(store)
        for line in (f"MLflow UI: {tracker.name}", *study_lines(tracker.studies(), tracker.name)):
            typer.echo(line)
        return
    with bound(port) as own:
        serve(open_tracker(store), own, typer.echo, has_screen() if browser is None else browser)


@app.command("optuna", rich_help_panel="Look")
def for_optuna(
    name: Name,
    out: Annotated[str, typer.Option(help="A database for it, such as sqlite:///study.db.")],
    data: AnyData = None,
    protocol: AnyProtocol = None,
    seed: AnySeed = None,
    folds: AnyFolds = None,
    run: Run = None,
    studies: Studies = None,
    store: Store = MLRUNS,
) -> None:
    """Write a study, rebuilt from its runs, for Optuna's own tools, such as optuna-dashboard."""
    look_in(studies)
    from mmtune.study import load_study
    from mmtune.tune.export import export

    told, tracker = load_study(name), open_tracker(store)
    given = open_data(data) if data else None
    own, _ = pick_study(tracker, told.name, Wanted(given, protocol, seed, folds, run), always if run else is_trained)
    made = export(tracker, own, out, told)
    typer.echo(f"{len(made.trials)} trial{'s' * (len(made.trials) != 1)} of {made.study_name} for Optuna")


@app.command(rich_help_panel="Look")
def doctor(data: Data = None, studies: Studies = None, store: Store = MLRUNS) -> None:
    """Say what is here and what is missing: versions, device, disk, store, data, extras; ends with 2 where it hurts."""
    look_in(studies)
    from mmtune.report.doctor import BAD, doctor_table
    from mmtune.report.summary import show

    table, bad = doctor_table(store, data)
    show(console, table)
    if bad:
        raise InputError(f"{bad} of these lines, those with {BAD}, keep something from working")

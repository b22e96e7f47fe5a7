"""The command line: one short function per verb. Flags say where and how much; what is tried is a study's file.

Whatever is slow to import is imported by the verb that needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import atexit
import gc
import hashlib
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import Field
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from mmtune.base.commands import command_line, option
from mmtune.base.errors import AwayError, GoneError, InputError
from mmtune.base.files import storage_problem, unusable
from mmtune.study.options import Options, with_options

if TYPE_CHECKING:
    from mmtune.data.dataset import Dataset
    from mmtune.serve.nearest import TrainingRows
    from mmtune.serve.predictor import Predictor
    from mmtune.serve.server import Near
    from mmtune.study import Study
    from mmtune.tracking import MlflowTracker, StudyRun
    from mmtune.tune.run import Outcome

WHAT = "Search, train, compare and promote small networks that read several kinds of data."

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich", help=WHAT)
data_app = typer.Typer(no_args_is_help=True, help="Fetch, build and look at data sets.")
app.add_typer(data_app, name="data")
console = Console()

Name = Annotated[str, typer.Argument(help="A study, as `mmtune studies` lists them, or its file.")]
Store = Annotated[Path, typer.Option(help="Where runs, models and what is under way are kept.")]
Data = Annotated[Path | None, typer.Option(help="A data set's folder; the bundled sample if not given.")]
AnyData = Annotated[Path | None, typer.Option(help="A data set's folder; any if not given, the last that was run.")]
Fix = Annotated[list[str] | None, typer.Option(help="Fix a choice, as NAME=VALUE; may be repeated.")]
Studies = Annotated[Path | None, typer.Option(help="A folder of studies, beside `studies` here and the shipped ones.")]
AnyProtocol = Annotated[str | None, typer.Option(help="The split; any if not given.")]
AnySeed = Annotated[int | None, typer.Option(help="The seed; any if not given.")]
AnyFolds = Annotated[int | None, typer.Option(help="Cross-validated on so many folds, 0 for none; any if not given.")]
Run = Annotated[str | None, typer.Option(help="A run of the study by its id in MLflow, or how it begins.")]
Out = Annotated[Path | None, typer.Option(help="Where to write.")]
Model = Annotated[str, typer.Argument(help="A registered model, as `mmtune promote` makes them.")]
Version = Annotated[str | None, typer.Option(help="A version; the champion if not given.")]
Port = Annotated[int, typer.Option(min=1, max=65_535, help="The port on loopback.")]
MLRUNS = Path("mlruns")
ABSTAINED = 3
"""The exit code of a prediction that is better not relied on."""


def main() -> None:
    """Run the command line."""
    answer(app)


def process() -> NoReturn:
    """Run the command line as a process of its own, and end that at once.

    Python would take apart all that was loaded first, for a second or two: torch, MLflow and a study's runs.
    """
    code = 0
    for stream in (sys.stdout, sys.stderr):
        # What another encoding has no sign for becomes a question mark, and no traceback.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        main()
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        code = end.code or 0
    atexit._run_exitfuncs()
    # Nobody may be left who reads it.
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def answer(command: Callable[[], object]) -> None:
    """Run a command line; a user's mistake is one line on standard error and exit code 2."""
    # A report reads half a million small values, which hold no cycles: looking for some took a seventh of its time.
    gc.set_threshold(100_000, 50, 50)
    try:
        command()
    except (InputError, AwayError, GoneError) as error:
        refuse(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        problem = storage_problem(error)
        if problem is None:
            raise
        refuse(unusable(problem))


def refuse(error: Exception) -> NoReturn:
    """End with a line on what the user can mend."""
    sys.stderr.write(f"mmtune: {error}\n")
    sys.exit(2)


def show_version(wanted: bool) -> None:
    """Print mmtune's version and end, if it is wanted."""
    if wanted:
        from mmtune.base.provenance import installed

        typer.echo(f"mmtune {installed('mmtune')}")
        raise typer.Exit


@app.callback()
def of_all(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Take what comes before a command."""


@app.command()
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


def as_flag(own: Field[Any], kind: Any) -> Any:
    """An option's annotation, by which typer explains it."""
    return Annotated[kind, typer.Option(help=own.metadata["help"])]


@app.command()
def doctor(data: Data = None, studies: Studies = None, store: Store = MLRUNS) -> None:
    """Say what is here and what is missing: versions, device, disk, store, data, extras; ends with 2 where it hurts."""
    look_in(studies)
    from mmtune.report.doctor import BAD, doctor_table
    from mmtune.report.summary import show

    table, bad = doctor_table(store, data)
    show(console, table)
    if bad:
        raise InputError(f"{bad} of these lines, those with {BAD}, keep something from working")


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="The new study's name, such as my_study.")],
    studies: Annotated[Path | None, typer.Option(help="Where its file is to be, if not in `studies` here.")] = None,
) -> None:
    """Write a study's file to begin with: a network of your own, what is searched, and how it is trained."""
    from mmtune.study.beginning import begin

    path = begin(name, studies)
    typer.echo(f"{path}: a network, what is searched and how it is trained; it runs as it is, on the bundled sample")
    typer.echo(f"next: {command_line('study', name, studies=studies)}  |  change {path} to your own")


@app.command()
@partial(with_options, annotate=as_flag)
def study(
    name: Name, data: Data = None, fix: Fix = None, studies: Studies = None, store: Store = MLRUNS, **chosen: Any
) -> None:
    """Run a study, or the trials of it that are missing; safe to interrupt and to repeat."""
    look_in(studies)
    from mmtune.study import load_study, parse_fixed

    found = load_study(name)
    options = Options(**chosen, fixed=parse_fixed(fix or [], found.base))

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
    promoting = [] if outcome.key.folds else [command_line("promote", name, **where)]
    typer.echo(f"next: {'  |  '.join(looking + promoting)}")


@app.command()
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


@app.command()
def ensemble(
    name: Name,
    data: AnyData = None,
    protocol: AnyProtocol = None,
    seed: AnySeed = None,
    run: Run = None,
    studies: Studies = None,
    store: Store = MLRUNS,
) -> None:
    """Let the best trials of a study answer together, as a model of its own to promote; validation rows choose them."""
    look_in(studies)
    from mmtune.best.together import together
    from mmtune.study import load_study

    found = load_study(name)
    tracker = open_tracker(store)
    given = open_data(data) if data else None
    own, _ = pick_study(tracker, found.name, given, protocol, seed, 0, run, trained=True)
    dataset = given or open_data(Path(own.tags["mmtune.data_dir"]))
    with data_progress() as advance:
        made, trials = together(tracker, found, own, dataset, advance)
    objective = made.key.objective
    for trial in trials:
        typer.echo(f"{trial.name}: {objective.show(objective.values(trial.metrics))}")
    top, alone = max(trials, key=lambda trial: objective.rank(trial.metrics)), tracker.best(own.run_id, objective)
    which: dict[str, object] = {"run": made.run_id[:8], "trial": top.number}
    if alone is not None and objective.rank(alone.metrics) >= objective.rank(top.metrics):
        typer.echo(f"no better than {alone.name} by itself: {objective.show(objective.values(alone.metrics))}")
        which = {"run": own.run_id[:8]}
    which |= {"studies": studies, "store": store}
    typer.echo(f"next: {command_line('promote', name, **which)}")


@app.command()
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
    from mmtune.report.printing import FORMATS, HTML, SVG, print_page
    from mmtune.report.publish import keep_figures
    from mmtune.study import load_study

    require_choice("--format", format, FORMATS)
    told, tracker = load_study(name), open_tracker(store)
    given = open_data(data) if data else None
    own, others = pick_study(tracker, told.name, given, protocol, seed, folds, run)
    written = write_report(tracker, own, told, others, out if format == HTML else None, given or data_of(own))
    if format != HTML:
        page = written.read_text(encoding="utf-8")
        written = out or written.with_suffix("" if format == SVG else f".{format}")
        if format == SVG:
            keep_figures(tracker, own, page, written)
        else:
            print_page(page, written, format)
    typer.echo(f"report of {own.key.slug}: {written.resolve()}")


@app.command()
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
    own, _ = pick_study(tracker, told.name, given, protocol, seed, folds, run)
    dataset, trial = given or open_data(Path(own.tags["mmtune.data_dir"])), best_of(tracker, own)
    with data_progress() as advance:
        found = measure(tracker, own, trial, dataset, TEST if test else VALIDATES, advance)
    typer.echo(f"accuracy (%) of {own.key.slug}, trial {trial.name}, on {found.rows:,} {found.on} rows")
    show(console, robustness_table(found))
    for line in robustness_lines(found):
        typer.echo(line)
    where = {"data": data, "protocol": protocol, "seed": seed, "folds": folds, "run": run}
    typer.echo(f"next: {command_line('report', name, **where, studies=studies, store=store)}")


@app.command()
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
    """Test whether studies, or the trials of one, differ by more than chance: over folds, rows and recordings."""
    look_in(studies)
    from mmtune.report import comparing
    from mmtune.report.comparison_page import write_comparison
    from mmtune.report.summary import show
    from mmtune.study import load_study

    reference, *rivals = [load_study(name).name for name in (reference, *(others or ()))]
    tracker = open_tracker(store)
    given = open_data(data) if data else None
    run, _ = pick_study(tracker, reference, given, protocol, seed, folds, finished=True, trained=True)
    if rivals:
        dataset = given or open_data(Path(run.tags["mmtune.data_dir"]))
        runs = [run, *(comparing.matching(tracker.studies(name), run) for name in rivals)]
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


@app.command()
def promote(
    name: Name,
    data: AnyData = None,
    protocol: AnyProtocol = None,
    seed: AnySeed = None,
    run: Run = None,
    trial: Annotated[int | None, typer.Option(min=0, help="A complete trial by its number, not the best.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Make it champion although it is worse; recorded.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the champion before this one.")] = False,
    history: Annotated[bool, typer.Option("--history", help="Show the versions and change nothing.")] = False,
    studies: Studies = None,
    store: Store = MLRUNS,
) -> None:
    """Score the best trial, or one by its number, on the test partition, and make it champion unless it is worse."""
    look_in(studies)
    from mmtune.report.summary import history_table, show
    from mmtune.serve import promotion, versions
    from mmtune.study import load_study
    from mmtune.study.finding import folder_to_name
    from mmtune.train.objective import objective_of

    found, studies = load_study(name), studies or folder_to_name(name)
    name, tracker = found.name, open_tracker(store)
    if rollback:
        before, after = promotion.rollback(tracker, name)
        typer.echo(f"champion of {name}: version {before} -> version {after}")
    elif not history:
        given = open_data(data) if data else None
        # The model of one fold has seen fewer rows, and its trial's score is a mean over folds.
        own, _ = pick_study(tracker, name, given, protocol, seed, 0, run)
        dataset = given or open_data(Path(own.tags["mmtune.data_dir"]))
        with data_progress() as advance:
            made = promotion.promote(tracker, own, dataset, force, trial, objective_of(found.objective), advance)
        typer.echo(made.describe())
    show(console, history_table(versions.history(tracker, name)))
    if not history:
        inputs = example_inputs(found, None if rollback else dataset)
        typer.echo(f"next: {command_line('predict', None, model=name, **inputs, store=store, studies=studies)}")


def example_inputs(study: Study, dataset: Dataset | None) -> dict[str, str]:
    """What a study's model may be given, as options of `predict`: a file, or numbers, for each bank that it reads."""
    from mmtune.serve.given import KINDS

    options = {source: (option, "FILE") for option, source in KINDS.items()}
    forms = {} if dataset is None else {bank: dataset.forms[bank] for bank in study.base.model.reads}
    told = [options.get(form.source, ("input", f"{bank}=...")) for bank, form in forms.items() if form.source]
    return dict(told)


@app.command()
def predict(
    model: Annotated[str, typer.Option(help="A registered model, as named by its study.")],
    image: Annotated[
        Path | None, typer.Option("--image", "--images", help="A picture, or a folder of many; see --audio.")
    ] = None,
    audio: Annotated[
        Path | None, typer.Option(help="A recording, or a folder; files of two folders go together by their names.")
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--input", help="What a bank gets, as BANK=FILE or BANK=NUMBERS; may be repeated."),
    ] = None,
    table: Annotated[Path | None, typer.Option(help="A CSV file with a column for each bank: many rows.")] = None,
    data: Annotated[Path | None, typer.Option(help="This data set's test partition instead.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write many answers, as a CSV file.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print each row as JSON, on a line.")] = False,
    top: Annotated[int, typer.Option(min=1, help="How many classes to print of each of many rows.")] = 1,
    every: Annotated[bool, typer.Option("--all", help="Answer every word of a recording.")] = False,
    version: Annotated[int | None, typer.Option(help="A version instead of the champion.")] = None,
    abstain_at: Annotated[
        str | None, typer.Option(help="Give no answer where more than this share of such is wrong, such as 1%.")
    ] = None,
    coverage: Annotated[str, typer.Option(help="How often the set of classes is to hold the true one.")] = "95%",
    studies: Studies = None,
    store: Store = MLRUNS,
) -> None:
    """Predict the class of a picture, a recording and whatever else a model reads, of one row or of many.

    Ends with 3 where it abstains: parts contradict each other, something is like nothing in training, or the answer is
    less sure than --abstain-at asks for. Of many rows it says how many, and ends with 2 where some were refused.
    """
    inputs = {"image": image, "audio": audio}
    files = {name: str(path) for name, path in inputs.items() if path is not None} | parse_inputs(given or [])
    if sum((bool(files), data is not None, table is not None)) != 1:
        raise InputError("predict takes one of --image with --audio and --input, --table, and --data")
    if data is not None and out is None:
        raise InputError("predict takes --data and --out together, got one of them")
    if every and not files:
        raise InputError("predict takes --all with --audio, got it with --table or --data")
    look_in(studies)
    from mmtune.api.loading import load
    from mmtune.serve.batch import Asked, predict_many
    from mmtune.serve.prediction import read_share
    from mmtune.serve.tally import as_json, one
    from mmtune.serve.telling import describe

    error = None if abstain_at is None else read_share("--abstain-at", abstain_at)
    kept = read_share("--coverage", coverage)
    asked = Asked(files=files, table=table, data=None if data is None else open_data(data), every=every)
    if out is not None and not asked.is_many:
        raise InputError("predict takes --out for many rows, of folders, --table, --data or --all, got one row's files")
    predictor = load(model, version=version, store=store).cautious(abstain_at=error, coverage=kept)
    if asked.is_many:
        with data_progress() as advance:
            told = predict_many(predictor, asked, out, top, advance)
        for line in told.json if json else told.lines:
            typer.echo(line)
        for line in told.summary:
            typer.echo(line, err=json)
        code = told.code
    else:
        found = predictor.predict(**files)
        typer.echo(as_json(one(found, top)) if json else describe(predictor, found))
        code = ABSTAINED if found.abstained.any() else 0
    raise typer.Exit(code)


def parse_inputs(given: list[str]) -> dict[str, str]:
    """What --input gives each bank."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name or name in found:
            raise InputError(f"--input takes BANK=FILE or BANK=NUMBERS, each bank once, got {text!r}")
        found[name] = value
    return found


def look_in(studies: Path | None) -> None:
    """Look for studies in a folder of the user's too."""
    if studies is not None:
        from mmtune.study.finding import use_studies

        use_studies(studies)


@app.command()
def serve(
    model: Model,
    version: Version = None,
    port: Port = 5001,
    studies: Studies = None,
    store: Store = MLRUNS,
) -> None:
    """Answer requests for a registered model on loopback until Ctrl-C: files, arrays, many rows, a page to try it."""
    folder = model_folder(model, version, studies, store)
    answer_for(model, folder, port, "/predict for files, /invocations for arrays, / to try it")


@app.command()
def demo(
    model: Model,
    version: Version = None,
    port: Port = 5001,
    data: Annotated[
        Path | None,
        typer.Option(help="What it was trained on, of which the nearest rows are shown; where its study had it, else."),
    ] = None,
    studies: Studies = None,
    store: Store = MLRUNS,
) -> None:
    """Say where a page to play with a registered model is, on loopback until Ctrl-C: draw, speak, see where it looks.

    It is the page that `mmtune serve` has too, and shows the training rows that are nearest to what it is given.
    """
    folder, given = model_folder(model, version, studies, store), open_data(data) if data else None

    def near(predictor: Predictor) -> TrainingRows | None:
        from mmtune.serve.nearest import find_training_rows

        try:
            return find_training_rows(open_tracker(store), predictor, given)
        except InputError as error:
            if given:
                raise
            typer.echo(f"no training rows are shown beside answers: {error}")
            return None

    answer_for(model, folder, port, "/ to try it in a browser", near)


def model_folder(model: str, version: str | None, studies: Path | None, store: Path) -> Path:
    """Where the predictor of a registered model lies."""
    look_in(studies)
    from mmtune.serve.versions import champion_folder

    return champion_folder(store, model, version)


def answer_for(model: str, folder: Path, port: int, what: str, near: Near | None = None) -> None:
    """Answer for a registered model on loopback until Ctrl-C, once it was said at which address what is found."""
    from mmtune.serve.server import serve_model
    from mmtune.serve.ui import LOOPBACK, bound

    own = bound(port)
    typer.echo(f"{model}: http://{LOOPBACK}:{port}{what}  (Ctrl-C ends it)")
    serve_model(folder, own, near)


@app.command()
def export(
    model: Model,
    to: Annotated[str, typer.Option(help="onnx, which needs `pip install 'mmtune[export]'`, or pt2, torch.export's.")],
    out: Annotated[Path | None, typer.Option(help="The file; MODEL.onnx or MODEL.pt2 here if not given.")] = None,
    version: Annotated[int | None, typer.Option(help="A version instead of the champion.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="A data set to try the file on; the bundled sample or drawn rows if not given."),
    ] = None,
    studies: Studies = None,
    store: Store = MLRUNS,
) -> None:
    """Write a registered model as one file that runs without mmtune, once it is seen to answer as the model does."""
    look_in(studies)
    from mmtune.api.loading import load
    from mmtune.serve.export import export as write
    from mmtune.serve.export import reads_sample, rows_for
    from mmtune.serve.formats import format_of
    from mmtune.serve.versions import Registry

    format_of(to)
    number = Registry(open_tracker(store), model).champion() if version is None else version
    predictor = load(model, version=number, store=store)
    dataset = open_data(data) if data or reads_sample(predictor) else None
    rows = rows_for(predictor, dataset)
    typer.echo(write(predictor, to, out or Path(f"{model}.{to}"), rows, model, str(number)))


@app.command("optuna")
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
    own, _ = pick_study(tracker, told.name, open_data(data) if data else None, protocol, seed, folds, run)
    made = export(tracker, own, out, told)
    typer.echo(f"{len(made.trials)} trial{'s' * (len(made.trials) != 1)} of {made.study_name} for Optuna")


@app.command()
def ui(
    port: Port = 5000,
    browser: Annotated[bool | None, typer.Option(help="Open a browser; if not given, where there is a screen.")] = None,
    store: Store = MLRUNS,
) -> None:
    """Open the MLflow UI on loopback until Ctrl-C, for whoever has the address that this prints.

    Where a server keeps the runs, its own UI is what there is to open, and this prints where.
    """
    from mmtune.serve.ui import bound, has_screen, serve, study_lines
    from mmtune.tracking import MlflowTracker
    from mmtune.tracking.address import tracking_uri

    if tracking_uri(store).startswith("http"):
        tracker = MlflowTracker(store)
        for line in (f"MLflow UI: {tracker.name}", *study_lines(tracker.studies(), tracker.name)):
            typer.echo(line)
        return
    with bound(port) as own:
        serve(MlflowTracker(store), own, typer.echo, has_screen() if browser is None else browser)


@data_app.command()
def fetch(out: Annotated[Path, typer.Option(help="The folder to make.")] = Path("data/khacef")) -> None:
    """Download Khacef's written and spoken digits (Zenodo 4452953); resumable."""
    from mmtune.data.zenodo import fetch as fetch_set

    with data_progress() as advance:
        fetch_set(out, on_progress=advance)
    typer.echo(f"ready: {out}; use it as {option('data', out)}")


@data_app.command()
def build(
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    images: Annotated[Path | None, typer.Option(help="A folder of pictures: IDX files, or label/*.png.")] = None,
    audio: Annotated[
        list[str] | None,
        typer.Option(help="A folder of recordings; with --table a column, as COLUMN:mfcc, :logmel or :waveform."),
    ] = None,
    test_images: Annotated[Path | None, typer.Option(help="Other pictures, to be the test.")] = None,
    test_audio: Annotated[Path | None, typer.Option(help="Other recordings, to be the test.")] = None,
    image_form: Annotated[str, typer.Option(help="What --images become: digit, or such as 32x32:rgb.")] = "",
    audio_form: Annotated[list[str] | None, typer.Option(help="What --audio becomes, such as logmel:2s.")] = None,
    table: Annotated[Path | None, typer.Option(help="A CSV file instead of folders: one row a sample.")] = None,
    image: Annotated[list[str] | None, typer.Option(help="A column of pictures, as COLUMN:32x32:rgb.")] = None,
    array: Annotated[list[str] | None, typer.Option(help="A column of .npy files, as COLUMN:39x13.")] = None,
    vector: Annotated[list[str] | None, typer.Option(help="Columns of numbers, as age,height.")] = None,
    label: Annotated[str, typer.Option(help="The column of labels; of folders a regex over paths.")] = "",
    split: Annotated[str, typer.Option(help="The column that says train or test.")] = "",
    group: Annotated[list[str] | None, typer.Option(help="speaker=COLUMN; of folders speaker=REGEX.")] = None,
    keep_apart: Annotated[str, typer.Option(help="A group whose members tests and splits keep apart.")] = "",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Go on without files that cannot be read.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Decides partitions and pairs.")] = 0,
) -> None:
    """Build a data set from folders of pictures and recordings, or from a table, and say what was found."""
    from mmtune.data.asking import asked
    from mmtune.data.building import build as build_set
    from mmtune.data.info import found
    from mmtune.data.sources import How

    what = asked(
        table=table,
        images=images,
        audio=audio or [],
        test_images=test_images,
        test_audio=test_audio,
        image_form=image_form,
        audio_form=audio_form or [],
        image=image or [],
        array=array or [],
        vector=vector or [],
    )
    how = How(seed=seed, label=label, split=split, groups=tuple(group or ()), keep_apart=keep_apart, skip_bad=skip_bad)
    replaced = out.is_dir() and any(out.iterdir())
    with data_progress() as advance:
        dataset = build_set(what, out, how, advance)
    if replaced:
        typer.echo(f"the data set that was in {out} is replaced")
    for line in found(dataset):
        typer.echo(line)
    typer.echo(f"ready: {out}; use it as {option('data', out)}")


@data_app.command()
def info(
    folder: Annotated[Path | None, typer.Argument(help="A data set; the bundled sample if not given.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Where to draw a few rows.")] = None,
) -> None:
    """Print what a data set holds and the leakage of every protocol; draw a few rows."""
    from mmtune.data.figure import draw_rows
    from mmtune.data.info import lines

    dataset = open_data(folder)
    for line in lines(dataset):
        typer.echo(line)
    target = picture or Path(f"{dataset.name}-rows.png")
    draw_rows(dataset, target)
    typer.echo(f"rows drawn in {target}")


@data_app.command()
def sample(seed: Annotated[int, typer.Option(help="Decides voices and pairs.")] = 0) -> None:
    """Make the bundled sample and print its folder."""
    typer.echo(str(sample_path(seed)))


def sample_path(seed: int = 0) -> Path:
    """The bundled sample's folder, made on first use with a progress display."""
    from mmtune.data.bundled import sample_folder

    with data_progress() as advance:
        return sample_folder(seed=seed, on_progress=advance)


def open_data(folder: Path | None) -> Dataset:
    """The data set in `folder`, or the bundled sample."""
    from mmtune.data.store import load

    return load(folder or sample_path())


def data_of(run: StudyRun) -> Dataset | None:
    """The data set that a study was run on, None where it is no longer there."""
    from mmtune.data.store import load

    try:
        return load(Path(run.tags["mmtune.data_dir"]))
    except (InputError, KeyError):
        return None


def open_tracker(store: Path) -> MlflowTracker:
    """The tracker of an existing store."""
    from mmtune.tracking import MlflowTracker, exists

    if not exists(store):
        raise InputError(f"--store must name a folder with tracked runs, got {store}; run a study first")
    return MlflowTracker(store)


def pick_study(
    tracker: MlflowTracker,
    name: str,
    dataset: Dataset | None,
    protocol: str | None,
    seed: int | None,
    folds: int | None = None,
    run: str | None = None,
    finished: bool = False,
    trained: bool = False,
) -> tuple[StudyRun, list[StudyRun]]:
    """The study that was run last among those that fit, which is said, and the other tracked studies of that name.

    trained: not one of what `mmtune ensemble` has made of another's trials.
    """
    from mmtune.report.summary import fits
    from mmtune.study.key import ENSEMBLE

    digest = dataset.digest if dataset else None
    tracked = tracker.studies(name)
    fitting = [own for own in tracked if fits(own.key, digest, protocol, seed, folds)]
    fitting = [own for own in fitting if own.status == "FINISHED" or not finished]
    fitting = [own for own in fitting if own.key.sampler != ENSEMBLE or not trained]
    fitting = [own for own in fitting if own.run_id.startswith(run or "")]
    if not fitting:
        there = "; ".join(f"{own.key.slug} (run {own.run_id[:8]})" for own in tracked) or "none"
        raise InputError(f"{name} must have been run with these options first; tracked: {there}")
    if len(fitting) > 1:
        others = ", ".join(f"{own.run_id[:8]} ({own.key.title})" for own in fitting[1:6])
        more = f" and {len(fitting) - 6} more" if len(fitting) > 6 else ""
        typer.echo(f"{name}: the last of {len(fitting)} runs, {fitting[0].key.title}; another by --run: {others}{more}")
    return fitting[0], [own for own in tracked if own is not fitting[0]]


def data_progress() -> AbstractContextManager[Callable[[str, int, int], None]]:
    """A progress display; gives a function of (step, done, total)."""
    from mmtune.base.progress import steps

    return steps(console)


if __name__ == "__main__":
    process()

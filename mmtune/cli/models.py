"""The verbs for registered models: promote one, and let it answer."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmtune.base.commands import command_line
from mmtune.base.errors import InputError
from mmtune.base.files import require_writable
from mmtune.cli.opening import (
    Wanted,
    data_progress,
    example_inputs,
    look_in,
    model_folder,
    open_data,
    open_tracker,
    pick_whole,
)
from mmtune.cli.options import MLRUNS, AnyData, AnyProtocol, AnySeed, Model, Name, Port, Run, Store, Studies, Version
from mmtune.cli.program import app, console

if TYPE_CHECKING:
    from mmtune.serve.answer.nearest import TrainingRows
    from mmtune.serve.answer.predictor import Predictor
    from mmtune.serve.web.server import Near

ABSTAINED = 3
"""The exit code of a prediction that is better not relied on."""


@app.command(rich_help_panel="Use")
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
    from mmtune.report.publish import renew
    from mmtune.report.summary import history_table, show
    from mmtune.serve import promotion, versions
    from mmtune.study import load_study
    from mmtune.study.finding import folder_to_name
    from mmtune.train.objective import objective_of

    if rollback or history:
        beside = {"rollback": rollback and history, "trial": trial, "force": force, "run": run, "data": data}
        beside |= {"protocol": protocol, "seed": seed}
        require_alone("history" if history else "rollback", beside)
    found, studies = load_study(name), studies or folder_to_name(name)
    name, tracker = found.name, open_tracker(store)
    if rollback:
        before, after = promotion.rollback(tracker, name)
        typer.echo(f"champion of {name}: version {before} -> version {after}")
    elif not history:
        given = open_data(data) if data else None
        own = pick_whole(tracker, name, Wanted(given, protocol, seed, run=run), store=store, studies=studies)
        dataset = given or open_data(Path(own.tags["mmtune.data_dir"]))
        with data_progress() as advance:
            made = promotion.promote(tracker, own, dataset, force, trial, objective_of(found.objective), advance)
            renew(tracker, own, found, dataset, advance)
        typer.echo(made.describe())
    show(console, history_table(versions.history(tracker, name)))
    if not history:
        inputs = example_inputs(found, None if rollback else dataset)
        typer.echo(f"next: {command_line('predict', None, model=name, **inputs, store=store, studies=studies)}")


def require_alone(option: str, beside: Mapping[str, object]) -> None:
    """Raise InputError where options were given that one, which promotes nothing, would ignore."""
    given = ", ".join(f"--{name}" for name, value in beside.items() if value is not None and value is not False)
    if given:
        raise InputError(f"--{option} promotes nothing and goes without {given}")


@app.command(rich_help_panel="Use")
def predict(
    model: Annotated[str, typer.Option(help="A registered model, as named by its study.")],
    image: Annotated[
        list[Path] | None, typer.Option("--image", "--images", help="A picture, or a folder of many; see --audio.")
    ] = None,
    audio: Annotated[
        list[Path] | None,
        typer.Option(help="A recording, or a folder; files of two folders go together by their names."),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--input", help="What a bank gets, as BANK=FILE or BANK=NUMBERS; may be repeated."),
    ] = None,
    table: Annotated[Path | None, typer.Option(help="A CSV file with a column for each bank: many rows.")] = None,
    data: Annotated[Path | None, typer.Option(help="This data set's test partition instead.")] = None,
    label: Annotated[str, typer.Option(help="The column of --table that has the true classes, if not label.")] = "",
    out: Annotated[Path | None, typer.Option(help="Where to write many answers, as a CSV file.")] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="A column of --out for each class.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print each row as JSON, on a line.")] = False,
    top: Annotated[int, typer.Option(min=1, help="How many classes to print of each row.")] = 1,
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
    inputs = {"image": image or [], "audio": audio or []}
    for name, paths in inputs.items():
        if len(paths) > 1:
            raise InputError(
                f"predict takes --{name} once, and a folder or --table for many rows; got it {len(paths)} times"
            )
    files, more = {name: str(path) for name, paths in inputs.items() for path in paths}, parse_inputs(given or [])
    for name in files.keys() & more.keys():
        raise InputError(f"predict takes {name} once, got it as --{name} and as --input")
    files |= more
    if sum((bool(files), data is not None, table is not None)) != 1:
        raise InputError("predict takes one of --image with --audio and --input, --table, and --data")
    if label and table is None:
        raise InputError("predict takes --label with --table, got it without")
    if probabilities and out is None:
        raise InputError("predict takes --probabilities with --out, got it without")
    if data is not None and out is None:
        raise InputError("predict takes --data and --out together, got one of them")
    if every and not files:
        raise InputError("predict takes --all with --audio, got it with --table or --data")
    look_in(studies)
    from mmtune.api.loading import load
    from mmtune.serve.answer.prediction import read_share
    from mmtune.serve.answer.tally import as_json, one
    from mmtune.serve.answer.telling import describe
    from mmtune.serve.batch import Asked, predict_many

    error = None if abstain_at is None else read_share("--abstain-at", abstain_at)
    kept = read_share("--coverage", coverage)
    dataset = None if data is None else open_data(data)
    asked = Asked(files=files, table=table, label=label, data=dataset, every=every)
    if out is not None and not asked.is_many:
        raise InputError("predict takes --out for many rows, of folders, --table, --data or --all, got one row's files")
    if out is not None and table is not None and out.resolve() == table.resolve():
        raise InputError(f"--out must be another file than --table, which it would replace, got {out} for both")
    if out is not None:
        require_writable(out)
    predictor = load(model, version=version, store=store).cautious(abstain_at=error, coverage=kept)
    if asked.is_many:
        with data_progress() as advance:
            told = predict_many(predictor, asked, out, top, advance, probabilities)
        for line in told.json if json else told.lines:
            typer.echo(line)
        for line in told.summary:
            typer.echo(line, err=json)
        code = told.code
    else:
        found = predictor.predict(**files)
        typer.echo(as_json(one(found, top)) if json else describe(predictor, found, top=top))
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


@app.command(rich_help_panel="Use")
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


@app.command(rich_help_panel="Use")
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

    It is the page that `mmtune serve` has too, for whoever has the address that this prints, as it shows the training
    rows that are nearest to what it is given.
    """
    folder, given = model_folder(model, version, studies, store), open_data(data) if data else None

    def near(predictor: Predictor) -> TrainingRows | None:
        from mmtune.serve.answer.nearest import find_training_rows

        try:
            return find_training_rows(open_tracker(store), predictor, given)
        except InputError as error:
            if given:
                raise
            typer.echo(f"no training rows are shown beside answers: {error}")
            return None

    token = secrets.token_urlsafe(32)
    answer_for(model, folder, port, f"/?token={token} to try it in a browser", near, token)


def answer_for(model: str, folder: Path, port: int, what: str, near: Near | None = None, token: str = "") -> None:
    """Answer for a registered model on loopback until Ctrl-C, once it was said at which address what is found."""
    from mmtune.serve.web.server import serve_model
    from mmtune.serve.web.ui import LOOPBACK, bound

    own = bound(port)
    typer.echo(f"{model}: http://{LOOPBACK}:{port}{what}  (Ctrl-C ends it)")
    serve_model(folder, own, near, token)


@app.command(rich_help_panel="Use")
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
    from mmtune.serve.export.exporting import export as write
    from mmtune.serve.export.exporting import reads_sample, rows_for
    from mmtune.serve.export.formats import format_of
    from mmtune.serve.versions import Registry

    format_of(to)
    path = require_writable(out or Path(f"{model}.{to}"))
    number = Registry(open_tracker(store), model).champion() if version is None else version
    predictor = load(model, version=number, store=store)
    dataset = open_data(data) if data or reads_sample(predictor) else None
    rows = rows_for(predictor, dataset)
    typer.echo(write(predictor, to, path, rows, model, str(number)))

"""Arguments and options that several verbs take, in the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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

"""The verbs for data sets: fetch, build and look at them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmtune.base.commands import option
from mmtune.cli.opening import data_progress, open_data, sample_path
from mmtune.cli.program import data_app


@data_app.command()
def fetch(out: Annotated[Path, typer.Option(help="The folder to make.")] = Path("data/khacef")) -> None:
    """Download Khacef's written and spoken digits (Zenodo 4452953); resumable."""
    from mmtune.data.storage.zenodo import fetch as fetch_set

    with data_progress() as advance:
        fetch_set(out, on_progress=advance)
    typer.echo(f"ready: {out}; use it as {option('data', out)}")


@data_app.command()
def build(
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    images: Annotated[Path | None, typer.Option(help="A folder of pictures: IDX files, or label/*.png.")] = None,
    audio: Annotated[
        list[str] | None,
        typer.Option(help="A folder of recordings; with --table COLUMN:mfcc, :logmel, :waveform or :speech."),
    ] = None,
    test_images: Annotated[Path | None, typer.Option(help="Other pictures, to be the test.")] = None,
    test_audio: Annotated[Path | None, typer.Option(help="Other recordings, to be the test.")] = None,
    image_form: Annotated[str, typer.Option(help="What --images become: digit, or such as 32x32:rgb.")] = "",
    audio_form: Annotated[list[str] | None, typer.Option(help="What --audio becomes, such as logmel:2s.")] = None,
    table: Annotated[Path | None, typer.Option(help="A CSV file instead of folders: one row a sample.")] = None,
    image: Annotated[list[str] | None, typer.Option(help="A column of pictures, as COLUMN:32x32:rgb.")] = None,
    array: Annotated[list[str] | None, typer.Option(help="A column of .npy files, as COLUMN:39x13.")] = None,
    vector: Annotated[
        list[str] | None, typer.Option(help="Columns of numbers, as age,height; with :filled some may be missing.")
    ] = None,
    label: Annotated[str, typer.Option(help="The column of labels; of folders a regex over paths.")] = "",
    split: Annotated[str, typer.Option(help="The column that says train or test.")] = "",
    group: Annotated[list[str] | None, typer.Option(help="speaker=COLUMN; of folders speaker=REGEX.")] = None,
    keep_apart: Annotated[str, typer.Option(help="A group whose members tests and splits keep apart.")] = "",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Go on without files that cannot be read.")] = False,
    seed: Annotated[int, typer.Option(help="Decides partitions and pairs.")] = 0,
) -> None:
    """Build a data set from folders of pictures and recordings, or from a table, and say what was found."""
    from mmtune.data.building.asking import asked
    from mmtune.data.building.build import build as build_set
    from mmtune.data.building.sources import How
    from mmtune.data.info import found

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
        split=split,
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
def voices(
    words: Annotated[list[str], typer.Argument(help="What is said: WORD, or LABEL=WORDS.")],
    out: Annotated[Path, typer.Option(help="The folder of recordings to add to, or to make.")],
    accent: Annotated[
        list[str] | None, typer.Option(help="An accent or a language of espeak-ng; eight of English if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides accents, speeds and pitches.")] = 0,
) -> None:
    """Have espeak-ng say words in 57 voices, as recordings to train on beside those of people."""
    from mmtune.data.bundled.speaking import ACCENTS, parse_words, write_voices

    said = parse_words(words)
    with data_progress() as advance:
        made = write_voices(said, out, accent or ACCENTS, seed, advance)
    typer.echo(f"{len(made):,} recordings of {', '.join(said)} in {out}: {made[0].name} to {made[-1].name}")


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

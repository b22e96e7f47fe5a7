"""The banks that a user asks for, out of the text of options."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmtune.base.errors import InputError
from mmtune.data.building.sources import Asked
from mmtune.data.checks import require_bank_names
from mmtune.data.forms import Array, Digit, Form, LogMel, Mfcc, Picture, Sound, Speech, Vector, Waveform

IMAGE, AUDIO = "image", "audio"
SOUNDS: dict[str, type[Sound]] = {"mfcc": Mfcc, "logmel": LogMel, "waveform": Waveform, "speech": Speech}
USUAL = ("mfcc", "waveform", "speech")
NAMED = ("waveform", "speech")
"""Banks of a folder's recordings that are called as their form is."""
FILLED = re.compile(r":filled$")
EXAMPLES = {"--image": "32x32:rgb", "--array": "39x13"}


class Folders(NamedTuple):
    """Folders to build from: pictures, recordings, or pairs of both by class; and others to be the test.

    image_form, audio_forms: as texts, such as "32x32:rgb", and "logmel:2s"; empty for what is usual.
    """

    images: Path | None = None
    audio: Path | None = None
    test_images: Path | None = None
    test_audio: Path | None = None
    image_form: str = ""
    audio_forms: tuple[str, ...] = ()


class Table(NamedTuple):
    """A table to build from, and its banks."""

    path: Path
    asked: tuple[Asked, ...]


def table_of(
    path: Path,
    image: Sequence[str] = (),
    audio: Sequence[str] = (),
    array: Sequence[str] = (),
    vector: Sequence[str] = (),
) -> Table:
    """A table with banks by texts: photo:32x32:rgb, clip:logmel, column:39x13, age,height and body=age,height:filled.

    Banks are called as their columns, or by NAME=COLUMN:FORM; further ones of one column COLUMN_KIND.
    Raises InputError where a text is none such.
    """
    found: list[Asked] = []
    makers = (("--image", image, picture_form), ("--audio", audio, sound_form), ("--array", array, array_form))
    for option, texts, make in makers:
        for text in texts:
            named, equals, rest = text.partition("=")
            column, _, form = (rest if equals else text).partition(":")
            if not form and option != "--audio":
                raise InputError(f"{option} must be COLUMN:FORM, such as {column}:{EXAMPLES[option]}, got {text!r}")
            made = make(form, option)
            taken = any(one.bank == column for one in found)
            bank = named if equals else f"{column}_{made.kind}" if taken else column
            found.append(Asked(bank, column, made))
    for text in vector:
        named, equals, rest = text.partition("=")
        own, filled = FILLED.subn("", rest if equals else text)
        columns = tuple(column.strip() for column in own.split(","))
        made = Vector(columns=columns, filled=bool(filled))
        found.append(Asked(named if equals else "vector", ",".join(columns), made))
    if not found:
        raise InputError("--table needs a bank at least: --image, --audio, --array or --vector")
    require_asked(found)
    return Table(Path(path), tuple(found))


def sounds(texts: Sequence[str]) -> list[Asked]:
    """What is made of a folder's recordings: `waveform`, `speech`, `audio`, and further ones as audio_KIND."""
    found: list[Asked] = []
    for text in texts or USUAL:
        form = sound_form(text, "--audio-form")
        taken = any(one.bank == AUDIO for one in found)
        bank = form.kind if form.kind in NAMED else f"{AUDIO}_{form.kind}" if taken else AUDIO
        found.append(Asked(bank, AUDIO, form))
    require_asked(found)
    return found


def require_asked(asked: Sequence[Asked]) -> None:
    """Raise InputError unless banks have names, each its own, and a column is always read in one way."""
    names = [one.bank for one in asked]
    require_bank_names(names, "banks")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"banks must have different names, {twice[0]} is asked for twice")
    for one in asked:
        other = next(own for own in asked if own.column == one.column)
        if file_form(one.form) != file_form(other.form):
            raise InputError(f"{one.column} must be read in one way, got {other.form.kind} and {one.form.kind}")


def file_form(form: Form) -> Form:
    """How a file is read for a form: all that is made of a recording is made of its samples."""
    return Waveform(seconds=form.seconds) if isinstance(form, Sound) else form


def picture_form(text: str, option: str) -> Form:
    """digit, or HEIGHTxWIDTH with :grey or :rgb."""
    if text == Digit.kind:
        return Digit()
    match = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})(?::(grey|gray|rgb))?", text)
    if match is None:
        raise InputError(f"{option} must be of a form such as 32x32:rgb, 28x28:grey or digit, got {text!r}")
    return Picture(height=int(match[1]), width=int(match[2]), colour=match[3] in (None, "rgb"))


def sound_form(text: str, option: str) -> Sound:
    """mfcc, logmel, waveform or speech, with :SECONDS where it is not one; mfcc if nothing is said."""
    match = re.fullmatch(rf"({'|'.join(SOUNDS)})(?::([0-9]{{1,4}}(?:\.[0-9]{{1,6}})?)s?)?", text or Mfcc.kind)
    if match is None:
        raise InputError(
            f"{option} must be of a form such as mfcc, logmel, waveform, speech or logmel:2.5s, got {text!r}"
        )
    return SOUNDS[match[1]](seconds=float(match[2] or 1))


def array_form(text: str, option: str) -> Form:
    """A shape, such as 39x13."""
    if not re.fullmatch(r"[0-9]{1,9}(x[0-9]{1,9}){0,7}", text):
        raise InputError(f"{option} must be COLUMN:SHAPE, with a shape such as 39x13, got {text!r}")
    return Array(sides=tuple(map(int, text.split("x"))))


def asked(
    *,
    table: Path | None,
    images: Path | None,
    audio: Sequence[str],
    test_images: Path | None,
    test_audio: Path | None,
    image_form: str,
    audio_form: Sequence[str],
    image: Sequence[str],
    array: Sequence[str],
    vector: Sequence[str],
    split: str = "",
) -> Folders | Table:
    """What the options of the command line ask for; InputError where some of them do not go together."""
    of_folders = {
        "--images": images,
        "--test-images": test_images,
        "--test-audio": test_audio,
        "--image-form": image_form,
        "--audio-form": audio_form,
    }
    of_table = {"--image": image, "--array": array, "--vector": vector, "--split": split}
    wrong = [option for option, value in (of_folders if table else of_table).items() if value]
    if wrong:
        other = "folders, not with --table" if table else "a --table"
        raise InputError(f"{wrong[0]} is for {other}")
    if table:
        return table_of(table, image, audio, array, vector)
    if len(audio) > 1:
        raise InputError(f"--audio must name one folder, got {', '.join(audio)}")
    heard = Path(audio[0]) if audio else None
    return Folders(images, heard, test_images, test_audio, image_form, tuple(audio_form))

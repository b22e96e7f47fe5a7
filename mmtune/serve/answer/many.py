"""Many rows at once: of folders whose files go together by name, or of a table, one answer or one refusal each."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmtune.base.errors import InputError
from mmtune.data.building.layouts import ENDING, SUFFIXES, files_of, recognise
from mmtune.data.building.tables import LABEL, read_cells
from mmtune.data.classes import classes_among
from mmtune.data.dataset import SPEAKER, Progress
from mmtune.data.forms import Form, Speech, Vector, is_nothing
from mmtune.serve.answer.given import KINDS, assigned, require_taken
from mmtune.serve.answer.prediction import Prediction
from mmtune.serve.answer.predictor import Predictor

LOG = logging.getLogger("mmtune")

CHUNK = 256
"""Rows that are read and answered together; thousands at once would fill the memory."""
FILES = {"picture": "pictures", "recording": "recordings"}


@dataclass(frozen=True, kw_only=True)
class Rows:
    """N rows that are to be answered.

    names: what each is called. given: by bank the file, or the numbers as a text, of each row, "" where it has none.
    labels: the true class of each, "" where it is not known; groups: by name, such as the speaker of each. columns: by
    name all that a user's own file says of each.
    """

    names: Sequence[str]
    given: Mapping[str, Sequence[str]]
    labels: Sequence[str] = ()
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Answer(NamedTuple):
    """What became of a row: a Prediction of it alone, or why it was refused."""

    prediction: Prediction | None
    refused: str = ""


def of_folders(folders: Mapping[str, Path], predictor: Predictor) -> Rows:
    """The files of folders, by the name of what is given or of a bank; of several, those of one path go together.

    Labels and speakers are what their paths say, where they say it. InputError where a folder has no files of its
    kind, or a file of one has no partner in another.
    """
    found: dict[str, dict[str, str]] = {}
    for name, folder in folders.items():
        kind = kind_of(name)
        own = [path for path in files_of(folder) if not kind or path.lower().endswith(SUFFIXES[kind])]
        if not own:
            raise InputError(f"{folder}: must hold {kind or 'files'}, holds none")
        found[name] = by_name(folder, own) if len(folders) > 1 else {path: path for path in own}
    first, *others = found
    for other in others:
        lacking = sorted(found[first].keys() ^ found[other].keys())
        if lacking:
            more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
            both = f"{folders[first]} and {folders[other]}"
            raise InputError(f"{both} must hold files of the same names, {lacking[0]}{more} is in one alone")
    names = list(found[first])
    given = {name: [str(folders[name] / paths[own]) for own in names] for name, paths in found.items()}
    labels, groups = said_by_paths(folders[first], first, [found[first][own] for own in names], predictor.classes)
    by_bank = assigned(given, predictor.forms, predictor.forms)
    return Rows(names=names, given=by_bank, labels=labels, groups=groups, columns=groups)


def kind_of(name: str) -> str:
    """What files a folder that is given by a name has, pictures or recordings; "" where the name does not say."""
    return FILES.get(KINDS.get(name, ""), "")


def by_name(folder: Path, paths: Sequence[str]) -> dict[str, str]:
    """Files by their paths without the ending; InputError where two have one."""
    found: dict[str, str] = {}
    for path in paths:
        name = ENDING.sub("", path)
        if name in found:
            raise InputError(f"{folder}: files must differ in more than their ending, got {found[name]} and {path}")
        found[name] = path
    return found


def said_by_paths(
    folder: Path, name: str, paths: Sequence[str], classes: Sequence[str]
) -> tuple[list[str], dict[str, list[str]]]:
    """The class of each path, and the speakers, as far as the paths say them; ([], {}) where they name no classes."""
    kind = kind_of(name)
    if not kind:
        return [], {}
    try:
        layout = recognise(folder, kind, paths, classes)
    except InputError:
        return [], {}
    named = {one.path: one for one in layout.named}
    known = classes_among([one.label for one in layout.named], classes)
    labels = [known.get(named[path].label, "") if path in named else "" for path in paths]
    speakers = [named[path].speaker if path in named else "" for path in paths]
    return labels if any(labels) else [], {SPEAKER: speakers} if any(speakers) else {}


def of_table(path: Path, predictor: Predictor, label: str = "") -> Rows:
    """The rows of a CSV file: a column for each bank, or `image` and `audio`, whose paths are relative to the table.

    The column `label`, if there is one, or the one that is named, has the true classes, and every other one is a group.
    A vector is made of the columns of its own names. InputError where no column is of any use.
    """
    cells = read_cells(path)
    if label:
        cells.column(path, label)
    columns, forms = dict(cells.columns), predictor.forms
    labels = known_labels(path, columns.pop(label or LABEL, []), predictor.classes)
    given = take_numbers(path, columns, forms)
    leave_unread(path, columns, forms)
    for name in [name for name in columns if name in forms or name in KINDS]:
        if name in given:
            raise InputError(f"{path}: {name} must be given once, by a column of its name or by those of its numbers")
        own, are_files = columns.pop(name), not isinstance(forms.get(name), Vector)
        given[name] = [str(path.parent / cell) if cell and are_files else cell for cell in own]
    if not given:
        raise InputError(f"{path}: must have a column for {' or '.join(forms)}, has {', '.join(cells.columns)}")
    names = [f"{path.name}, line {line}" for line in cells.lines]
    by_bank = assigned(given, forms, forms)
    return Rows(names=names, given=by_bank, labels=labels, groups=columns, columns=cells.columns)


def known_labels(path: Path, labels: Sequence[str], classes: Sequence[str]) -> list[str]:
    """The class of each label, "" where a model knows none such, which the log says."""
    known = classes_among(filter(None, labels), classes)
    strange = [label for label in labels if label and label not in known]
    if strange:
        told = f"{len(strange)} of {len(labels)} labels are no class of the model, such as {strange[0]!r}"
        LOG.warning("%s: %s", path, told)
    return [known.get(label, "") for label in labels]


def take_numbers(path: Path, columns: dict[str, list[str]], forms: Mapping[str, Form]) -> dict[str, list[str]]:
    """Of each vector the numbers of each row as a text, "" where it has none, taken out of the columns of its names.

    The log says which are not read, as the vector lacks another, and how many are filled.
    """
    given: dict[str, list[str]] = {}
    taken: set[str] = set()  # a column may be of several
    for bank, form in forms.items():
        own = {name: columns[name] for name in form.columns if name in columns} if isinstance(form, Vector) else {}
        if not own or not isinstance(form, Vector):
            continue
        taken.update(own)
        if lacking := [name for name in form.columns if name not in own]:
            told = f"without the column {', '.join(lacking)}, {', '.join(own)} is not read: {bank} needs all"
            LOG.warning("%s: %s", path, told)
            continue
        lost = all if form.filled else any
        rows = list(zip(*own.values(), strict=True))
        given[bank] = ["" if lost(map(is_nothing, row)) else ",".join(row) for row in rows]
        gaps = {
            name: sum(bool(row) and is_nothing(cell) for cell, row in zip(cells, given[bank], strict=True))
            for name, cells in own.items()
        }
        if any(gaps.values()):
            told = ", ".join(f"{name} {count}" for name, count in gaps.items() if count)
            LOG.warning("%s: empty, so the mean of training: %s", path, told)
    for name in taken:
        del columns[name]
    return given


def leave_unread(path: Path, columns: dict[str, list[str]], forms: Mapping[str, Form]) -> None:
    """Take out the columns of files of a kind that no bank reads, and say so in the log."""
    read = {form.source for form in forms.values()}
    for name in [name for name in columns if name not in forms and KINDS.get(name, "") not in {"", *read}]:
        del columns[name]
        LOG.warning("%s: the column %s is not read, this model has no bank of it", path, name)


def answers(predictor: Predictor, rows: Rows, report: Progress) -> Iterator[Answer]:
    """What becomes of each row, in their order; one that cannot be read is refused, and the others go on."""
    count = len(rows.names)
    for start in range(0, count, CHUNK):
        chunk = range(start, min(start + CHUNK, count))
        given = [{bank: own[row] for bank, own in rows.given.items() if own[row]} for row in chunk]
        yield from answered(predictor, given)
        report("rows", chunk.stop, count)


def answered(predictor: Predictor, given: Sequence[Mapping[str, str]]) -> list[Answer]:
    """What becomes of some rows by bank; those that have the same banks are asked together."""
    found: list[Answer] = [Answer(None)] * len(given)
    together: dict[tuple[str, ...], list[tuple[int, dict[str, NDArray[Any]]]]] = {}
    for place, own in enumerate(given):
        try:
            require_taken(own, predictor.asked(own))
            read = {bank: value_of(predictor.forms[bank], text) for bank, text in own.items()}
            together.setdefault(tuple(own), []).append((place, read))
        except InputError as error:
            found[place] = Answer(None, str(error))
    for members in together.values():
        told = asked_together(predictor, [read for _, read in members])
        for (place, _), answer in zip(members, told, strict=True):
            found[place] = answer
    return found


def asked_together(predictor: Predictor, values: Sequence[Mapping[str, NDArray[Any]]]) -> list[Answer]:
    """What becomes of rows that have the same banks; each by itself where they are refused together."""
    try:
        prediction = predictor.predict_values(**{bank: np.stack([own[bank] for own in values]) for bank in values[0]})
        return [Answer(prediction.at(row)) for row in range(len(values))]
    except InputError as error:
        if len(values) == 1:
            return [Answer(None, str(error))]
    return [answer for own in values for answer in asked_together(predictor, [own])]


def value_of(form: Form, text: str) -> NDArray[Any]:
    """The value of a file, or of numbers in a text."""
    return form.parse(text) if isinstance(form, Vector) else form.read(Path(text))


def every_word(predictor: Predictor, given: Mapping[str, str]) -> tuple[Rows, list[Answer]]:
    """Every word of the recording that is given, each beside whatever else is.

    InputError where the model hears no recordings as speech.
    """
    by_bank = assigned(given, predictor.forms, predictor.forms)
    heard = {bank: form for bank, form in predictor.forms.items() if isinstance(form, Speech) and bank in by_bank}
    if not heard:
        told = ", ".join(f"{bank} as {form.kind}" for bank, form in predictor.forms.items())
        raise InputError(f"--all is for a recording, and a model that hears speech in it; this one reads {told}")
    whole = [bank for bank in by_bank if bank not in heard and predictor.forms[bank].source == "recording"]
    if whole:
        raise InputError(f"--all is for a model that reads recordings as speech alone, this one also reads {whole[0]}")
    spoken = {bank: form.each(Path(by_bank[bank])) for bank, form in heard.items()}
    starts, _ = next(iter(spoken.values()))
    values = {bank: own for bank, (_, own) in spoken.items()}
    for bank in by_bank.keys() - values.keys():
        alone = value_of(predictor.forms[bank], by_bank[bank])
        values[bank] = np.repeat(alone[None], len(starts), axis=0)
    require_taken(values, predictor.asked(values))
    prediction = predictor.predict_values(**values)
    rows = Rows(names=[f"at {start:.1f} s" for start in starts], given={})
    return rows, [Answer(prediction.at(row)) for row in range(len(starts))]

"""A table of samples to a source: one row a sample, and a column for all that is known of it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmtune.base.bounds import MEBIBYTE, read_bounded
from mmtune.base.errors import InputError
from mmtune.data.building.asking import file_form
from mmtune.data.building.folders import first_names, numbers
from mmtune.data.building.reading import read_files, require_sound
from mmtune.data.building.sources import Asked, How, Mask, Source, test_parts
from mmtune.data.checks import require_classes, require_names
from mmtune.data.classes import classes_of, ordered
from mmtune.data.dataset import RECORDING, Bank, Partition, Progress
from mmtune.data.forms import Sound, Vector, as_float, dtype_of, is_nothing
from mmtune.data.identity import distinct

LONGEST_TABLE, LONGEST_HEADER, MOST_CELLS = 64 * MEBIBYTE, 2**16, 2**23
LABEL, SPLIT = "label", "split"


class Cells(NamedTuple):
    """A table as text: columns by name, (N,) cells each, and the line that each row ends on."""

    columns: dict[str, list[str]]
    lines: list[int]

    def column(self, path: Path, name: str) -> list[str]:
        """The cells of a column; InputError where there is none."""
        if name not in self.columns:
            raise InputError(f"{path}: must have the column {name}, has {', '.join(self.columns)}")
        return self.columns[name]


class Gaps(NamedTuple):
    """Numbers that a table lacks in rows that have others of the same bank.

    lost: by line a column that is empty, for which the row has none of the bank; filled (N,): by column which rows are
    filled.
    """

    lost: dict[str, str]
    filled: dict[str, Mask]


def read_table(path: Path, asked: Sequence[Asked], how: How, report: Progress) -> Source:
    """The samples of a CSV file, whose paths are relative to its folder.

    An empty cell is nothing: a row may lack some of its banks. Raises InputError where a column is missing, where a row
    has no label or no bank at all, and where files or numbers cannot be read.
    """
    path = Path(path)
    cells = read_cells(path)
    labels = cells.column(path, how.label or LABEL)
    bad: dict[str, str] = {}
    gaps = Gaps({}, {})
    banks: dict[str, Bank] = {}
    groups = {name: cells.column(path, column) for name, column in how.named_groups(alone=True).items()}
    test = sides(path, cells, how.split, bad)
    for line, label in zip(cells.lines, labels, strict=True):
        if not label:
            bad[f"line {line}"] = "must have a label, has none"
    for one in asked:
        if one.column in banks:
            continue
        if isinstance(one.form, Vector):
            banks[one.column] = read_numbers(path, cells, one.form, bad, gaps)
        else:
            banks[one.column] = read_column(path, cells, one, bad, report)
    heard = next((one.column for one in asked if isinstance(one.form, Sound)), "")
    if heard and RECORDING not in groups and all(cells.columns[heard]):
        groups[RECORDING] = first_names(banks[heard], np.array(cells.columns[heard])).tolist()
    wrong = {name.partition(",")[0] for name in bad}
    empty = np.all([bank.index < 0 for bank in banks.values()], axis=0)
    nothing = [f"line {line}" for line, own in zip(cells.lines, empty.tolist(), strict=True) if own]
    for place in nothing:
        if place not in wrong:
            why = f", as its {gaps.lost[place]} is empty" if place in gaps.lost else ""
            bad[place] = f"must have a value in one bank at least, has none{why}"
    unusable = wrong.union(nothing)
    kept = np.flatnonzero([f"line {line}" not in unusable for line in cells.lines])
    bad = {f"{path.name}, {name}": reason for name, reason in bad.items()}
    names = classes_of(labels[row] for row in kept)
    classes = ordered(names.values())
    if len(classes) < 2:
        require_sound(bad)
    require_classes(classes, str(path))
    whole = Partition(
        banks=banks,
        labels=numbers([names.get(label, "") for label in labels], classes),
        groups={name: np.array(own) for name, own in groups.items()},
    )
    for name, own in whole.groups.items():
        require_names(own, f"{path}: group {name}")
    filled = {column: count for column, own in gaps.filled.items() if (count := int(own[kept].sum()))}
    facts = {"naming": "table", "rows": len(labels), "halved": len(gaps.lost), "filled": filled}
    source = Source(classes, whole, test, facts, bad)
    return source if len(kept) == len(labels) else source.take(kept)


def read_cells(path: Path) -> Cells:
    """The cells of a CSV file with a header, spaces around them cut off; between them commas, semicolons or tabs."""
    try:
        content = read_bounded(path, LONGEST_TABLE)
        separator = separator_of(content)
        if content.count(separator.encode()) + content.count(b"\n") > MOST_CELLS:
            raise InputError(f"{path}: must have {MOST_CELLS:,} cells at most, has more")
        text = io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="")
        reader = csv.reader(text, delimiter=separator, strict=True)
        header = [name.strip() for name in next(reader, [])]
        rows, lines = [], []
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append([cell.strip() for cell in row])
                lines.append(reader.line_num)
                if len(row) != len(header):
                    raise InputError(
                        f"{path}: line {reader.line_num} must have {len(header)} cells as the header, has {len(row)}"
                    )
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: must be a CSV file in UTF-8: {error}") from error
    if len(set(header)) != len(header) or not rows:
        raise InputError(f"{path}: must have a header of different names and rows below it, got {header!r:.200}")
    return Cells({name: list(own) for name, own in zip(header, zip(*rows, strict=True), strict=True)}, lines)


def separator_of(content: bytes) -> str:
    """What stands between the cells of a table: what makes a column `label` of its header, else the most columns."""
    line = content[:LONGEST_HEADER].decode("utf-8-sig", "replace").splitlines()[:1]

    def told(separator: str) -> tuple[bool, int]:
        header = [name.strip() for name in next(csv.reader(line, delimiter=separator), [])]
        return LABEL in header, len(header)

    return max(",;\t", key=told)


def sides(path: Path, cells: Cells, column: str, bad: dict[str, str]) -> NDArray[np.bool_] | None:
    """Which rows are for the test, by the column of the split; None without one."""
    if not column and SPLIT not in cells.columns:
        return None
    own = cells.column(path, column or SPLIT)
    tests = test_parts(own)
    if not tests:
        there = ", ".join(sorted(set(own))[:5])
        raise InputError(f"{path}: {column or SPLIT} must be train for some rows and test for others, got {there}")
    for line, cell in zip(cells.lines, own, strict=True):
        if cell not in tests:
            bad[f"line {line}, {column or SPLIT}"] = f"must be train or test, got {cell!r:.50}"
    return np.array([tests.get(cell, False) for cell in own])


def read_numbers(path: Path, cells: Cells, form: Vector, bad: dict[str, str], gaps: Gaps) -> Bank:
    """The bank of numbers in some columns, unscaled float64; bad: is told what is no number, by line and column."""
    own = [cells.column(path, column) for column in form.columns]
    values = np.zeros((len(cells.lines), len(own)))
    for row, (line, texts) in enumerate(zip(cells.lines, zip(*own, strict=True), strict=True)):
        for turn, text in enumerate(texts):
            number = math.nan if is_nothing(text) else as_number(text)
            if number is None:
                bad[f"line {line}, {form.columns[turn]}"] = f"must be a number, got {text!r:.50}"
            values[row, turn] = number or 0.0  # and -0.0 is 0.0
    empty = np.isnan(values)
    nothing = np.all(empty, axis=1)
    if form.filled:
        for column, own in zip(form.columns, empty.T, strict=True):
            gaps.filled[column] = gaps.filled.get(column, np.zeros(len(own), np.bool_)) | (own & ~nothing)
        return distinct(values, ~nothing)
    for row in np.flatnonzero(empty.any(axis=1) & ~nothing).tolist():
        gaps.lost.setdefault(f"line {cells.lines[row]}", form.columns[empty[row].argmax()])
    return distinct(values, ~np.any(empty, axis=1))


def as_number(text: str) -> float | None:
    """A finite number that float32 holds, or None."""
    try:
        number = as_float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) < np.finfo(np.float32).max else None


def read_column(path: Path, cells: Cells, one: Asked, bad: dict[str, str], report: Progress) -> Bank:
    """The bank of the files that a column names."""
    own = cells.column(path, one.column)
    files = [path.parent / cell if cell else None for cell in own]
    form: Any = file_form(one.form)
    found, wrong = read_files(files, form.shape, dtype_of(form), form.extract, partial(report, one.column))
    for line, cell, file in zip(cells.lines, own, files, strict=True):
        if file in wrong:
            bad[f"line {line}, {one.column}"] = f"{cell}: {wrong[file]}"
    return found

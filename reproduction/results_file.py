"""The table in a Markdown file of findings: one block between two comments, the rest of the file untouched."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmtune.analysis.figures.look import DASH
from mmtune.base.errors import InputError
from mmtune.base.files import make_folder, write_whole
from mmtune.data.protocols import PROTOCOLS
from reproduction.table import CROSSED, PLAIN, Line

CODE = ("study", "protocol", "command")
EMPTY = "# Results\n"


def safe_name(name: str) -> str:
    """A data set's name that can stand in a comment and in a file's name."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def markers(name: str) -> tuple[str, str]:
    """The comments that a data set's block stands between."""
    return f"<!-- reproduction: {safe_name(name)} begin -->", f"<!-- reproduction: {safe_name(name)} end -->"


def block(
    name: str,
    caption: Mapping[str, str],
    statements: Sequence[str],
    lines: Sequence[Line],
    notes: Sequence[str],
) -> str:
    """The block of a data set, its comments included."""
    begin, end = markers(name)
    plain, crossed = [own for own in lines if not own.task.folds], [own for own in lines if own.task.folds]
    parts = [begin, f"## Reproduction on {escaped(name)}"]
    parts += ["Written by `make reproduce`. " + "; ".join(f"{n}: {escaped(v)}" for n, v in caption.items()) + "."]
    parts += (
        ["Scored on the test partition, with the interval where it is of one seed:", systems(plain)] if plain else []
    )
    parts += ["Cross-validated, a fresh model in each fold; ± is the deviation over folds:"] if crossed else []
    parts += [systems(crossed)] if crossed else []
    parts += (
        ["### What they say together", "\n".join(f"- {escaped(text)}" for text in statements)] if statements else []
    )
    parts += ["### Each line, and its command"] if lines else []
    parts += [table(own, columns) for own, columns in ((plain, PLAIN), (crossed, CROSSED)) if own]
    parts += [escaped(" ".join(notes)), end]
    return "\n\n".join(parts)


def systems(lines: Sequence[Line]) -> str:
    """A line a system, a column a protocol: what one would read first."""
    protocols = [own for own in PROTOCOLS if any(line.task.protocol == own for line in lines)]
    of_system: dict[str, dict[str, Line]] = {}
    for line in lines:
        # Of a cross-validation each seed has a line.
        seeds = f", seed {line.seeds[0]}" if line.task.folds and len({own.seeds for own in lines}) > 1 else ""
        of_system.setdefault(line.cells()["study"] + seeds, {})[line.task.protocol] = line
    head = ["study", "paper", "reported", *protocols, "budget"]
    rows = [head, ["---"] * len(head)]
    for name, own in of_system.items():
        first, budgets = (
            next(iter(own.values())).cells(),
            dict.fromkeys(line.cells()["budget"] for line in own.values()),
        )
        measured = [own[protocol].measured() if protocol in own else DASH for protocol in protocols]
        told = [first["paper"], first["reported"], *measured, "; ".join(budgets)]
        rows.append([cell("study", name), *(cell("", text) for text in told)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def table(lines: Sequence[Line], columns: Mapping[str, tuple[str, str]]) -> str:
    """Lines as a Markdown table."""
    head = [[heading for heading, _ in columns.values()], ["---"] * len(columns)]
    cells = [line.cells() for line in lines]
    rows = [[cell(name, own[name]) for name in columns] for own in cells]
    return "\n".join(f"| {' | '.join(row)} |" for row in [*head, *rows])


def cell(name: str, value: str) -> str:
    """Text of a cell; what a reader may copy stands as code."""
    plain = " ".join(value.split()).replace("|", "\\|")
    if name not in CODE:
        return plain.replace("<", "&lt;")
    code, comma, rest = (plain, "", "") if name == "command" else plain.partition(", ")
    return f"`{code}`{comma}{rest}"


def escaped(text: str) -> str:
    """Text on one line that holds no mark-up of HTML, and so no comment."""
    return " ".join(text.split()).replace("<", "&lt;")


def placed(content: str, name: str, text: str) -> str:
    """The content of a file with the block in the old one's place, else before its first section."""
    begin, end = markers(name)
    if begin in content:
        before, _, rest = content.partition(begin)
        return before + text + rest.partition(end)[2]
    section = re.search(r"^## |^<!-- reproduction: ", content, re.M)
    place = section.start() if section else len(content)
    before, after = content[:place].rstrip("\n"), content[place:]
    return f"{before}\n\n{text}\n" + (f"\n{after}" if after else "")


def read_results(path: Path, name: str) -> str:
    """The file of findings as it is, or an empty one.

    InputError unless it can be read and written, and holds the comments of this data set once, or not at all.
    """
    make_folder(path.parent)
    try:
        content = path.read_bytes().decode() if path.exists() else EMPTY
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--results must be a text file in UTF-8, {path} cannot be read: {error}") from error
    begin, end = markers(name)
    found = content.count(begin), content.count(end)
    if found not in ((0, 0), (1, 1)) or content.find(begin) > content.find(end):
        raise InputError(f"{path} must hold {begin!r} and {end!r} once, in this order, or neither; it holds {found}")
    return content


def write_results(path: Path, name: str, text: str) -> None:
    """Put a data set's block into the file, whole or not at all."""
    write_whole(path, placed(read_results(path, name), name, text).encode())

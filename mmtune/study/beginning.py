"""A study's file for a newcomer to begin with: the module `mmtune.study.template` under another name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from mmtune.base.errors import InputError
from mmtune.base.files import make_folder
from mmtune.study.checks import require_name
from mmtune.study.finding import HERE, study_files

TEMPLATE, ITS_NAME = Path(__file__).with_name("template.py"), "my_study"
WHAT, READS, END = "digits told from their picture and their spoken name", '("image", "audio")', ")\n"
"""What the template says of the banks that it reads, and how it ends."""


def begin(name: str, folder: Path | None = None, reads: Sequence[str] = (), missing: Sequence[str] = ()) -> Path:
    """Write `name`.py into the folder, `studies` if none is given; InputError where there is a study of that name.

    reads: the banks of a data set, the template's own if not given; missing: those of them that a row may lack.
    """
    require_name(name)
    path = (folder or HERE) / f"{name}.py"
    there = [path] if path.exists() else study_files().get(name, [])
    if there:
        raise InputError(f"NAME must be that of no study yet, {name} is in {there[0]}")
    make_folder(path.parent)
    with path.open("x") as file:
        file.write(text_of(name, reads, missing))
    return path


def text_of(name: str, reads: Sequence[str], missing: Sequence[str]) -> str:
    """The template under a name, for banks."""
    text = TEMPLATE.read_text().replace(ITS_NAME, name)
    if not reads:
        return text
    text = text.replace(WHAT, f"{', '.join(reads)} to a class").replace(READS, as_tuple(reads))
    more = f"    missing={as_tuple(missing)},  # a row may lack these, which are zeros then\n)\n"
    return f"{text.removesuffix(END)}{more}" if missing else text


def as_tuple(names: Sequence[str]) -> str:
    """Names as a tuple in Python, in double quotes."""
    told = ", ".join(json.dumps(name, ensure_ascii=False) for name in names)
    return f"({told}{',' * (len(names) == 1)})"

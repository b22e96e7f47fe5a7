"""A study's file for a newcomer to begin with: the module `mmtune.study.template` under another name."""

from __future__ import annotations

from pathlib import Path

from mmtune.base.errors import InputError
from mmtune.base.files import make_folder
from mmtune.study.checks import require_name
from mmtune.study.finding import HERE, study_files

TEMPLATE, ITS_NAME = Path(__file__).with_name("template.py"), "my_study"


def begin(name: str, folder: Path | None = None) -> Path:
    """Write `name`.py into the folder, `studies` if none is given; InputError where there is a study of that name."""
    require_name(name)
    path = (folder or HERE) / f"{name}.py"
    there = [path] if path.exists() else study_files().get(name, [])
    if there:
        raise InputError(f"NAME must be that of no study yet, {name} is in {there[0]}")
    make_folder(path.parent)
    with path.open("x") as file:
        file.write(TEMPLATE.read_text().replace(ITS_NAME, name))
    return path

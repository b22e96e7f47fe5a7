"""Where studies are found: in `studies/` here, in folders that the user names, and those that are shipped.

A study's file is code of the user's own, and loading it runs it. No place hides another: a name that stands in several
is refused where it is used, and the file has to be named. Folders are named by MMTUNE_STUDIES, with ':' between them.
"""

from __future__ import annotations

import copyreg
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from mmtune.base.errors import InputError, first_line
from mmtune.networks.kinds import OWN, remember
from mmtune.study.definition import Study

VARIABLE = "MMTUNE_STUDIES"
HERE = Path("studies")
PACKAGE = Path(__file__).resolve().parents[1]
# Installed as mmtune.studies; in a checkout they lie beside the package.
SHIPPED = next((own for own in (PACKAGE / "studies", PACKAGE.parent / "studies") if own.is_dir()), PACKAGE / "studies")


def folders() -> list[Path]:
    """The folders that studies are looked for in; InputError where a named one is none."""
    named = [Path(own) for own in os.environ.get(VARIABLE, "").split(os.pathsep) if own]
    for folder in named:
        if not folder.is_dir():
            raise InputError(f"{VARIABLE} and --studies must name folders of studies, {folder} is none")
    return [HERE, *named, SHIPPED]


def use_studies(folder: Path) -> None:
    """Look for studies in this folder too, in this process and those that it starts."""
    if os.pathsep in str(folder.resolve()):
        raise InputError(f"--studies must name a folder without {os.pathsep!r} in its path, got {folder}")
    before = os.environ.get(VARIABLE, "")
    os.environ[VARIABLE] = os.pathsep.join(filter(None, [str(folder.resolve()), before]))
    folders()


def study_files() -> dict[str, list[Path]]:
    """By name, sorted, the files of all studies; a file that is found twice is one."""
    found: dict[str, dict[Path, Path]] = {}
    for folder in folders():
        for name, path in files_in(folder).items():
            found.setdefault(name, {}).setdefault(path.resolve(), path)
    return {name: [*own.values()] for name, own in sorted(found.items())}


def shipped_names() -> list[str]:
    """The studies that are shipped, sorted."""
    return sorted(files_in(SHIPPED))


def files_in(folder: Path) -> dict[str, Path]:
    """The files of studies in a folder by name."""
    return {path.stem: path for path in folder.glob("*.py") if not path.stem.startswith("_")}


def load_study(name: str) -> Study:
    """The STUDY of the file of that name, or at that path.

    InputError naming the ones there are, or the files where there are several of that name.
    """
    if name.endswith(".py"):
        return load_file(Path(name))
    there = study_files()
    if name not in there:
        rule = f"NAME must be one of {', '.join(there)}, or the path of a study's file, got {name!r}"
        raise InputError(f"{rule}; one that a script or a notebook makes has its report and promotion there")
    first, *others = there[name]
    if others:
        files = " and ".join(map(str, there[name]))
        raise InputError(f"{name} must be one study, {files} have that name: give the path of one, or rename one")
    return load_file(first)


def require_own_name(study: Study) -> None:
    """Raise InputError where a study that a script makes has the name of another one that is shipped."""
    if study.name not in shipped_names():
        return
    shipped = load_file(files_in(SHIPPED)[study.name])
    if type(study.base.model) is not type(shipped.base.model):
        made, own = (type(one.base.model).__name__ for one in (shipped, study))
        rule = f"a study named {study.name} is shipped, whose network is of {made}"
        raise InputError(f"{rule}: give this one, of {own}, a name of its own")


def folder_to_name(name: str) -> Path | None:
    """The folder that other commands must be told to find the study of a file at a path; None where they look there."""
    folder = Path(name).parent
    found = not name.endswith(".py") or folder.resolve() in [own.resolve() for own in folders()]
    return None if found else folder


def load_file(path: Path) -> Study:
    """The STUDY of a file, whose classes this process knows from now on; InputError where it has none."""
    if not path.is_file():
        raise InputError(f"{path} must be a study's file, there is none")
    if not path.stem.isidentifier():
        raise InputError(f"{path} must have a name such as my_study.py")
    try:
        module = executed(path)
    except InputError as error:
        raise InputError(f"{place_of(error, path)}: {error}") from error
    except (Exception, SystemExit) as error:
        told = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"{place_of(error, path)}: must be a study that loads: {told}") from error
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study) or study.name != path.stem:
        raise InputError(f"{path} must export STUDY, a Study named {path.stem!r}")
    remember(study.base.model)
    return study


def executed(path: Path) -> ModuleType:
    """The module of a file; whatever is sent to other processes of it goes as what it is, not by its name."""
    name = f"{OWN}{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks for its module while it is made, whose annotations may be texts.
    sys.modules[name] = module
    try:
        # What Python has compiled before may be of another text of the same second and length.
        exec(compile(path.read_bytes(), str(spec.origin), "exec"), vars(module))
    finally:
        # A class whose module nobody can import is sent by value.
        del sys.modules[name]
    send_by_name()
    return module


def send_by_name() -> None:
    """Let functions that are sent by value take torch's own kinds of modules along by their names.

    They do so with torch.classes wherever they name `classes` of anything, and it cannot be sent as what it is.
    """
    of_torch = [own for name, own in sys.modules.copy().items() if name.startswith("torch.")]
    for kind in {type(own) for own in of_torch if isinstance(own, ModuleType)} - {ModuleType}:
        copyreg.pickle(kind, lambda own: (importlib.import_module, (own.__name__,)))


def place_of(error: BaseException, path: Path) -> str:
    """The last line of a file that an exception came through, as PATH:LINE; the path alone where it did not."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{path}:{error.lineno}"
    file = str(path.resolve())
    frames = [
        own.lineno for own in traceback.extract_tb(error.__traceback__) if str(Path(own.filename).resolve()) == file
    ]
    return f"{path}:{frames[-1]}" if frames else str(path)

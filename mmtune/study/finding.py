"""Where studies are found: one Python file each, exporting STUDY."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mmtune.base.errors import InputError
from mmtune.base.rules import require_choice
from mmtune.study.definition import Study


def studies_folder() -> Path:
    """`studies/` in the working directory if it holds any study, else the one beside the package."""
    beside = Path(__file__).resolve().parents[2] / "studies"
    return next((folder for folder in (Path("studies"), beside) if study_names(folder)), beside)


def study_names(folder: Path) -> list[str]:
    """The names of all studies in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def load_study(name: str, folder: Path | None = None) -> Study:
    """The STUDY of `studies/NAME.py`; InputError naming the ones there are."""
    folder = folder or studies_folder()
    if not study_names(folder):
        raise InputError(f"{folder} must hold studies, one Python file each; it holds none")
    require_choice("NAME", name, tuple(study_names(folder)))
    spec = importlib.util.spec_from_file_location(f"studies.{name}", folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        said = str(error).partition("\n")[0]
        raise InputError(f"{folder / name}.py must be a study that loads: {type(error).__name__}: {said}") from error
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study) or study.name != name:
        raise InputError(f"{folder / name}.py must export STUDY, a Study named {name!r}")
    return study

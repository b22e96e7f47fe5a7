"""What a study is, and where studies are found: one Python file each, exporting STUDY."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmtune.config import TrialConfig, flatten, replace_path, replace_paths, require_choice
from mmtune.errors import InputError
from mmtune.space import Space, Value, grid, only, pin


@dataclass(frozen=True, kw_only=True)
class Study:
    """A search that a report made, as data.

    reported: the report's own number by metric ("accuracy", "macro_f1"), as a share.
    base: the configuration that a trial's draws are put into; its epochs are the report's budget.
    space: what any sampler may vary; grid: the paths that the report enumerated, the rest staying at the base.
    trials: how many trials a sampler other than the grid makes unless told otherwise.
    encoders: by modality, the study whose best tracked model this study starts from.
    """

    name: str
    paper: str
    title: str
    reported: Mapping[str, float]
    base: TrialConfig
    space: Space
    grid: tuple[str, ...]
    trials: int = 30
    encoders: Mapping[str, str] = field(default_factory=dict)
    doc: str = ""

    def __post_init__(self) -> None:
        for path in (choice.path for choice in self.space):
            if path not in flatten(self.base):
                raise InputError(f"study {self.name}: the space names {path}, which its configuration has not")

    def combinations(self) -> list[dict[str, Value]]:
        """The report's grid."""
        return grid(only(self.space, self.grid), flatten(self.base))


def narrowed(study: Study, sampler: str, fixed: Mapping[str, Value]) -> tuple[TrialConfig, Space]:
    """The base configuration with `fixed` put in, and the space that `sampler` searches around it."""
    for path in fixed:
        if path not in flatten(study.base):
            raise InputError(f"study {study.name} has no choice {path}; it has {', '.join(flatten(study.base))}")
    base = replace_paths(study.base, fixed)
    space = pin(study.space, fixed)
    return base, only(space, tuple(p for p in study.grid if p not in fixed)) if sampler == "grid" else space


def with_epochs(base: TrialConfig, epochs: int | None) -> TrialConfig:
    """The configuration with another budget, if one is given."""
    return base if epochs is None else replace_path(base, "train.epochs", epochs)


def parse_fixed(texts: list[str], base: TrialConfig) -> dict[str, Value]:
    """`path=value` texts as typed values; a path's last part is enough where it is unambiguous."""
    flat = flatten(base)
    fixed: dict[str, Value] = {}
    for text in texts:
        name, equals, raw = text.partition("=")
        paths = [path for path in flat if path == name or path.rpartition(".")[2] == name]
        exact = [path for path in paths if path == name] or paths
        if not equals or len(exact) != 1:
            known = ", ".join(exact or flat)
            raise InputError(f"--fix takes NAME=VALUE with one of {known}, got {text!r}")
        if exact[0] == "train.epochs":
            raise InputError(f"--fix settles what is searched, the budget is --epochs; got {text!r}")
        fixed[exact[0]] = parse_value(exact[0], raw, type(flat[exact[0]]))
    return fixed


def parse_value(path: str, raw: str, kind: type[Any]) -> Value:
    """A text as a value of `kind`."""
    try:
        value: Value = kind(raw)
    except ValueError as error:
        raise InputError(f"{path} must be of type {kind.__name__}, got {raw!r}") from error
    return value


def studies_folder() -> Path:
    """`studies/` in the working directory if it holds any study, else the one beside the package."""
    beside = Path(__file__).resolve().parent.parent / "studies"
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

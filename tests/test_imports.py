"""Imports point one way, and heavy packages stay behind the modules that own them."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mmtune"
# What a newcomer begins with imports what a newcomer would.
FILES = sorted(set(PACKAGE.rglob("*.py")) - {PACKAGE / "study" / "template.py"})
OWNERS = {
    "mlflow": {"tracking", "serve"},
    "optuna": {"tune", "study"},
    "typer": {"cli"},
    "ray": {"pool"},
    "submitit": {"pool"},
    "onnxruntime": {"serve"},
}
# A room may import from itself and from those before it.
LAYERS = [
    "base",
    "data",
    "networks",
    "analysis",
    "train",
    "study",
    "tracking",
    "pool",
    "tune",
    "serve",
    "report",
    "best",
    "api",
    "cli",
]
# Of what is within a room the same is so; "" are the files that are in none of its own rooms.
WITHIN = {
    "data": ["media", "forms", "", "storage", "building", "bundled"],
    "serve": ["answer", "", "export", "web"],
}


def imported(path: Path) -> set[str]:
    """Dotted names of everything that a file imports, wherever in it; imports for type checkers do not count."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    nodes = [node for node in ast.walk(tree) if id(node) not in typing_only]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    found = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return plain | {f"{node.module}.{alias.name}" for node in found for alias in node.names}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_stay_with_their_owners(path: Path) -> None:
    tops = {name.partition(".")[0] for name in imported(path)}
    assert not {"studies", "reproduction"} & tops
    for package, owners in OWNERS.items():
        assert package not in tops or room(path) in owners, f"{path.name} imports {package}"


def test_every_room_is_in_a_layer() -> None:
    assert {room(path) for path in FILES} == {"__init__", *LAYERS}


@pytest.mark.parametrize("path", [p for p in FILES if room(p) in LAYERS], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_lower_layers_do_not_import_higher_ones(path: Path) -> None:
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("mmtune.")}
    allowed = set(LAYERS[: LAYERS.index(room(path)) + 1])
    assert rooms <= allowed, f"{path.name} imports {rooms - allowed}"


@pytest.mark.parametrize("outer", WITHIN)
def test_lower_rooms_within_one_do_not_import_higher_ones(outer: str) -> None:
    def within(parts: Sequence[str]) -> str:
        return parts[0] if parts and parts[0] in WITHIN[outer] else ""

    paths = [path for path in FILES if room(path) == outer]
    assert {path.parent.name for path in paths} - {outer} == {*WITHIN[outer]} - {""}
    for path in paths:
        allowed = WITHIN[outer][: 1 + WITHIN[outer].index(within(path.relative_to(PACKAGE / outer).parts))]
        names = [name.split(".")[2:] for name in imported(path) if name.startswith(f"mmtune.{outer}.")]
        assert {within(parts) for parts in names} <= set(allowed), path.name


HEAVY = {"torch", "mlflow", "optuna", "sklearn", "scipy", "pandas", "matplotlib", "plotly", "soxr"}
LIGHT = [
    "mmtune",
    "mmtune.cli",
    "mmtune.networks.config",
    "mmtune.train.augmentations",
    "mmtune.train.recipe",
    "mmtune.study",
    "mmtune.serve",
    "mmtune.report",
]


@pytest.mark.parametrize("module", LIGHT)
def test_what_help_and_study_files_need_loads_nothing_heavy(module: str) -> None:
    assert loaded(f"import {module}") == set()


@pytest.mark.parametrize("words", [["--help"], ["study", "--help"], ["init", "--help"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    run = f"sys.argv = {['mmtune', *words]}; from mmtune.cli import app; app(standalone_mode=False)"
    assert loaded(run) == set()


def test_the_shipped_studies_are_read_without_anything_heavy() -> None:
    assert loaded("from mmtune.study import load_study, study_files; [*map(load_study, study_files())]") == set()


def loaded(code: str) -> set[str]:
    """Which heavy packages are there after this has run in a process of its own."""
    program = f"import sys\n{code}\nprint(*({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())

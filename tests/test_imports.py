"""Imports point one way, and heavy packages stay behind the modules that own them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "mmtune"
FILES = sorted(PACKAGE.rglob("*.py"))
OWNERS = {
    "mlflow": {"tracking", "registry"},
    "optuna": {"journal", "search", "space"},
    "typer": {"cli"},
    "ray": {"ray_pool"},
}
# A package may import from itself and from those before it.
LAYERS = ["errors", "halving", "bounds", "files", "config", "data", "models", "analysis", "train", "worker", "pool"]


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
    return plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_stay_with_their_owners(path: Path) -> None:
    tops = {name.partition(".")[0] for name in imported(path)}
    assert "studies" not in tops
    for package, owners in OWNERS.items():
        assert package not in tops or room(path) in owners, f"{path.name} imports {package}"


@pytest.mark.parametrize("path", [p for p in FILES if room(p) in LAYERS], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_lower_layers_do_not_import_higher_ones(path: Path) -> None:
    rooms = {name.split(".")[1] for name in imported(path) if name.startswith("mmtune.")}
    allowed = set(LAYERS[: LAYERS.index(room(path)) + 1])
    assert rooms <= allowed, f"{path.name} imports {rooms - allowed}"


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, mmtune.cli; print(sorted({'torch', 'mlflow', 'optuna', 'sklearn', 'librosa'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

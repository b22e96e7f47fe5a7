"""MLflow and Optuna are used by what they document alone, and what is tracked is written through MLflow."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("mmtune", "reproduction") for path in (ROOT / folder).rglob("*.py"))
FOREIGN = ("mlflow", "optuna")
WRITES = {"insert", "update", "delete", "upsert", "bulk_insert_mappings", "add_all", "merge"}
STATEMENT = re.compile(r"^\s*(insert\s+into|replace\s+into|update\s+\w+\s+set|delete\s+from|drop|alter|create)\b", re.I)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(tree: ast.AST) -> Iterator[str]:
    """The dotted names that a module imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{name.name}" for name in node.names)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_attributes(tree: ast.AST) -> Iterator[str]:
    """Attributes with a private name of anything but the object itself or its class."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            of = node.value
            if not (isinstance(of, ast.Name) and of.id in ("self", "cls", "os")):
                yield ast.unparse(node)


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_no_private_name_of_mlflow_or_optuna_is_used(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = [name for name in imported(tree) if name.partition(".")[0] in FOREIGN]
    assert [name for name in names if any(map(is_private, name.split(".")))] == []
    if names:
        assert list(private_attributes(tree)) == []


@pytest.mark.parametrize("path", sorted((ROOT / "mmtune" / "tracking").glob("*.py")), ids=named)
def test_nothing_is_written_by_sql(path: Path) -> None:
    tree = ast.parse(path.read_text())
    taken = [name for name in imported(tree) if name.startswith("sqlalchemy")]
    assert [name for name in taken if name.rpartition(".")[2] in WRITES | {"orm", "Session"}] == []
    assert not any(name.startswith(("sqlalchemy.orm", "sqlalchemy.dialects")) for name in taken)
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    assert [text for text in texts if STATEMENT.match(text)] == []
    if taken:
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        of_tables = {call.attr for call in calls if isinstance(call, ast.Attribute)} & (WRITES - {"update"})
        assert of_tables == set()


def test_the_laws_see_what_they_forbid() -> None:
    tree = ast.parse("from mlflow.tracking._x import a\nimport optuna\nstudy._storage.x\nself._own")
    assert "mlflow.tracking._x.a" in list(imported(tree))
    assert list(private_attributes(tree)) == ["study._storage"]
    assert STATEMENT.match("\n DELETE FROM tags")
    assert not STATEMENT.match("Created by")
    assert len(SOURCES) > 50

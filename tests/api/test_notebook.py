"""The notebook of docs/ from top to bottom, in a process of its own that has no main file, as a kernel has none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs/tour.ipynb"
# What a cell's last line gives is shown, as a notebook does.
KERNEL = """
import ast, json, sys

space = vars(sys.modules["__main__"])
assert "__file__" not in space
for number, text in enumerate(json.load(sys.stdin)):
    *body, end = ast.parse(text).body
    shown = isinstance(end, ast.Expr)
    whole = ast.Module(body if shown else [*body, end], [])
    exec(compile(whole, f"<cell {number}>", "exec"), space)
    if shown:
        value = eval(compile(ast.Expression(end.value), f"<cell {number}>", "eval"), space)
        print(repr(value), getattr(value, "_repr_html_", str)() is None)
"""
FACTS = """
print(json.dumps({
    "finished": outcome.finished and not outcome.failed,
    "trials": len(trials),
    "best": outcome.best.metrics["best_val_macro_f1"],
    "answers": answer.names,
    "right": float((np.array(model.predict(image=image, ink=ink).names) == labels.astype(str)).mean()),
    "known": model.classes == data.classes,
}))
"""


def cells(kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == kind]


def test_the_notebook_is_kept_without_its_outputs() -> None:
    assert len(cells("code")) > 8
    assert [cell for cell in cells("code") if cell["outputs"] or cell["execution_count"] is not None] == []
    assert len({cell["id"] for kind in ("code", "markdown") for cell in cells(kind)}) == len(
        json.loads(NOTEBOOK.read_text())["cells"]
    )


@pytest.mark.slow
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    texts = ["".join(cell["source"]) for cell in cells("code")]
    words = [sys.executable, "-c", KERNEL]
    given = json.dumps([*texts, f"import json\n{FACTS}"])
    done = subprocess.run(words, cwd=tmp_path, input=given, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(done.stdout.strip().splitlines()[-2])
    assert facts["finished"]
    assert facts["trials"] == 6
    assert facts["best"] > 0.8
    assert facts["right"] > 0.8
    assert len(facts["answers"]) == 5
    assert facts["known"]
    assert "tour version 1: trial" in done.stdout
    assert list((tmp_path / "mlruns/reports").iterdir())

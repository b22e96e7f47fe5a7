"""The examples of docs/ build their networks, and go from nothing to an answer by the commands that they name."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from shapes import inputs_for

from mmtune.cli.models import ABSTAINED
from mmtune.networks.output import answer
from mmtune.networks.shapes import Shapes
from mmtune.study import load_file

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SHAPES = {
    "adverts": Shapes(banks={"words": (64,), "sketch": (1, 32, 32)}, classes=4),
    "alarms": Shapes(banks={"audio": (98, 40)}, classes=4),
    "fruit": Shapes(banks={"photo": (3, 32, 32), "vector": (2,)}, classes=4),
}
PROGRAMS = {"python": [sys.executable], "mmtune": [sys.executable, "-m", "mmtune.cli"]}
SHORT = {"study": ["--epochs", "2", "--trials", "2"]}


def commands(name: str) -> list[list[str]]:
    """The words of each command in an example's docstring, which stand further in than the rest."""
    told = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text())) or ""
    return [shlex.split(line) for line in told.splitlines() if line.startswith("    ")]


def test_all_of_them_are_tried() -> None:
    files = {path.stem for path in EXAMPLES.glob("*.py")}
    assert files == {path.stem for path in EXAMPLES.glob("samples/*.py")} == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_it_builds_a_network_that_answers(name: str) -> None:
    model, shapes = load_file(EXAMPLES / f"{name}.py").base.model, SHAPES[name]
    found = answer(model.build(shapes).eval(), inputs_for(model, 2, shapes))
    assert found.logits.shape == (2, shapes.classes)
    assert torch.isfinite(found.logits).all()


def blocks(page: str) -> list[str]:
    """The Python of a page of docs/."""
    return re.findall(r"^```python\n(.*?)^```", (EXAMPLES.parent / page).read_text(), flags=re.M | re.S)


@pytest.mark.parametrize("name", ["clinic", "mine"])
def test_the_studies_of_the_page_on_ones_own_build_their_networks(name: str, tmp_path: Path) -> None:
    banks = {"photo": (3, 32, 32), "vector": (2,), **({"clip": (98, 40)} if name == "clinic" else {})}
    (text,) = [own for own in blocks("own.md") if f'name="{name}"' in own]
    (tmp_path / f"{name}.py").write_text(text)
    study, shapes = load_file(tmp_path / f"{name}.py"), Shapes(banks=banks, classes=3)
    found = answer(study.base.model.build(shapes).eval(), inputs_for(study.base.model, 2, shapes))
    assert found.logits.shape == (2, 3)


def test_a_choice_among_kinds_is_as_the_page_has_it() -> None:
    (text,) = [own for own in blocks("own.md") if "import one_of" in own]
    made: dict[str, Any] = {}
    exec(text, made)
    for chosen in ("sum", "gated"):
        assert replace(made["fusion"], chosen=chosen).build({"a": 3, "b": 3}).width
    assert {choice.path for choice in made["space"]} >= {"model.fusion.chosen", "model.fusion.options.gated.width"}


@pytest.mark.parametrize("name", SHAPES)
def test_the_page_has_its_commands(name: str) -> None:
    lines = (EXAMPLES / "README.md").read_text().replace("\\\n", " ").splitlines()
    there = [line.split() for line in lines if line.startswith(tuple(PROGRAMS))]
    own = [line for line in there if any(name in word for word in line)]
    assert [shlex.split(" ".join(line)) for line in own] == commands(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_its_commands_lead_to_an_answer(name: str, tmp_path: Path) -> None:
    (tmp_path / "docs").symlink_to(EXAMPLES.parent)
    for program, verb, *words in commands(name):
        line = [*PROGRAMS[program], verb, *words, *SHORT.get(verb, [])]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=240)
        # Two epochs may leave a network that had better not be relied on.
        assert done.returncode in {0, ABSTAINED if verb == "predict" else 0}, done.stdout + done.stderr
    assert done.stdout.split()[0] == "class"

"""Commands that are told to the user are commands that there are, with the options that they have."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from mmtune.base.commands import ROOT, command_line, in_checkout, option
from mmtune.cli import app
from mmtune.cli.options import MLRUNS

TOLD = [("study", ["studies"]), ("report", ["store", "studies", "data"]), ("promote", ["store", "studies", "data"])]
TOLD += [("ui", ["store"])]


def test_outside_a_checkout_it_is_mmtune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not in_checkout()
    assert command_line("ui") == "mmtune ui"
    told = command_line("report", "x", store=Path("a b"), studies=None, data=Path("d"))
    assert told == "mmtune report x --store 'a b' --data d"
    assert option("keep_apart", 3) == "--keep-apart 3"


def test_in_a_checkout_it_is_make(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert in_checkout()
    assert command_line("ui") == "make ui"
    told = command_line("report", "x", store=Path("a b"), studies=None, data=Path("d"))
    assert told == "make report NAME=x STORE='a b' DATA=d"
    monkeypatch.chdir(ROOT / "docs")
    assert command_line("ui") == "mmtune ui"


def test_the_store_that_there_is_without_asking_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert command_line("promote", "x", store=MLRUNS) == "make promote NAME=x"


@pytest.mark.parametrize(("verb", "options"), TOLD)
def test_make_and_mmtune_take_what_is_told(verb: str, options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    name = None if verb == "ui" else "x"
    words = shlex.split(command_line(verb, name, **{own: f"{own} $(x)" for own in options}))
    environment = {own: value for own, value in os.environ.items() if not own.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run([words[0], "-n", *words[1:]], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for own in options:
        assert f'--{own} "${own.upper()}"' in done.stdout
    taken = typer.main.get_command(app).commands[verb].params  # type: ignore[attr-defined]
    assert {f"--{own}" for own in options} <= {told for own in taken for told in own.opts}

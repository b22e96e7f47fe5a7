"""What `import mmtune` has: every name, without loading what is heavy, as the page says it."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

import mmtune
from mmtune.networks import config
from mmtune.study.options import Chosen, Options

PAGE = (Path(__file__).parents[2] / "docs/api.md").read_text()
PROMISED = ("Study", "Train", "TrialConfig", "Categorical", "Integer", "Real", "run", "load", "data", "networks")
OPTIONS = [own for own in fields(Options) if own.metadata]


def after(code: str) -> set[str]:
    """The modules that a fresh process has loaded after some code."""
    asked = f"import sys; before = set(sys.modules); {code}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_package_itself_loads_nothing_of_weight() -> None:
    loaded = after("import mmtune; dir(mmtune), mmtune.__version__")
    assert {name for name in loaded if name.startswith("mmtune")} == {"mmtune"}
    assert not {"numpy", "rich", "typer", "torch", "mlflow", "optuna", "pandas"} & loaded


def test_what_a_study_is_written_with_loads_nothing_heavy() -> None:
    loaded = after("import mmtune; mmtune.Study, mmtune.TrialConfig, mmtune.Train, mmtune.Real, mmtune.networks.MLP")
    assert not {"torch", "mlflow", "optuna", "sklearn", "librosa", "pandas"} & loaded


@pytest.mark.parametrize("module", [mmtune, mmtune.data, mmtune.networks], ids=lambda own: own.__name__)
def test_every_name_is_there_and_has_a_docstring(module: object) -> None:
    names = dir(module)
    assert names == sorted(names)
    assert [name for name in names if not inspect.getdoc(getattr(module, name))] == []


def test_the_promised_names_are_public_and_an_unknown_one_is_none() -> None:
    assert set(PROMISED) <= set(dir(mmtune))
    assert set(config.__all__) - {"NORM_CODES"} <= set(dir(mmtune.networks))
    with pytest.raises(AttributeError, match="nothing"):
        _ = mmtune.nothing  # type: ignore[attr-defined]


def test_run_takes_every_option_of_the_command_line_with_its_default_and_type() -> None:
    assert get_type_hints(Chosen) == {own.name: get_type_hints(Options)[own.name] for own in OPTIONS}
    taken = inspect.signature(mmtune.run).parameters
    assert {own.name: own.default for own in OPTIONS}.items() <= {n: p.default for n, p in taken.items()}.items()
    assert all(own.name in (mmtune.run.__doc__ or "") for own in OPTIONS)


def test_the_page_says_every_name_and_every_option_with_its_default() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", PAGE, re.M))
    assert told == {own.name: repr(own.default) for own in OPTIONS}
    assert [name for name in PROMISED if f"mmtune.{name}" not in PAGE and f"`{name}`" not in PAGE] == []
    assert [name for name in ("from_arrays", "load", "sample", "save") if f"mmtune.data.{name}(" not in PAGE] == []


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)h][^)]*)\)", PAGE))
def test_the_pages_links_lead_somewhere(path: str) -> None:
    assert (Path(__file__).parents[2] / "docs" / path).exists()

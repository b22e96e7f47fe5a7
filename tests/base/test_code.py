"""That the digest of a user's own code changes with what the code does, and with nothing else."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from mmtune.base.code import own_code
from mmtune.networks.config import LateFusion

TEXT = '''
from dataclasses import dataclass
from functools import partial
import numpy as np

SLOPE, TABLE, UNUSED = 2.0, np.arange(4.0), 5

def helper(x, by=3):
    return [SLOPE * one * by for one in x if one in {"a", "b", "c"}]

class Base:
    kept = (1, 2)

    def low(self):
        return self.kept

@dataclass(frozen=True)
class Net(Base):
    """A network."""
    width: int = 8

    @property
    def wide(self):
        return helper([self.width]) + TABLE.sum()

    @staticmethod
    def of(x):
        return x + 1

def scored(labels, probabilities, weight=1):
    inner = lambda x: x * weight  # what counts
    return inner(labels)

USED = (Net, partial(scored, weight=2))
'''


def digest(text: str) -> str:
    """Of what a file of this text uses."""
    module = ModuleType("of_a_user")
    sys.modules[module.__name__] = module
    try:
        exec(text, vars(module))
        return own_code(module.USED)
    finally:
        del sys.modules[module.__name__]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("return self.kept", "return self.kept[0]"),
        ("kept = (1, 2)", "kept = (1, 3)"),
        ("SLOPE * one", "SLOPE + one"),
        ("SLOPE, TABLE, UNUSED = 2.0", "SLOPE, TABLE, UNUSED = 2.5"),
        ("np.arange(4.0)", "np.arange(5.0)"),
        ("by=3", "by=4"),
        ('"c"}', '"d"}'),
        ("return x + 1", "return x - 1"),
        ("x * weight  #", "x / weight  #"),
        ("weight=2)", "weight=3)"),
    ],
)
def test_a_change_of_what_is_done_is_seen(before: str, after: str) -> None:
    assert before in TEXT
    assert digest(TEXT.replace(before, after)) != digest(TEXT)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# what counts", "# something else"),
        ("@staticmethod", "\n\n    # a rule\n    @staticmethod"),
        ('"""A network."""', '"""The network."""'),
        ("UNUSED = 2.0, np.arange(4.0), 5", "UNUSED = 2.0, np.arange(4.0), 6"),
        ("SLOPE, TABLE, UNUSED =", "kept = width = 16\nSLOPE, TABLE, UNUSED ="),
    ],
)
def test_a_change_of_nothing_that_is_done_is_none(before: str, after: str) -> None:
    assert before in TEXT
    assert digest(TEXT.replace(before, after)) == digest(TEXT)


def test_it_is_the_same_in_every_process(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(TEXT + "\nfrom mmtune.base.code import own_code\nprint(own_code(USED))\n")
    told = {
        subprocess.run(
            [sys.executable, "script.py"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert len(told) == 1
    assert len(told.pop()) == 12


class Pickled:
    """A class of this file, which counts as a user's own."""

    width = 3


def test_what_pickling_writes_into_a_class_is_no_change() -> None:
    before = own_code([Pickled])
    pickle.dumps(Pickled(), protocol=2)
    assert "__slotnames__" in vars(Pickled)
    assert own_code([Pickled]) == before != ""


def test_what_is_installed_is_nobodys_own() -> None:
    assert own_code([LateFusion, nn.Linear, OrderedDict, len]) == ""


def test_what_uses_itself_comes_to_an_end() -> None:
    text = "def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n and even(n - 1)\nUSED = (even,)"
    assert digest(text) == digest(text)
    assert digest(text.replace("n == 0", "n < 1")) != digest(text)

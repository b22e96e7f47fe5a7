"""What is here and what is missing, said by the real command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmtune.base.provenance import PACKAGES, installed
from mmtune.data.dataset import Dataset
from mmtune.report import doctor
from mmtune.report.doctor import BAD, doctor_table
from mmtune.tracking import MlflowTracker


def lines(root: Path, data: Path | None = None) -> dict[str, tuple[str, str]]:
    table, _ = doctor_table(root, data)
    marks, names, found = (list(column.cells) for column in table.columns)
    return {str(name): (str(mark), str(what)) for mark, name, what in zip(marks, names, found, strict=True)}


def test_it_says_what_there_is(tiny: Dataset, store: Path, tmp_path: Path) -> None:
    found = lines(store, tiny.folder)
    assert {name: found[name][1] for name in PACKAGES} == {name: installed(name) for name in PACKAGES}
    assert found["data"][1].startswith(f"tiny: {len(tiny.train):,} training and {len(tiny.require_test()):,} test rows")
    assert found["runs"][1].startswith("0 studies of 0 names")
    assert lines(tmp_path / "nothing")["runs"][1].startswith("none yet")
    assert not (tmp_path / "nothing").exists()


def test_what_keeps_something_from_working_is_marked(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE", 2**60)
    (store / "mlflow.db").write_bytes(b"no database at all, but long enough to be one" * 100)
    found = lines(store, tmp_path / "nowhere")
    assert {name for name, (mark, _) in found.items() if mark == BAD} == {"free disk", "runs", "data"}
    assert doctor_table(store, None)[1] == 2


@pytest.mark.parametrize("encoding", ["iso-8859-1", "ascii", "utf-8"])
def test_any_encoding_is_printed(store: Path, tmp_path: Path, encoding: str) -> None:
    MlflowTracker(store)
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    for verb in ("doctor", "studies"):
        done = subprocess.run(
            [sys.executable, "-m", "mmtune.cli", verb, "--store", str(store)],
            cwd=tmp_path, env=environment, capture_output=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert (b"image_cnn" if verb == "studies" else b"Python") in done.stdout

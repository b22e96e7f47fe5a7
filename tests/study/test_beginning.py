"""The file that a newcomer begins with: it is short, runs as it is, and never takes the place of another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from mmtune.base.errors import InputError
from mmtune.data.banks import banks_of, lacks
from mmtune.data.building.arrays import from_arrays
from mmtune.data.dataset import Dataset
from mmtune.data.storage.store import load, save
from mmtune.study import load_study
from mmtune.study.beginning import begin
from mmtune.study.finding import VARIABLE
from mmtune.study.options import Options
from mmtune.tune.run import run_study
from mmtune.tune.trying import require_network


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to stand in, with nothing named."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_is_a_study_of_that_name_with_a_network_of_its_own(tiny: Dataset) -> None:
    path = begin("birds")
    assert path == Path("studies/birds.py")
    assert len(path.read_text().splitlines()) <= 40
    assert "my_study" not in path.read_text()
    study = load_study("birds")
    assert study.name == "birds"
    assert type(study.base.model).__module__ == "studies.birds"
    assert {choice.path for choice in study.space} == {"model.width", "train.optimizer", "train.learning_rate"}
    require_network(study.base.model, tiny)


def test_no_file_is_written_over() -> None:
    path = begin("birds")
    path.write_text("mine")
    with pytest.raises(InputError, match=r"NAME must be that of no study yet, birds is in studies/birds\.py"):
        begin("birds")
    assert path.read_text() == "mine"


def test_a_name_that_a_study_has_anywhere_is_taken(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"no study yet, audio_rnn is in .*/studies/audio_rnn\.py"):
        begin("audio_rnn")
    begin("birds", here / "deep" / "down")
    monkeypatch.setenv(VARIABLE, str(here / "deep" / "down"))
    with pytest.raises(InputError, match=r"birds is in .*deep/down/birds\.py"):
        begin("birds")
    assert not Path("studies").exists()


@pytest.mark.parametrize("name", ["my-study", "3", "", "a/b", "../x", "x.py", "a" * 81])
def test_a_name_is_as_a_studys_is(name: str) -> None:
    with pytest.raises(InputError, match="a study must have a name such as my_study, got"):
        begin(name)
    assert not Path("studies").exists()


def test_a_folder_that_cannot_be_made_is_one_line(here: Path) -> None:
    (here / "studies").write_text("a file")
    with pytest.raises(InputError, match="studies must be a folder that can be made"):
        begin("birds")


def test_it_reads_the_banks_of_a_data_set_and_runs_on_it(here: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.tile(["a", "b"], 30)
    near = rng.normal(size=(60, 3)) + (labels == "b")[:, None]
    scans = np.where(np.arange(60)[:, None] % 7 == 0, np.nan, rng.normal(size=(60, 4)))
    dataset = from_arrays(labels=labels, near=near, scan=scans)
    save(dataset, here / "rows")
    reads = banks_of(dataset)
    path = begin("mine", None, reads, [bank for bank in reads if lacks(dataset, bank)])
    assert path.read_text().startswith('"""mine: near, scan to a class, by a network of its own."""')
    study = load_study("mine")
    assert study.base.model.reads == ("near", "scan")
    assert study.missing == ("scan",)
    options = Options(trials=1, epochs=1, workers=1, device="cpu")
    done = run_study(study, load(here / "rows"), options, here / "mlruns", Console(quiet=True))
    assert done is not None
    assert done.finished


def test_one_bank_is_a_tuple_too(tmp_path: Path) -> None:
    text = begin("alone", tmp_path, ["image"]).read_text()
    assert 'reads: tuple[str, ...] = ("image",)' in text
    assert "missing" not in text

"""The file that a newcomer begins with: it is short, runs as it is, and never takes the place of another."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.study import load_study
from mmtune.study.beginning import begin
from mmtune.study.finding import VARIABLE
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

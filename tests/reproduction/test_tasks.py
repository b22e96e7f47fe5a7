"""What `make reproduce` runs, and at what length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mmtune.base.errors import InputError
from mmtune.cli import answer
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import PROTOCOLS
from mmtune.study import load_study
from reproduction.__main__ import app
from reproduction.tasks import (
    Task,
    epochs_in_all,
    length,
    needs,
    obstacle,
    paper_names,
    parse_seeds,
    tasks_of,
    with_needed,
)

ALL = with_needed(paper_names())


def of_length(dataset: Dataset, rows: int) -> Dataset:
    """The same data, its rows repeated or cut."""
    return replace(dataset, train=dataset.train.take(np.arange(rows) % len(dataset.train)))


def spoken_by(dataset: Dataset, speaker: str) -> Dataset:
    """The same data, every row of one speaker."""
    groups = {**dataset.train.groups, "speaker": np.full(len(dataset.train), speaker)}
    return replace(dataset, train=replace(dataset.train, groups=groups))


def test_a_task_is_the_command_that_a_user_would_type() -> None:
    task = Task(study="xflow_lstm", protocol="speaker_disjoint", seed=3, epochs=2, folds=6, repeats=5)
    assert " ".join(task.command(Path("data/mine"))) == (
        "mmtune study xflow_lstm --sampler reported --protocol speaker_disjoint --seed 3 "
        "--epochs 2 --folds 6 --repeats 5 --data data/mine"
    )
    plain = Task(study="image_cnn", protocol="as_reported").command()
    assert " ".join(plain) == "mmtune study image_cnn --sampler reported --protocol as_reported --seed 0"
    assert Task(study="a", protocol="b", fixed=("view=mfcc",)).command()[-2:] == ["--fix", "view=mfcc"]


def test_every_study_has_every_protocol_and_seed_once(tiny: Dataset) -> None:
    tasks = tasks_of(ALL, tiny, (0, 1), None, reduced=False)
    assert len(set(tasks)) == len(tasks)
    plain = {(task.study, task.protocol, task.seed) for task in tasks if not task.folds}
    assert plain == {(name, protocol, seed) for name in ALL for protocol in PROTOCOLS for seed in (0, 1)}
    crossed = [task for task in tasks if task.folds]
    assert {task.study for task in crossed} == {name for name in ALL if name.startswith("xflow")}
    assert {(task.protocol, task.folds, task.repeats, task.epochs) for task in crossed} == {
        ("speaker_disjoint", 10, 5, None)
    }


def test_without_speakers_there_is_no_protocol_for_them(tiny: Dataset) -> None:
    unknown = spoken_by(tiny, "")
    assert {task.protocol for task in tasks_of(ALL, unknown, (0,), None, False)} == set(PROTOCOLS[:2])


@pytest.mark.parametrize(("name", "epochs"), [("image_cnn", None), ("multihead_fusion", 3), ("xflow_lstm", 1)])
def test_the_reduced_budget_on_the_reports_number_of_pairs(tiny: Dataset, name: str, epochs: int | None) -> None:
    assert length(ALL[name], of_length(tiny, 60_000), None, reduced=True) == epochs
    assert length(ALL[name], of_length(tiny, 60_000), None, reduced=False) is None


def test_fewer_rows_get_more_epochs_but_no_more_than_the_report(tiny: Dataset) -> None:
    study = ALL["multihead_fusion"]
    found = [length(study, of_length(tiny, rows), None, True) for rows in (70_000, 59_999, 20_000, 7_000, 1_000)]
    assert found == [3, 4, 9, 26, None]
    assert length(study, tiny, 7, reduced=True) == 7
    assert length(study, tiny, study.base.train.epochs, reduced=False) is None


def test_a_shorter_cross_validation_runs_each_fold_once(tiny: Dataset) -> None:
    def repeats(epochs: int | None, reduced: bool) -> set[int]:
        return {task.repeats for task in tasks_of(ALL, tiny, (0,), epochs, reduced) if task.folds}

    assert (repeats(None, False), repeats(None, True), repeats(2, False), repeats(300, True)) == ({5}, {1}, {1}, {5})


def test_encoders_come_first_and_need_not_be_named(tiny: Dataset) -> None:
    studies = with_needed(["latent_fusion", "audio_rnn"])
    assert list(studies) == ["image_cnn", "audio_rnn", "latent_fusion"]
    tasks = tasks_of(studies, tiny, (0, 1), 1, False)
    for task in tasks:
        found = needs(task, tasks, studies[task.study])
        assert [own.study for own in found] == (["image_cnn", "audio_rnn"] if task.study == "latent_fusion" else [])
        assert {(own.protocol, own.seed) for own in found} <= {(task.protocol, task.seed)}


def test_what_cannot_run_says_why(tiny: Dataset) -> None:
    study = load_study("spectrogram_fusion")
    heard = {name: bank for name, bank in tiny.train.banks.items() if name != "waveform"}
    deaf = replace(tiny, train=replace(tiny.train, banks=heard))
    (task, *_) = tasks_of({study.name: study}, deaf, (0,), 1, False)
    assert task.fixed == ("view=mfcc",)
    assert obstacle(task, study, deaf) == ""
    assert "reads waveform" in obstacle(replace(task, fixed=()), study, deaf)
    (task, *_) = tasks_of({study.name: study}, tiny, (0,), 1, False)
    assert task.fixed == ()
    alone = spoken_by(tiny, "one")
    said = obstacle(Task(study="image_cnn", protocol="speaker_disjoint"), load_study("image_cnn"), alone)
    assert said == "speaker_disjoint needs at least 2 groups here, got 1"


def test_the_epochs_of_all_trainings_count() -> None:
    study = load_study("xflow_lstm")
    short = Task(study=study.name, protocol="as_reported", epochs=2)
    assert epochs_in_all(short, study) == 2
    assert epochs_in_all(replace(short, folds=6, repeats=5), study) == 60
    assert epochs_in_all(replace(short, epochs=None), study) == 300


@pytest.mark.parametrize("text", ["", "one", "0 -1", "1.5", "٣", "0x1"])
def test_seeds_are_whole_numbers(text: str) -> None:
    with pytest.raises(InputError, match="--seeds must be whole numbers from 0"):
        parse_seeds(text)


def test_seeds_are_taken_once_each() -> None:
    assert parse_seeds(" 2 0,1 2") == (2, 0, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "NAME must be one of audio_mel"),
        (["--seeds", "x"], "--seeds must be whole numbers from 0, such as '0 1', got 'x'"),
        (["--epochs", "0"], "--epochs must be a whole number from 1"),
        (["--workers", "0"], "--workers must be a whole number from 1"),
        (["--device", "gpu9"], "--device must be auto, cpu or a GPU"),
        (["--data", "nowhere"], "nowhere"),
        (["--results", "broken.md", "--data", "TINY"], "broken.md must hold '<!-- reproduction: tiny begin -->'"),
    ],
)
def test_mistakes_get_one_line_and_leave_nothing(
    tiny: Dataset,
    tmp_path: Path,
    words: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    refusal: Callable[..., str],
) -> None:
    (tmp_path / "broken.md").write_text("<!-- reproduction: tiny begin -->\n")
    monkeypatch.chdir(tmp_path)
    assert said in refusal(partial(answer, app), *(str(tiny.folder) if word == "TINY" else word for word in words))
    assert [path.name for path in tmp_path.rglob("*")] == ["broken.md"]

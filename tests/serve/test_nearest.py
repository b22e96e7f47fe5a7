"""The training rows that are nearest to what was given."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmtune import cli
from mmtune.api.loading import load
from mmtune.base.errors import InputError
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import split
from mmtune.serve.answer.nearest import MOST, SHOWN, TrainingRows, find_training_rows
from mmtune.serve.answer.predictor import Predictor
from mmtune.serve.web.server import answers
from mmtune.tracking import MlflowTracker


@pytest.fixture(scope="module")
def predictor(served: Path) -> Predictor:
    return load("served", store=served)


@pytest.fixture(scope="module")
def trained(predictor: Predictor, served: Path) -> TrainingRows:
    found = find_training_rows(MlflowTracker(served), predictor)
    assert found.known == {}
    found.learn()
    return found


def test_they_are_rows_of_training_one_for_each_value(trained: TrainingRows, tiny: Dataset) -> None:
    sides = split(tiny.train, trained.key.protocol, trained.key.seed)
    assert set(trained.known) == {"image", "waveform"}
    for bank, known in trained.known.items():
        values = tiny.train.banks[bank].index[known.rows]
        assert set(known.rows) <= set(sides.train)
        assert len(set(values)) == len(values) == min(MOST, len(set(tiny.train.banks[bank].index[sides.train])))


def test_a_training_row_is_nearest_to_itself_and_the_others_come_by_distance(
    trained: TrainingRows, predictor: Predictor, tiny: Dataset
) -> None:
    for bank in ("image", "waveform"):
        known = trained.known[bank]
        for row in known.rows[:5]:
            value = {bank: tiny.train.banks[bank].of_rows(np.array([row]))}
            place = trained.placed(bank, predictor.vectors(value)[bank])[0]
            by_distance = known.rows[np.argsort([np.linalg.norm(own - place) for own in known.places])]
            assert by_distance[0] == row
            found = trained.nearest(value)
            assert list(found) == [bank]
            assert found[bank] == [trained.shown(bank, int(own)) for own in by_distance[:SHOWN]]
            assert found[bank][0]["class"] == tiny.classes[tiny.train.labels[row]]


def test_a_picture_is_shown_and_a_sound_is_played(trained: TrainingRows) -> None:
    seen, heard = (trained.shown(bank, int(trained.known[bank].rows[0])) for bank in ("image", "waveform"))
    assert [len(seen[kind]) for kind in ("pictures", "sounds", "numbers")] == [1, 0, 0]
    assert [len(heard[kind]) for kind in ("pictures", "sounds", "numbers")] == [1, 1, 0]
    assert set(heard["groups"]) == {"speaker"}


def test_who_looks_gets_them_beside_the_answer(
    trained: TrainingRows, predictor: Predictor, files: tuple[Path, Path], tmp_path: Path
) -> None:
    row = {"image": base64.b64encode(files[0].read_bytes()).decode()}
    found, alone = (answers(predictor, {"rows": [row], "look": True}, tmp_path, own)[0] for own in (trained, None))
    assert [len(own) for own in found["near"].values()] == [SHOWN]
    assert {**found, "near": {}} == alone


def test_other_data_are_refused(predictor: Predictor, trained: TrainingRows, tiny: Dataset) -> None:
    with pytest.raises(InputError, match=r"the data must be those of the model, digest .*, are other"):
        TrainingRows(predictor, replace(tiny, digest="other"), trained.key)


def test_data_that_are_given_and_are_others_end_it(refusal: Callable[..., str], served: Path, tmp_path: Path) -> None:
    said = refusal(cli.main, "demo", "served", "--store", str(served), "--data", str(tmp_path))
    assert str(tmp_path) in said

"""Every study file: it loads, says what it is, has the report's grid, and trains a few steps of each combination."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmtune.config import flatten, replace_path, replace_paths
from mmtune.data.dataset import Dataset
from mmtune.data.splits import split
from mmtune.errors import InputError
from mmtune.models.build import build_model
from mmtune.study import load_study, narrowed, parse_fixed, studies_folder, study_names
from mmtune.train.trial import run_trial

GRIDS = {"image_cnn": 12, "audio_rnn": 6, "latent_fusion": 2}
NAMES = study_names(studies_folder())


@pytest.mark.parametrize("name", NAMES)
def test_a_study_says_what_it_is(name: str) -> None:
    study = load_study(name)
    for fact in ("Paper:", f"Command: make study NAME={name}", "Time, 2 cores", "Reported:"):
        assert fact in study.doc, fact
    assert study.paper in study.doc
    for value in study.reported.values():
        assert f"{100 * value:g}" in study.doc.replace(".0 %", " %")


@pytest.mark.parametrize("name", NAMES)
def test_the_grid_is_the_reports_and_holds_each_combination_once(name: str) -> None:
    drawn = load_study(name).combinations()
    assert len(drawn) == GRIDS[name]
    assert len({tuple(values.items()) for values in drawn}) == len(drawn)


@pytest.mark.parametrize("name", NAMES)
def test_every_combination_is_a_model_that_can_be_built(name: str) -> None:
    study = load_study(name)
    sizes = {
        sum(p.numel() for p in build_model(replace_paths(study.base, values).model).parameters())
        for values in study.combinations()
    }
    assert sizes


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_for_an_epoch_and_leaves_a_model(name: str, tiny: Dataset, tmp_path: Path) -> None:
    config = replace_path(load_study(name).base, "train.epochs", 1)
    made = split(tiny.train, "clip_disjoint", 0)
    metrics, pruned = run_trial(config, tiny.train, made, 0, tmp_path, torch.device("cpu"), lambda e, m: True)
    assert not pruned
    assert 0 <= metrics["best_val_macro_f1"] <= 1
    assert {"val_ari", "val_nmi", "val_purity", "val_f1_0", "val_f1_9"} <= set(metrics)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == [
        "model.json",
        "validation.npz",
        "weights.safetensors",
    ]


def test_choices_are_settled_by_name_and_checked() -> None:
    study = load_study("image_cnn")
    fixed = parse_fixed(["kernel=5", "train.learning_rate=0.001"], study.base)
    assert fixed == {"model.kernel": 5, "train.learning_rate": 0.001}
    base, space = narrowed(study, "grid", fixed)
    assert flatten(base)["model.kernel"] == 5
    assert [choice.path for choice in space] == ["model.norm", "model.activation"]
    for text, said in [
        ("kernel", "takes NAME=VALUE"),
        ("kernle=3", "takes NAME=VALUE with one of model.kernel"),
        ("kernel=x", "model.kernel must be of type int, got 'x'"),
    ]:
        with pytest.raises(InputError, match=said):
            parse_fixed([text], study.base)
    with pytest.raises(InputError, match="kernel must be one of 3, 5, got 4"):
        narrowed(study, "grid", {"model.kernel": 4})
    with pytest.raises(InputError, match=r"train.learning_rate must be in 0.0001 to 0.1 \(log\), got 1.0"):
        narrowed(study, "tpe", {"train.learning_rate": 1.0})


def test_an_unknown_study_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="NAME must be one of audio_rnn, image_cnn, latent_fusion, got 'audio'"):
        load_study("audio")

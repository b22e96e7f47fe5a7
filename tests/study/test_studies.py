"""Every study file: it loads, says what it is, has the report's grid, and trains a few steps of each combination."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from shapes import built

from mmtune.base.errors import InputError
from mmtune.base.fields import flatten, replace_path, replace_paths
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import split
from mmtune.study import Study, load_study, parse_fixed, study_files, with_fixed
from mmtune.study.definition import schedule
from mmtune.study.schedule import Schedule
from mmtune.study.space import Categorical, Choice, Integer, Value, draw
from mmtune.train.batches import Resident
from mmtune.train.staging import FILES, read_result
from mmtune.train.trial import run_trial

TRIALS = {
    "image_cnn": 12,
    "audio_rnn": 6,
    "audio_mel": 8,
    "mel_fusion": 8,
    "latent_fusion": 2,
    "multihead_fusion": 13,
    "dual_cnn_fusion": 16,
    "spectrogram_fusion": 9 + 12 + 4,
    "xflow_cnn_mlp": 4,
    "xflow_cnn_mlp_baseline": 1,
    "xflow_lstm": 4,
    "xflow_lstm_baseline": 1,
    "image_cnn_recipe": 30,
    "latent_fusion_recipe": 30,
    "frontier_image": 9,
    "frontier_audio": 9,
    "frontier_fusion": 12,
}
# What `mmtune best` has written here is somebody's own.
NAMES = [name for name in study_files() if not name.startswith("best_")]


def usual(study: Study) -> Schedule:
    return schedule(study, study.sampler, study.base, {})


@pytest.mark.parametrize("name", NAMES)
def test_a_study_says_what_it_is(name: str) -> None:
    study = load_study(name)
    for fact in ("Paper:", f"Command: make study NAME={name}", "Time, 2 cores", "Reported:"):
        assert fact in study.doc, fact
    assert study.paper in study.doc
    for value in study.reported.values():
        assert f"{100 * value:g}" in study.doc.replace(".0 %", " %")


@pytest.mark.parametrize("name", NAMES)
def test_its_usual_trials_are_the_reports(name: str) -> None:
    study = load_study(name)
    made = usual(study)
    assert made.trials == TRIALS[name]
    if study.sampler not in ("phases", "tpe"):
        drawn = [made.draw(index, ()).given for index in range(made.trials)]
        assert len({tuple(values.items()) for values in drawn}) == len(drawn)


@pytest.mark.parametrize("name", NAMES)
def test_every_trial_it_may_make_is_a_model_that_can_be_built(name: str) -> None:
    """All of the enumerated ones, and random draws from the whole space."""
    study = load_study(name)
    made, generator = usual(study), np.random.default_rng(0)
    flat = flatten(study.base)
    drawn = [draw(study.space, flat, lambda choice: pick(choice, generator)) for _ in range(10)]
    enumerated = [made.draw(index, ()).given for index in range(made.trials)] if study.sampler != "phases" else []
    configs = [made.configure(study.base, values) for values in enumerated]
    with torch.device("meta"):
        for config in [*configs, *(replace_paths(study.base, values) for values in drawn)]:
            assert sum(p.numel() for p in built(config.model).parameters()) > 0


def pick(choice: Choice, generator: np.random.Generator) -> Value:
    if isinstance(choice, Categorical):
        return choice.values[generator.integers(len(choice.values))]
    value = generator.uniform(choice.low, choice.high)
    return round(value) if isinstance(choice, Integer) else float(value)


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_for_an_epoch_and_leaves_a_model(name: str, tiny: Dataset, tmp_path: Path) -> None:
    config = replace_path(load_study(name).base, "train.epochs", 1)
    made = split(tiny.train, "clip_disjoint", 0)
    data = Resident(tiny.train, 10, torch.device("cpu"))
    result = run_trial(config, data, made, 0, tmp_path, lambda e, m: True)
    assert read_result(tmp_path) == result
    assert result.state == "COMPLETE"
    metrics, files = result.metrics, tmp_path / FILES
    assert 0 <= metrics["best_val_macro_f1"] <= 1
    assert {"val_ari", "val_nmi", "val_purity", "val_f1_0", "val_f1_9"} <= set(metrics)
    written = {str(p.relative_to(files)) for p in files.rglob("*") if p.is_file()}
    wanted = {"model/model.json", "model/weights.safetensors", "validation.npz", "calibration.json"}
    if config.train.keep_final:
        wanted |= {"final/model.json", "final/weights.safetensors", "final/optimizer.safetensors"}
        assert 0 <= metrics["final_val_macro_f1"] <= 1
    assert wanted <= written <= wanted | {"maps.npz"}


def test_choices_are_fixed_by_name_and_checked() -> None:
    study = load_study("image_cnn")
    fixed = parse_fixed(["kernel=5", "train.learning_rate=0.001"], study.base)
    assert fixed == {"model.kernel": 5, "train.learning_rate": 0.001}
    base = with_fixed(study, fixed, None)
    assert flatten(base)["model.kernel"] == 5
    assert [choice.path for choice in schedule(study, "grid", base, fixed).space] == ["model.norm", "model.activation"]
    for text, said in [
        ("kernel", "takes NAME=VALUE"),
        ("kernle=3", "takes NAME=VALUE with one of model.kernel"),
        ("kernel=x", "model.kernel must be of type int, got 'x'"),
    ]:
        with pytest.raises(InputError, match=said):
            parse_fixed([text], study.base)
    with pytest.raises(InputError, match="kernel must be a whole number from 1 to 27, got 0"):
        with_fixed(study, {"model.kernel": 0}, None)
    with pytest.raises(InputError, match=r"model.kernel must be of type int as 3 is, got '7'"):
        with_fixed(study, {"model.kernel": "7"}, None)


def test_what_a_paper_tried_binds_nobody() -> None:
    """A filter of 7 and a rate of 1 are in no paper, and a study's own values are its own."""
    study = load_study("image_cnn")
    fixed = parse_fixed(["kernel=7", "learning_rate=1"], study.base)
    base = with_fixed(study, fixed, None)
    left = schedule(study, "tpe", base, fixed).space
    assert flatten(base)["model.kernel"] == 7
    assert not {"model.kernel", "train.learning_rate"} & {choice.path for choice in left}
    wide = tuple(replace(own, values=(3, 7, 9)) if own.path == "model.kernel" else own for own in study.space)  # type: ignore[call-arg]
    own = Study(name="mine", base=study.base, space=wide, grid={"model.kernel": (7, 9)})
    built = [schedule(own, "grid", own.base, {}).configure(own.base, {"model.kernel": size}) for size in (7, 9)]
    assert [config.model.kernel for config in built] == [7, 9]


def test_an_unknown_study_is_refused_with_those_there_are() -> None:
    with pytest.raises(
        InputError, match=r"NAME must be one of audio_mel, audio_rnn, .*dual_cnn_fusion, .*, got 'audio'"
    ):
        load_study("audio")

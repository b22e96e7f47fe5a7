"""Configurations check themselves and survive the trip through JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mmtune.base.errors import InputError
from mmtune.base.fields import flatten, replace_path, replace_paths
from mmtune.networks import config as shipped
from mmtune.networks.config import AudioRNNConfig, ImageCNNConfig, LatentFusionConfig
from mmtune.networks.kinds import config_to_json, model_from_json
from mmtune.train.recipe import Train, TrialConfig

MODELS = [
    *(getattr(shipped, name)() for name in shipped.__all__ if name.endswith("Config")),
    ImageCNNConfig(kernel=5, activation="relu", norm="l1-l2", pools="3-4"),
    AudioRNNConfig(hidden=400, layers=2, view="sequence"),
    LatentFusionConfig(layers=2, image=ImageCNNConfig(dropout=0.2), audio=AudioRNNConfig(hidden=7)),
]


def names(model: object) -> str:
    return type(model).__name__


@pytest.mark.parametrize("model", MODELS, ids=names)
def test_json_round_trip(model: Any) -> None:
    assert model_from_json(json.loads(json.dumps(config_to_json(model)))) == model


@pytest.mark.parametrize("model", MODELS, ids=names)
def test_a_configuration_is_its_flat_values(model: Any) -> None:
    config = TrialConfig(model=model)
    blank = TrialConfig(model=type(model)())
    assert replace_paths(blank, flatten(config)) == config


@pytest.mark.parametrize(
    ("cls", "values", "said"),
    [
        (ImageCNNConfig, {"kernel": 0}, "kernel must be a whole number from 1 to 27, got 0"),
        (ImageCNNConfig, {"kernel": 3.0}, "kernel must be a whole number from 1 to 27, got 3.0"),
        (ImageCNNConfig, {"dropout": float("nan")}, "dropout must be a number from 0 to 0.95, got nan"),
        (AudioRNNConfig, {"hidden": 0}, "hidden must be a whole number from 1 to 8192, got 0"),
        (AudioRNNConfig, {"layers": True}, "layers must be a whole number"),
        (LatentFusionConfig, {"encoders": "joint", "embedding": 10}, "embedding must be 64 where encoders=joint"),
        (Train, {"batch_size": 1}, "batch_size must be a whole number from 2"),
        (Train, {"learning_rate": float("inf")}, "learning_rate must be a number"),
    ],
)
def test_bad_values_are_refused_with_rule_and_value(cls: Any, values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=r"^[^\n]*$") as caught:
        cls(**values)
    assert str(caught.value).startswith(said)


def test_unknown_fields_and_kinds_are_refused() -> None:
    with pytest.raises(InputError, match="has no field 'kernle'; it has kernel"):
        replace_path(TrialConfig(model=ImageCNNConfig()), "model.kernle", 3)
    with pytest.raises(InputError, match="kind of a network must be one of"):
        model_from_json({"kind": "resnet"})
    with pytest.raises(InputError, match="'AudioRNNConfig' does not take hiden"):
        model_from_json({"kind": "AudioRNNConfig", "hiden": 3})

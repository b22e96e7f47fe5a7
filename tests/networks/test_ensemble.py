"""One of several kinds, and several networks as one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from mmtune.base.errors import InputError
from mmtune.base.fields import flatten, replace_path
from mmtune.networks.config import MLP, Ensemble, LateFusion, LatentFusionConfig, OneOf, SmallCNN, SmallResNet, Sum
from mmtune.networks.config.ensemble import built_of
from mmtune.networks.kinds import config_from_json, config_to_json
from mmtune.networks.output import answer, count_parameters
from mmtune.networks.shapes import Shapes
from mmtune.networks.storage import load_model, save_model
from mmtune.networks.vectors import answer_and_vectors
from mmtune.study.space import Categorical, Real, draw, one_of

SHAPES = Shapes(banks={"image": (1, 8, 8), "scan": (6,)}, classes=3)
ENCODER = OneOf(chosen="cnn", options={"cnn": SmallCNN(width=8, channels=4), "mlp": MLP(width=5, hidden=7)})
BOTH = LateFusion(encoders={"image": ENCODER, "scan": MLP(width=4, hidden=6)}, fusion=Sum())
SCAN = LateFusion(encoders={"scan": MLP(width=3, hidden=5)})


def ensemble(**changes: Any) -> Ensemble:
    told: dict[str, Any] = {
        "members": {"one": BOTH, "two": replace_path(BOTH, "encoders.image.chosen", "mlp"), "three": SCAN},
        "weights": {"one": 0.25, "two": 0.5, "three": 0.25},
        "temperatures": {"one": 1.0, "two": 2.0, "three": 0.5},
    }
    return Ensemble(**{**told, **changes})


def inputs(rows: int = 5) -> dict[str, torch.Tensor]:
    return {"image": torch.rand(rows, 1, 8, 8), "scan": torch.rand(rows, 6)}


def test_one_of_is_the_chosen_one() -> None:
    for name, own in ENCODER.options.items():
        chosen = replace_path(ENCODER, "chosen", name)
        assert chosen.width == own.width
        assert count_parameters(chosen.build((1, 8, 8))) == count_parameters(own.build((1, 8, 8)))
    assert config_from_json(config_to_json(ENCODER)) == ENCODER
    assert flatten(BOTH)["encoders.image.options.mlp.hidden"] == 7
    with pytest.raises(InputError, match="chosen must be one of cnn, mlp, got 'rnn'"):
        replace_path(ENCODER, "chosen", "rnn")


def test_what_is_not_chosen_is_not_built_and_fields_of_the_same_names_of_another_class_stay() -> None:
    @dataclass(frozen=True)
    class Mine:
        chosen: str = "a"
        options: Mapping[str, int] = field(default_factory=lambda: {"a": 1, "b": 2})

    chosen = flatten(BOTH, inner=built_of)
    assert set(flatten(BOTH)) - set(chosen) == {
        path for path in flatten(BOTH) if ".options." in path and f".options.{ENCODER.chosen}." not in path
    }
    assert flatten({"own": Mine()}, inner=built_of) == {"own.chosen": "a", "own.options.a": 1, "own.options.b": 2}


def test_a_space_draws_of_options_the_chosen_one_s_choices_alone() -> None:
    """Also those of a choice that had a condition of its own, which is kept."""
    spaces = {
        "cnn": (Real(path="dropout", low=0.0, high=0.5),),
        "mlp": (
            Categorical(path="norm", values=("batch", "none")),
            Real(path="dropout", low=0.0, high=0.5, when=("norm", "none")),
        ),
    }
    space = one_of("model.encoder", spaces)
    first = draw(space, {}, lambda choice: choice.values[0] if isinstance(choice, Categorical) else 0.1)
    last = draw(space, {}, lambda choice: choice.values[-1] if isinstance(choice, Categorical) else 0.1)
    assert first == {"model.encoder.chosen": "cnn", "model.encoder.options.cnn.dropout": 0.1}
    own = {"model.encoder.options.mlp.norm": "none", "model.encoder.options.mlp.dropout": 0.1}
    assert last == {"model.encoder.chosen": "mlp", **own}


def test_an_ensemble_says_the_mean_of_its_members_probabilities() -> None:
    torch.manual_seed(0)
    config, given = ensemble(), inputs()
    model = config.build(SHAPES).eval()
    assert config.reads == ("image", "scan")
    with torch.no_grad():
        found = answer(model, given)
        said = {
            name: answer(member, {bank: given[bank] for bank in config.members[name].reads})
            for name, member in model.members.items()
        }
    shares = {name: torch.softmax(own.logits / config.temperatures[name], 1) for name, own in said.items()}
    mean = sum(config.weights[name] * own for name, own in shares.items())
    torch.testing.assert_close(torch.softmax(found.logits, 1), mean)
    torch.testing.assert_close(found.logits.exp(), mean)
    assert torch.equal(found.embedding, torch.cat([own.embedding for own in said.values()], dim=1))
    # The picture alone is what two of the three say of it, by their weights.
    of_two = [(config.weights[name], torch.softmax(said[name].alone["image"] / config.temperatures[name], 1))
              for name in ("one", "two")]  # fmt: skip
    alone = sum(weight * own for weight, own in of_two) / 0.75
    torch.testing.assert_close(torch.softmax(found.alone["image"], 1), alone)
    assert set(found.alone) == {"image", "scan"}


def test_a_bank_has_no_answer_of_its_own_where_a_member_that_reads_it_has_none() -> None:
    silent = replace_path(BOTH, "alone", False)
    config = ensemble(members={"one": BOTH, "two": silent, "three": SCAN})
    assert config.build(SHAPES).eval()(**inputs()).alone == {}


def test_an_ensemble_is_told_what_is_like_training_by_its_heaviest_member(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config, given = ensemble(), inputs()
    model = config.build(SHAPES).eval()
    _, vectors = answer_and_vectors(model, given)
    _, own = answer_and_vectors(model.members["two"], given)
    assert vectors.keys() == own.keys() == {"image", "scan"}
    assert all(torch.equal(vectors[bank], own[bank]) for bank in own)

    save_model(tmp_path, model, config, SHAPES)
    loaded = load_model(tmp_path)
    assert loaded.config == config
    with torch.no_grad():
        assert torch.equal(loaded.model(**given).logits, model(**given).logits)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"members": {}}, "1 to 32 networks"),
        ({"weights": {"one": 0.5, "two": 0.5}}, "a positive number for each of one, two, three"),
        ({"weights": {"one": 0.5, "two": 0.5, "three": 0.0}}, "a positive number"),
        ({"weights": {"one": 0.5, "two": 0.5, "three": 0.5}}, "weights must be 1 together, got 1.5"),
        ({"temperatures": {"one": 1.0, "two": float("nan"), "three": 1.0}}, "temperatures must be a positive"),
    ],
)
def test_an_ensemble_s_rules(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ensemble(**changes)


def test_residual_members_of_any_kind_are_saved_whole(tmp_path: Path) -> None:
    config = Ensemble(
        members={"a": LateFusion(encoders={"image": SmallResNet(channels=8, width=4)})},
        weights={"a": 1.0},
        temperatures={"a": 1.0},
    )
    model = config.build(SHAPES)
    save_model(tmp_path, model, config, SHAPES)
    assert count_parameters(load_model(tmp_path).model) == count_parameters(model)


def test_one_of_whole_networks_reads_what_the_chosen_one_reads() -> None:
    both = OneOf(chosen="both", options={"both": BOTH, "scan": SCAN})
    assert both.reads == ("image", "scan")
    assert replace_path(both, "chosen", "scan").reads == ("scan",)
    with pytest.raises(InputError, match="options must train all of a network, joshi starts from encoders that stay"):
        OneOf(chosen="both", options={"both": BOTH, "joshi": LatentFusionConfig()})

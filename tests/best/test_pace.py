"""How long trainings may be, and what there is time for."""

from __future__ import annotations

import math

import pytest

from mmtune.best.pace import (
    FEWEST,
    GPU_AT_ONCE,
    MOST,
    NO_TIME,
    STEPS,
    SURE,
    TRAININGS,
    Pace,
    at_once,
    enough_epochs,
    epoch_seconds,
    epochs_for,
    longer,
    paced,
)
from mmtune.data.dataset import Dataset
from mmtune.data.protocols import split
from mmtune.networks.config import MLP, LateFusion, OneOf, SmallCNN, SmallResNet
from mmtune.study import Study
from mmtune.study.space import Real, one_of
from mmtune.train.recipe import TrialConfig

ENOUGH = 8
PICTURE = OneOf(chosen="resnet", options={"resnet": SmallResNet(), "cnn": SmallCNN(), "mlp": MLP()})
SOUND = OneOf(chosen="cnn", options={"cnn": SmallCNN(), "mlp": MLP()})
DROPOUT = (Real(path="dropout", low=0.0, high=0.5),)
STUDY = Study(
    name="mine",
    base=TrialConfig(model=LateFusion(encoders={"image": PICTURE, "audio": SOUND})),
    space=one_of("model.encoders.image", {"resnet": DROPOUT, "cnn": DROPOUT, "mlp": ()})
    + one_of("model.encoders.audio", {"cnn": (), "mlp": DROPOUT}),
)
COSTS = {
    ("image", "resnet"): 10.0,
    ("image", "cnn"): 3.0,
    ("image", "mlp"): 0.5,
    ("audio", "cnn"): 2.0,
    ("audio", "mlp"): 0.5,
}


def of_one(config: TrialConfig) -> float:
    return sum(COSTS[bank, own.chosen] for bank, own in config.model.encoders.items())


def pace(epochs: float) -> Pace:
    """With time for so many epochs of the base."""
    return paced(STUDY, TRAININGS * epochs * 12.0 / 2, 2, ENOUGH, of_one)


def test_trainings_are_as_long_as_the_time_has_room_for() -> None:
    assert epochs_for(3600, 2, 60.0) == int(3600 * 2 / (60 * TRAININGS))
    assert epochs_for(1, 2, 60.0) == FEWEST
    assert epochs_for(3600, 2, 0.001) == MOST


def test_few_rows_want_more_epochs() -> None:
    assert enough_epochs(STUDY, STUDY.base.train.batch_size * STEPS) == FEWEST
    assert enough_epochs(STUDY, STUDY.base.train.batch_size * STEPS // 20) == 20
    assert enough_epochs(STUDY, 2) == MOST


def test_where_there_is_time_the_study_stays_as_it_is() -> None:
    found = pace(ENOUGH + 0.1)
    assert (found.chosen, found.left_out, found.seconds, found.epochs) == ({}, {}, 12.0, ENOUGH)
    assert found.narrowed(STUDY) == STUDY


def test_the_dearest_part_makes_room_first_and_what_is_too_dear_is_left_out() -> None:
    found = pace(ENOUGH / 4)
    assert found.chosen == {"model.encoders.image": "mlp"}
    assert found.left_out == {"model.encoders.image": dict.fromkeys(["resnet", "cnn"], NO_TIME)}
    assert (found.seconds, found.epochs) == (2.5, 9)
    study = found.narrowed(STUDY)
    assert study.base.model.encoders["image"].chosen == "mlp"
    assert study.base.model.encoders["audio"].chosen == "cnn"
    by_path = {choice.path: choice for choice in study.space}
    assert by_path["model.encoders.image.chosen"].values == ("mlp",)
    assert not any(".resnet." in path or ".image.options.cnn." in path for path in by_path)
    assert "model.encoders.audio.options.mlp.dropout" in by_path


def test_where_nothing_is_cheap_enough_the_cheapest_is_trained_for_the_fewest_epochs() -> None:
    found = pace(0.1)
    assert found.chosen == {"model.encoders.image": "mlp", "model.encoders.audio": "mlp"}
    assert found.epochs == FEWEST


def test_an_option_that_does_not_train_is_left_out_and_the_base_s_own_need_not_be_an_option() -> None:
    def fails(config: TrialConfig) -> float:
        if config.model.encoders["image"].chosen == "cnn":
            raise RuntimeError("does not fit")
        return of_one(config)

    short = one_of("model.encoders.image", {"cnn": (), "mlp": ()})
    found = paced(Study(name="mine", base=STUDY.base, space=short), 1.0, 2, ENOUGH, fails)
    assert found.chosen == {"model.encoders.image": "mlp"}
    assert found.left_out["model.encoders.image"]["cnn"] == "it does not train on these data: does not fit"
    assert found.narrowed(Study(name="mine", base=STUDY.base, space=short)).space[0].values == ("mlp",)


def test_trainings_share_a_gpu() -> None:
    assert (at_once(8, "cpu"), at_once(2, "cuda"), at_once(8, "cuda:0")) == (8, 2, GPU_AT_ONCE)


def test_an_epoch_is_timed_on_few_rows(tiny: Dataset) -> None:
    """Real, and only its order: a ResNet of many channels takes longer than one linear layer."""
    sides = split(tiny.train, "clip_disjoint", 0)
    cheap, dear = (
        epoch_seconds(TrialConfig(model=LateFusion(encoders={"image": own})), tiny, sides, "cpu")
        for own in (MLP(hidden=4, width=4), SmallResNet(channels=64))
    )
    assert 0 < cheap < dear


@pytest.mark.parametrize("seconds", [1.0, 1e6])
def test_a_pace_asks_of_a_study_without_kinds_the_base_alone(seconds: float) -> None:
    plain = Study(name="plain", base=TrialConfig(model=LateFusion(encoders={"image": MLP()})), space=())
    asked: list[TrialConfig] = []
    found = paced(plain, seconds, 2, ENOUGH, lambda config: asked.append(config) or 5.0)
    assert asked == [plain.base]
    assert found.narrowed(plain) == plain


@pytest.mark.parametrize(("seconds", "workers", "epochs"), [(10.0, 2, 10), (100.0, 2, 10), (333.0, 1, 7), (50.0, 4, 3)])
def test_what_is_left_of_the_time_makes_trainings_longer(seconds: float, workers: int, epochs: int) -> None:
    """Never shorter, no longer than there is time for, and another epoch would not fit."""
    found = longer(epochs, 2.0, seconds, workers, 6)
    assert found >= epochs
    if 2.0 * epochs <= SURE * seconds:
        rounds = min(int(SURE * seconds / (2.0 * epochs)), math.ceil(6 / workers))
        assert rounds * found * 2.0 <= SURE * seconds
        assert found == MOST or rounds * (found + 1) * 2.0 > SURE * seconds

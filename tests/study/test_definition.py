"""Three fields are enough for a study of one's own, and what is none is refused in a line when it is made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from mmtune.base.errors import InputError
from mmtune.base.fields import flatten
from mmtune.networks.config import AudioRNNConfig, LateFusion, OneOf, SmallCNN
from mmtune.networks.config.ensemble import every_bank
from mmtune.study import Study, parse_fixed, with_fixed
from mmtune.study.definition import paths_fixed, schedule, usual_sampler
from mmtune.study.schedule import Sampled
from mmtune.study.space import Categorical, Choice, Integer, Real
from mmtune.train.augmentations import PictureAugmentation
from mmtune.train.recipe import Train, TrialConfig


@dataclass(frozen=True)
class Encoder:
    width: int = 3


@dataclass(frozen=True)
class Net:
    encoders: Mapping[str, Any] = field(default_factory=lambda: {"image": Encoder(), "table": Encoder(5)})
    act: str = "relu"
    extra: Any = None

    @property
    def reads(self) -> tuple[str, ...]:
        return tuple(self.encoders)

    def build(self, shapes: Any) -> Any:
        raise NotImplementedError


WIDTH = Integer(path="model.encoders.image.width", low=1, high=9)
MINE = Study(name="mine", base=TrialConfig(model=Net()), space=(WIDTH,))


def test_name_base_and_space_are_enough() -> None:
    own = replace(MINE, space=(replace(WIDTH, high=99),))
    assert own.sampler == "tpe"
    made = schedule(own, own.sampler, own.base, {})
    assert isinstance(made, Sampled)
    assert made.trials == own.trials
    assert schedule(own, "random", own.base, {}, trials=4).trials == 4
    assert schedule(own, "reported", own.base, {}).trials == 1
    assert own.epochs == (10, 10)


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
def test_a_sampler_that_learns_begins_with_the_base(sampler: str) -> None:
    wide = replace(MINE, space=(replace(WIDTH, high=99),))
    made = schedule(wide, sampler, wide.base, {})
    assert made.draw(0, ()).given == {WIDTH.path: 3}
    assert not made.draw(1, ()).given
    # At random is at random, and a base that the space has not is no point of it.
    for own in (
        schedule(wide, "random", wide.base, {}),
        schedule(replace(MINE, space=(replace(WIDTH, low=4),)), sampler, MINE.base, {}),
    ):
        assert (own.draw(0, ()).given, own.draw(0, ()).sampler) == ({}, own.sampler)


def test_where_there_are_few_combinations_each_is_a_trial() -> None:
    tanh = Categorical(path="model.act", values=("relu", "tanh"))
    few = replace(MINE, space=(replace(WIDTH, high=3, when=("model.act", "relu")), tanh)[::-1], trials=6)
    assert few.sampler == "grid"
    made = schedule(few, few.sampler, few.base, {})
    assert [made.draw(index, ()).given for index in range(made.trials)] == [
        *({"model.act": "relu", WIDTH.path: width} for width in (1, 2, 3)),
        {"model.act": "tanh"},
    ]
    fixed = {"model.act": "tanh"}
    assert schedule(few, "grid", with_fixed(few, fixed, None), fixed).trials == 1
    assert [replace(few, trials=count).sampler for count in (3, 4)] == ["tpe", "grid"]
    assert usual_sampler(replace(few, trials=1), with_fixed(few, fixed, None), fixed) == "grid"
    assert replace(MINE, space=()).sampler == "grid"


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (Categorical(path="train.optimizer", values=("adam", "Lion")), "optimizer must be one of adam, adamw"),
        (Real(path="train.batch_size", low=8, high=64), "train.batch_size must be an Integer as 64 is, got a Real"),
        (Integer(path="train.batch_size", low=1, high=64), "train.batch_size must be a whole number from 2"),
        (Real(path="train.momentum", low=0.5, high=1.5), "train.momentum must be a number from 0 to 0.9999, got 1.5"),
        (Real(path=WIDTH.path, low=1, high=2), "model.encoders.image.width must be an Integer as 3 is, got a Real"),
        (Integer(path="train.epochs", low=1, high=9), "the epochs are its budget, so the space must not have"),
    ],
    ids=str,
)
def test_what_no_trial_could_be_made_of_is_not_in_a_space(choice: Choice, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        replace(MINE, space=(choice,))


TANH = Categorical(path="model.act", values=("relu", "tanh"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"space": TANH}, "space must be a tuple of choices, such as (Real(...), Categorical(...)), got Categorical"),
        ({"space": ("model.act",)}, "a tuple of choices, such as (Real(...), Categorical(...)), got 'model.act'"),
        ({"base": None}, "base must be a TrialConfig(model=..., train=...), got None"),
        ({"base": Net()}, "base must be a TrialConfig(model=..., train=...), got Net("),
        ({"grid": {TANH.path: 5}, "space": (TANH,)}, "grid of model.act must be a tuple of values, got 5"),
        ({"tries": {"a": 1}}, "try a must be values by path, got 1"),
        ({"repeats": "median"}, "repeats must be one of mean, best, got 'median'"),
        ({"space": (replace(WIDTH, when=TANH.path), TANH)}, "when of model.encoders.image.width must be a path"),
        ({"space": (replace(WIDTH, when=("model.akt", "relu")),)}, "a field of the configuration, got 'model.akt'"),
        ({"space": (TANH, replace(WIDTH, when=(TANH.path, "gelu")))}, "can have, {relu, tanh}, got 'gelu'"),
        ({"space": (replace(WIDTH, when=(TANH.path, 3)),)}, "must be of type str as 'relu' is, got 3"),
        ({"space": (replace(WIDTH, when=(TANH.path, "relu")), TANH)}, "model.act must stand before it in the space"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_study_is_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)) as refused:
        replace(MINE, **changes)
    assert str(refused.value).startswith("study mine: ")
    assert "\n" not in str(refused.value)


def test_a_field_that_a_card_calls_otherwise_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Kinded(Net):
        kind: str = "deep"

    with pytest.raises(InputError, match="kind must have another name than kind"):
        replace(MINE, base=TrialConfig(model=Kinded()))


def test_a_value_is_fixed_as_its_field_has_it_wherever_it_comes_from() -> None:
    told = paths_fixed({"clip": 1, "batch_size": np.int64(8), "learning_rate": np.float32(0.5)}, MINE.base)
    assert told == parse_fixed(["clip=1", "batch_size=8", "learning_rate=0.5"], MINE.base)
    assert [type(own) for own in told.values()] == [float, int, float]


def test_the_only_choice_of_a_name_is_fixed_by_it_where_other_fields_have_it_too() -> None:
    assert parse_fixed(["width=7"], MINE.base, MINE.space) == paths_fixed({"width": 7}, MINE.base, MINE.space)
    assert parse_fixed(["width=7"], MINE.base, MINE.space) == {WIDTH.path: 7}
    both = (WIDTH, replace(WIDTH, path="model.encoders.table.width"))
    with pytest.raises(InputError, match=r"image\.width, model\.encoders\.table\.width, got"):
        parse_fixed(["width=7"], MINE.base, both)


def test_an_option_that_reads_fewer_banks_is_trained_by_the_same_recipe() -> None:
    both = replace(MINE.base.model, act="relu")
    one = LateFusion(encoders={"image": SmallCNN(width=4, channels=2)})
    reads = both.reads
    bank = next(own for own in reads if own != "image")
    recipe = Train(augment={bank: PictureAugmentation()}, modality_dropout=0.2)
    for chosen in ("both", "one"):
        config = TrialConfig(model=OneOf(chosen=chosen, options={"both": both, "one": one}), train=recipe)
        assert set(every_bank(config.model)) == set(reads) | {"image"}
    with pytest.raises(InputError, match="augment must name banks that the network reads"):
        TrialConfig(model=one, train=recipe)


def test_augmentations_that_are_not_by_bank_are_refused() -> None:
    with pytest.raises(InputError, match=r"augment must be by bank, such as .*, got \['image'\]"):
        Train(augment=["image"])  # type: ignore[arg-type]


def test_a_choice_in_a_part_by_name_is_fixed_by_its_path() -> None:
    fixed = parse_fixed(["model.encoders.table.width=7", "act=tanh"], MINE.base)
    assert fixed == {"model.encoders.table.width": 7, "model.act": "tanh"}
    base = with_fixed(MINE, fixed, 2)
    assert base.model.encoders == {"image": Encoder(3), "table": Encoder(7)}
    assert flatten(base)["train.epochs"] == 2
    with pytest.raises(InputError, match=r"with one of model\.encoders\.image\.width, model\.encoders\.table"):
        parse_fixed(["width=7"], MINE.base)


@pytest.mark.parametrize("extra", [None, (5, 3)], ids=str)
def test_what_no_text_can_say_is_not_fixed_by_one(extra: Any) -> None:
    base = TrialConfig(model=Net(extra=extra))
    with pytest.raises(InputError, match=r"--fix takes a text, a number or a truth value, model\.extra is of type"):
        parse_fixed(["extra=5-3"], base)


class Silent(Net):
    """It reads nothing."""

    reads = ()  # type: ignore[assignment]


@dataclass(frozen=True)
class Told(Net):
    """It says what it reads without being made."""

    reads = ("image",)  # type: ignore[assignment]


class Plain:
    """It builds and reads, and has no fields that anybody could name."""

    reads = ("image",)
    build = Net.build


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "my study"}, "a study must have a name such as my_study, got 'my study'"),
        ({"name": ""}, "a study must have a name"),
        ({"name": "../up"}, "a study must have a name"),
        ({"name": "x" * 81}, "a study must have a name"),
        ({"name": "ß"}, "a study must have a name"),
        (
            {"space": (replace(WIDTH, path="model.width"),)},
            "names model.width, which its configuration has not",
        ),
        ({"tries": {"one": {"model.width": 3}}}, "the space names model.width"),
        ({"grid": {"model.width": (3,)}}, "the space names model.width"),
        ({"grid": {"model.act": ("tanh",)}}, "model.act is varied, so it must be in the space"),
        ({"grid": {WIDTH.path: (3, 10)}}, "model.encoders.image.width must be in 1..9, got 10"),
        (
            {"base": TrialConfig(model=Plain()), "space": ()},
            "must be an instance of a dataclass",
        ),
        ({"base": TrialConfig(model=Told)}, "must be an instance of a dataclass"),
        (
            {"base": TrialConfig(model=Silent()), "space": ()},
            "its banks; got Silent with reads ()",
        ),
        ({"base": TrialConfig(model=AudioRNNConfig), "space": ()}, "must be an instance of a dataclass"),
        ({"base": TrialConfig(model=None), "space": ()}, "must be an instance of a dataclass"),
        ({"base": TrialConfig(model=Net(extra=[3]))}, "model.extra must be a text, a number, a truth value"),
        ({"base": TrialConfig(model=Net(extra=len))}, "model.extra must be a text, a number, a truth value"),
        ({"base": TrialConfig(model=Net(extra=Encoder))}, "model.extra must be a text, a number, a truth value"),
        ({"base": TrialConfig(model=Net(extra=(Encoder(),)))}, "model.extra must be a text, a number, a truth value"),
        ({"base": TrialConfig(model=Net(extra=({},)))}, "model.extra must be a text, a number, a truth value"),
        ({"reduced": 0}, "reduced must be a whole number"),
        ({"trials": 0}, "trials must be a whole number"),
        ({"missing": "image"}, "missing must be a tuple of banks of"),
        ({"missing": ("nowhere",)}, "missing must be a tuple of banks of"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_is_no_study_is_refused_in_a_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as refusal:
        replace(MINE, **changes)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("extra", [None, True, 3, 0.5, "x", (1, "x", None), (), Encoder()], ids=str)
def test_fields_hold_what_can_be_told_as_it_is(extra: Any) -> None:
    assert replace(MINE, base=TrialConfig(model=Net(extra=extra))).base.model.extra == extra


def test_a_space_of_every_kind_of_choice_draws_into_a_part_by_name() -> None:
    space = (
        WIDTH,
        Categorical(path="model.act", values=("relu", "tanh")),
        Real(path="train.learning_rate", low=1e-4, high=1e-2, log=True),
    )
    made = schedule(replace(MINE, space=space), "random", MINE.base, {"model.act": "tanh"})
    assert [choice.path for choice in made.space] == [WIDTH.path, "train.learning_rate"]
    assert made.configure(MINE.base, {WIDTH.path: 8}).model.encoders["image"] == Encoder(8)

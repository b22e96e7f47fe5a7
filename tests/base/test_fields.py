"""Configurations by dotted paths, through fields that are configurations and through several by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmtune.base.errors import InputError
from mmtune.base.fields import flatten, replace_path, replace_paths


@dataclass(frozen=True)
class Encoder:
    width: int = 3
    kernels: tuple[int, ...] = (5, 3)


@dataclass(frozen=True)
class Pair:
    """Two fields that only fit together."""

    low: int = 1
    high: int = 2

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise InputError("low must be at most high")


@dataclass(frozen=True)
class Net:
    encoders: Mapping[str, Any] = field(default_factory=lambda: {"image": Encoder(4), "audio": Encoder(5)})
    head: Encoder = Encoder(6)
    rates: Mapping[str, float] = field(default_factory=lambda: {"first": 0.5})
    pair: Pair = Pair()
    name: str = "x"


@dataclass(frozen=True)
class Trial:
    model: Net = Net()
    epochs: int = 3


FLAT = {
    "model.encoders.image.width": 4,
    "model.encoders.image.kernels": (5, 3),
    "model.encoders.audio.width": 5,
    "model.encoders.audio.kernels": (5, 3),
    "model.head.width": 6,
    "model.head.kernels": (5, 3),
    "model.rates.first": 0.5,
    "model.pair.low": 1,
    "model.pair.high": 2,
    "model.name": "x",
    "epochs": 3,
}


def test_a_configuration_is_its_paths_in_the_order_of_its_fields() -> None:
    assert list(flatten(Trial()).items()) == list(FLAT.items())


@given(st.fixed_dictionaries({path: st.integers(2, 9) for path in FLAT if "width" in path or "pair" in path}))
def test_what_is_set_is_read_again_and_nothing_else_has_changed(values: dict[str, int]) -> None:
    values["model.pair.high"] += 9
    before = Trial()
    made = replace_paths(before, values)
    assert flatten(made) == {**FLAT, **values}
    assert flatten(before) == FLAT
    assert replace_paths(made, FLAT) == before


def test_a_value_in_one_of_several_by_name_leaves_the_others_as_they_are() -> None:
    before = Trial()
    made = replace_path(before, "model.encoders.image.width", 9)
    assert made.model.encoders == {"image": Encoder(9), "audio": Encoder(5)}
    assert made.model.encoders["audio"] is before.model.encoders["audio"]
    assert made.model.head is before.model.head
    assert replace_path(made, "model.rates.first", 0.1).model.rates == {"first": 0.1}


def test_a_whole_part_is_set_before_what_is_in_it() -> None:
    made = replace_paths(Trial(), {"model.encoders.image.width": 1, "model.encoders.image": Encoder(7, (1,))})
    assert made.model.encoders["image"] == Encoder(1, (1,))


def test_fields_that_depend_on_each_other_change_together() -> None:
    both = {"model.pair.low": 5, "model.pair.high": 6}
    assert replace_paths(Trial(), both).model.pair == Pair(5, 6)
    with pytest.raises(InputError, match="low must be at most high"):
        replace_path(Trial(), "model.pair.low", 5)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("modle.name", "Trial has no field 'modle'; it has model, epochs"),
        ("model.encoders.video.width", "dict has no field 'video'; it has image, audio"),
        ("model.encoders.image.widht", "Encoder has no field 'widht'; it has width, kernels"),
        ("model.name.first", "str has no field 'first'"),
        ("", "Trial has no field ''"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_with_what_there_is(path: str, said: str) -> None:
    with pytest.raises(InputError) as refusal:
        replace_path(Trial(), path, 3)
    assert str(refusal.value).startswith(said)

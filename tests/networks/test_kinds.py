"""A configuration is read by the name of its class, which this process must already know; reading imports nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mmtune.base.errors import InputError
from mmtune.networks import kinds
from mmtune.networks.config import AudioRNNConfig, ImageCNNConfig, LatentFusionConfig
from mmtune.networks.kinds import config_from_json, config_to_json, kind_of, model_from_json, remember
from mmtune.study import load_study


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "KNOWN", {})


@dataclass(frozen=True)
class Layer:
    width: int = 3
    kinds: tuple[str, ...] = ("relu", "tanh")


@dataclass(frozen=True)
class Last:
    """One that stands in a row alone."""

    width: int = 3


@dataclass(frozen=True)
class Net:
    """One with parts by name and in a row, and plain values of each type."""

    encoders: Mapping[str, Any] = field(default_factory=lambda: {"image": Layer(5), "audio": AudioRNNConfig(hidden=4)})
    head: tuple[Any, ...] = (Last(7), Layer(8, ()), Last(1))
    sizes: tuple[int, ...] = (3, 4)
    rate: float = 0.25
    name: str = "kind"
    nothing: None = None
    reads: tuple[str, ...] = ("image", "audio")

    def build(self, shapes: Any) -> Any:
        raise NotImplementedError


def through_json(config: Any) -> Any:
    return config_from_json(json.loads(json.dumps(config_to_json(config))))


def test_parts_by_name_and_in_a_row_come_back_as_they_were() -> None:
    remember(Net())
    made = Net(encoders={"image": Layer(1), "sound": Layer(2)}, head=(Last(9), Layer(1)), sizes=())
    assert through_json(made) == made
    assert model_from_json(config_to_json(made)) == made


def test_a_missing_field_has_its_default_in_parts_too() -> None:
    told = {"kind": "LatentFusionConfig", "layers": 2, "image": {"kind": "ImageCNNConfig", "kernel": 5}}
    assert config_from_json(told) == LatentFusionConfig(layers=2, image=ImageCNNConfig(kernel=5))


def test_a_class_of_ours_goes_by_its_own_name_and_any_other_by_its_modules_too() -> None:
    assert kind_of(AudioRNNConfig) == "AudioRNNConfig"
    assert kind_of(Layer) == f"{__name__}.Layer"


STRANGE = ("", "resnet", "os.system", "mmtune.networks.config.AudioRNNConfig", "NORM_CODES", "Study", "__all__")


@pytest.mark.parametrize(
    "kind",
    [*STRANGE, "x" * 9999, 3, None, [], {}, "bad\nname", "antigravity.Net", "test_kinds.Net"],
    ids=lambda kind: str(kind)[:20],
)
def test_a_kind_that_is_not_known_is_refused_in_a_line_and_imports_nothing(kind: Any) -> None:
    before = set(sys.modules)
    with pytest.raises(InputError, match="kind of a network must be one of mmtune's own or of a study") as refusal:
        config_from_json({"kind": kind, "width": 3})
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 500
    assert set(sys.modules) == before


AUDIO = "network of kind 'AudioRNNConfig' does not take"


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"kind": "AudioRNNConfig", "hiden": 3}, f"{AUDIO} hiden"),
        ({"kind": "AudioRNNConfig", "hidden": "3"}, f"{AUDIO} these fields: hidden must be a whole number"),
        ({"kind": "AudioRNNConfig", "hidden": {"kind": "ImageCNNConfig"}}, f"{AUDIO} these fields: hidden must be"),
        ({"kind": "LatentFusionConfig", "image": {"kind": "Nobody"}}, "kind of a network must be one of"),
        ({"hidden": 3}, "a network must be named by its kind"),
        ([], "a network must be named by its kind"),
        (None, "a network must be named by its kind"),
        ("AudioRNNConfig", "a network must be named by its kind"),
    ],
    ids=str,
)
def test_what_is_no_network_is_refused_in_a_line(told: Any, said: str) -> None:
    with pytest.raises(InputError) as refusal:
        model_from_json(told)
    assert str(refusal.value).startswith(said)
    assert "\n" not in str(refusal.value)


@dataclass(frozen=True)
class Careless:
    """A class that nobody has told that its fields may be anything."""

    name: str = "x"

    def __post_init__(self) -> None:
        assert self.name.lower() == self.name


@pytest.mark.parametrize("name", [3, "X"])
def test_whatever_a_class_raises_is_said_in_a_line(name: Any) -> None:
    remember(Careless())
    with pytest.raises(InputError, match=r"kind '[\w.]*Careless' does not take these fields") as refusal:
        config_from_json({"kind": kind_of(Careless), "name": name})
    assert "\n" not in str(refusal.value)


def test_a_part_alone_is_no_network() -> None:
    remember(Net())
    with pytest.raises(InputError, match="a network must be named by its kind"):
        model_from_json(config_to_json(Layer()))


STUDY = """
from __future__ import annotations

from dataclasses import dataclass, field

from mmtune.study import Study
from mmtune.train.recipe import TrialConfig


@dataclass(frozen=True)
class Part:
    width: int = 3


@dataclass(frozen=True)
class Net:
    parts: dict[str, Part] = field(default_factory=lambda: {"image": Part()})
    reads: tuple[str, ...] = ("image",)

    def build(self, shapes):
        raise NotImplementedError


STUDY = Study(name="mine", base=TrialConfig(model=Net()), space=())
"""


def test_the_classes_of_a_study_are_known_once_it_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(STUDY)
    told = {"kind": "mine.Net", "parts": {"image": {"kind": "mine.Part", "width": 9}}, "reads": ["image"]}
    with pytest.raises(InputError, match=r"got 'mine\.(Net|Part)': name the folder of its study file with --studies"):
        model_from_json(told)
    model = load_study(str(path)).base.model
    assert config_to_json(model) == {**told, "parts": {"image": {"kind": "mine.Part", "width": 3}}}
    found = model_from_json(told)
    assert type(found) is type(model)
    assert found.parts["image"].width == 9

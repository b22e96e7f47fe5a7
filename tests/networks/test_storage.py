"""A saved model comes back bit by bit, and a changed one does not come back."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from shapes import DIGITS, built, inputs_for
from torch import Tensor, nn

from mmtune.base.errors import InputError
from mmtune.networks.card import CARD, WEIGHTS
from mmtune.networks.config import AudioRNNConfig, ImageCNNConfig, LatentFusionConfig
from mmtune.networks.config.base import ModelConfig
from mmtune.networks.kinds import remember
from mmtune.networks.shapes import Shapes
from mmtune.networks.storage import load_model, save_model

CONFIGS = [ImageCNNConfig(kernel=5), AudioRNNConfig(hidden=32), LatentFusionConfig(layers=2)]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
def test_round_trip(tmp_path: Path, config: ModelConfig) -> None:
    model = built(config).eval()
    save_model(tmp_path, model, config, DIGITS)
    loaded = load_model(tmp_path)
    assert (loaded.config, loaded.shapes) == (config, DIGITS)
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    inputs = inputs_for(config, 3)
    assert torch.equal(loaded.model(**inputs).logits, model(**inputs).logits)
    assert not loaded.model.training


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(tmp_path, built(AudioRNNConfig(hidden=8)), AudioRNNConfig(hidden=8), DIGITS)
    return tmp_path


def test_a_flipped_bit_is_refused(saved: Path) -> None:
    weights = bytearray((saved / WEIGHTS).read_bytes())
    weights[-5] ^= 1
    (saved / WEIGHTS).write_bytes(weights)
    with pytest.raises(InputError, match="must have SHA-256"):
        load_model(saved)


def test_a_cut_or_missing_file_is_refused(saved: Path) -> None:
    (saved / WEIGHTS).write_bytes((saved / WEIGHTS).read_bytes()[:100])
    with pytest.raises(InputError, match="must have SHA-256"):
        load_model(saved)
    (saved / WEIGHTS).unlink()
    with pytest.raises(InputError, match="cannot be read"):
        load_model(saved)


@pytest.mark.parametrize("content", ["", "[]", '{"format": 2, "model": {}}', '{"format": 3, "model": {}}', "\x00"])
def test_a_card_that_is_none_is_refused(saved: Path, content: str) -> None:
    (saved / CARD).write_text(content)
    with pytest.raises(InputError, match=CARD):
        load_model(saved)


def test_loading_lays_a_network_out_without_torchs_compiler(tmp_path: Path) -> None:
    """A forward pass without memory would import it, which takes a worker a second."""
    for n, config in enumerate(CONFIGS):
        save_model(tmp_path / str(n), built(config), config, DIGITS)
    code = (
        "import sys; from pathlib import Path; from mmtune.networks.storage import load_model; "
        "[load_model(folder) for folder in Path(sys.argv[1]).iterdir()]; print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_weights_of_another_architecture_are_refused(saved: Path) -> None:
    card = json.loads((saved / CARD).read_text())
    card["model"]["hidden"] = 9
    (saved / CARD).write_text(json.dumps(card))
    with pytest.raises(InputError, match="does not fit the architecture"):
        load_model(saved)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({"banks": {"audio": [39, 13]}, "classes": 7}, "does not fit the architecture"),
        ({"banks": {"audio": [39, 14]}, "classes": 10}, "does not fit the architecture"),
        ({"banks": {"audio": [507]}, "classes": 10}, "audio must be of shape"),
        ({"banks": {}, "classes": 10}, "must name the shapes of banks"),
        ({"banks": {"audio": [39, 0]}, "classes": 10}, "must name the shapes of banks"),
        ({"banks": {"audio": [39, True]}, "classes": 10}, "must name the shapes of banks"),
        ({"banks": {"audio": "39"}, "classes": 10}, "must name the shapes of banks"),
        ({"banks": {"audio": [39, 13]}, "classes": 0}, "must say how many classes"),
        ({"banks": {"audio": [39, 13]}, "classes": 10.0}, "must say how many classes"),
        ([], "must name the shapes of banks"),
        (None, "must name the shapes of banks"),
    ],
    ids=str,
)
def test_shapes_that_are_none_or_those_of_another_network_are_refused(saved: Path, shapes: Any, said: str) -> None:
    card = json.loads((saved / CARD).read_text())
    (saved / CARD).write_text(json.dumps({**card, "shapes": shapes}))
    with pytest.raises(InputError, match=said) as refusal:
        load_model(saved)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("part", [3, "ImageCNNConfig", None, {}, [], {"kind": "AudioRNNConfig"}], ids=str)
def test_a_part_that_is_another_network_or_none_is_refused_in_a_line(tmp_path: Path, part: Any) -> None:
    config = LatentFusionConfig()
    save_model(tmp_path, built(config), config, DIGITS)
    card = json.loads((tmp_path / CARD).read_text())
    card["model"]["image"] = part
    (tmp_path / CARD).write_text(json.dumps(card))
    with pytest.raises(InputError, match="must describe a network that can be built") as refusal:
        load_model(tmp_path)
    assert "\n" not in str(refusal.value)


def test_shapes_that_ask_for_terabytes_are_refused_without_taking_them(saved: Path) -> None:
    card = json.loads((saved / CARD).read_text())
    card["shapes"]["banks"]["audio"] = [2**31 - 1, 2**31 - 1]
    (saved / CARD).write_text(json.dumps(card))
    with pytest.raises(InputError, match=r"must describe a network that can be built|does not fit the architecture"):
        load_model(saved)


@dataclass(frozen=True, kw_only=True)
class LinearConfig:
    """A network that is nobody's but the user's: it has no base of ours and returns plain logits."""

    reads: ClassVar[tuple[str, ...]] = ("audio",)
    bias: bool = True

    def build(self, shapes: Shapes) -> nn.Module:
        return Linear(shapes["audio"], shapes.classes, self.bias)


class Linear(nn.Module):
    def __init__(self, shape: tuple[int, ...], classes: int, bias: bool) -> None:
        super().__init__()
        self.layer = nn.Linear(math.prod(shape), classes, bias)

    def forward(self, audio: Tensor) -> Tensor:
        return self.layer(audio.flatten(1))


def test_a_network_of_ones_own_is_saved_under_its_name_and_read_only_where_that_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, inputs = LinearConfig(bias=False), torch.rand(3, 39, 13)
    model = config.build(DIGITS)
    save_model(tmp_path, model, config, DIGITS)
    monkeypatch.setattr("mmtune.networks.kinds.KNOWN", {})
    with pytest.raises(InputError, match="kind of a network must be one of mmtune's own or of a study that is at hand"):
        load_model(tmp_path)
    remember(config)
    loaded = load_model(tmp_path)
    assert loaded.config == config
    assert torch.equal(loaded.model(inputs), model(inputs))


def test_weights_that_are_one_are_saved_and_are_one_again(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class TiedConfig(LinearConfig):
        def build(self, shapes: Shapes) -> nn.Module:
            made = super().build(shapes)
            made.again = made.layer
            return made

    model = TiedConfig().build(DIGITS)
    save_model(tmp_path, model, TiedConfig(), DIGITS)
    remember(TiedConfig())
    loaded = load_model(tmp_path).model
    assert loaded.again.weight is loaded.layer.weight
    assert torch.equal(loaded.layer.weight, model.layer.weight)

"""A saved model comes back bit by bit, and a changed one does not come back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmtune.base.errors import InputError
from mmtune.networks.build import build_model
from mmtune.networks.card import CARD, WEIGHTS
from mmtune.networks.config import AudioRNNConfig, ImageCNNConfig, LatentFusionConfig, ModelConfig
from mmtune.networks.storage import load_model, save_model

CONFIGS = [ImageCNNConfig(kernel=5), AudioRNNConfig(hidden=32), LatentFusionConfig(layers=2)]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c).__name__)
def test_round_trip(tmp_path: Path, config: ModelConfig) -> None:
    model = build_model(config).eval()
    save_model(tmp_path, model, config)
    loaded, found = load_model(tmp_path)
    assert found == config
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    inputs = torch.rand(3, 1, 28, 28), torch.rand(3, 39, 13)
    assert torch.equal(loaded(*inputs).logits, model(*inputs).logits)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(tmp_path, build_model(AudioRNNConfig(hidden=8)), AudioRNNConfig(hidden=8))
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


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1, "model": {}}', "\x00"])
def test_a_card_that_is_none_is_refused(saved: Path, content: str) -> None:
    (saved / CARD).write_text(content)
    with pytest.raises(InputError, match=CARD):
        load_model(saved)


def test_loading_lays_a_network_out_without_torchs_compiler(tmp_path: Path) -> None:
    """A forward pass without memory would import it, which takes a worker a second."""
    for n, config in enumerate(CONFIGS):
        save_model(tmp_path / str(n), build_model(config), config)
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

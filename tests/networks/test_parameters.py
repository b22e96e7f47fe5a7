"""The trainable parameters that follow from the layers the reports print: a rebuilt model must match exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from shapes import DIGITS

from mmtune.networks.config import (
    AudioRNNConfig,
    DualCNNConfig,
    ImageCNNConfig,
    MultiheadFusionConfig,
    XFlowLSTMConfig,
    XFlowMLPConfig,
)
from mmtune.networks.config.base import ModelConfig
from mmtune.networks.output import count_parameters
from mmtune.networks.shapes import Shapes

MLP_AVLETTERS = XFlowMLPConfig(kernel1=8, kernel2=4)
MLP_CUAVE = XFlowMLPConfig(kernel1=32, kernel2=16)
LSTM_AVLETTERS = XFlowLSTMConfig(kernel1=16, kernel2=8)
LSTM_CUAVE = XFlowLSTMConfig(kernel1=32, kernel2=16)


def avletters(steps: int) -> Shapes:
    return Shapes(banks={"image": (steps, 80, 60), "audio": (steps, 26)}, classes=26)


def cuave(steps: int) -> Shapes:
    return Shapes(banks={"image": (steps, 90, 120), "audio": (steps, 26)}, classes=10)


def baseline(config: XFlowMLPConfig | XFlowLSTMConfig) -> XFlowMLPConfig | XFlowLSTMConfig:
    return replace(config, cross=False, residual=False)


PAIRS: list[tuple[str, ModelConfig, str, int]] = [
    ("Joshi image, 3x3", ImageCNNConfig(), "", 114_606),
    ("Joshi image, 3x3, pools after 3 and 4", ImageCNNConfig(pools="3-4"), "", 114_606),
    ("Joshi audio 320/1", AudioRNNConfig(hidden=320, layers=1), "", 304_842),
    ("Joshi audio 320/2", AudioRNNConfig(hidden=320, layers=2), "", 510_282),
    ("Joshi audio 350/1", AudioRNNConfig(hidden=350, layers=1), "", 343_212),
    ("Joshi audio 350/2", AudioRNNConfig(hidden=350, layers=2), "", 588_912),
    ("Joshi audio 400/1", AudioRNNConfig(hidden=400, layers=1), "", 411_162),
    ("Joshi audio 400/2", AudioRNNConfig(hidden=400, layers=2), "", 731_962),
    ("Bajaj image", DualCNNConfig(), "image", 222_336),
    ("Bajaj audio", DualCNNConfig(), "audio", 1_051_072),
    ("Bajaj", DualCNNConfig(), "", 1_274_698),
    ("Venkatachalam Try 10 audio", MultiheadFusionConfig(), "audio", 6_238_976),
]
# Of a longer sequence the CNN x MLP sees as many frames as it is told to.
SEQUENCES: list[tuple[str, ModelConfig, Shapes, int]] = [
    ("XFlow CNN x MLP baseline, AVletters", baseline(MLP_AVLETTERS), avletters(11), 2_740_512),
    ("XFlow CNN x MLP baseline, Digits", baseline(MLP_CUAVE), cuave(6), 5_664_054),
    ("XFlow CNN x MLP, AVletters", MLP_AVLETTERS, avletters(11), 8_852_962),
    ("XFlow CNN x MLP, AVletters, 11 of 39", replace(MLP_AVLETTERS, frames=11), avletters(39), 8_852_962),
    ("XFlow CNN x MLP, Digits", MLP_CUAVE, cuave(6), 17_764_002),
    ("XFlow LSTM baseline, AVletters", baseline(LSTM_AVLETTERS), avletters(39), 353_494),
    ("XFlow LSTM baseline, Digits", baseline(LSTM_CUAVE), cuave(58), 721_170),
    ("XFlow LSTM, AVletters", LSTM_AVLETTERS, avletters(39), 1_387_488),
    ("XFlow LSTM, Digits", LSTM_CUAVE, cuave(58), 2_967_388),
]
TABLE = [(name, config, DIGITS, part, count) for name, config, part, count in PAIRS] + [
    (name, config, shapes, "", count) for name, config, shapes, count in SEQUENCES
]


@pytest.mark.parametrize(
    ("config", "shapes", "part", "count"), [line[1:] for line in TABLE], ids=[line[0] for line in TABLE]
)
def test_a_model_has_the_printed_layers(config: ModelConfig, shapes: Shapes, part: str, count: int) -> None:
    with torch.device("meta"):
        assert count_parameters(config.build(shapes).get_submodule(part)) == count

"""The trainable parameters that follow from the layers the reports print: a rebuilt model must match exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mmtune.networks.build import build_model, count_parameters
from mmtune.networks.config import (
    AudioRNNConfig,
    DualCNNConfig,
    ImageCNNConfig,
    ModelConfig,
    MultiheadFusionConfig,
    XFlowLSTMConfig,
    XFlowMLPConfig,
)

AVLETTERS = {"height": 80, "width": 60, "coefficients": 26, "classes": 26}
DIGITS = {"height": 90, "width": 120, "coefficients": 26, "classes": 10}
MLP_AVLETTERS = XFlowMLPConfig(**AVLETTERS, frames=11, steps=11, kernel1=8, kernel2=4)
MLP_DIGITS = XFlowMLPConfig(**DIGITS, frames=6, steps=6, kernel1=32, kernel2=16)
LSTM_AVLETTERS = XFlowLSTMConfig(**AVLETTERS, frames=39, steps=39, kernel1=16, kernel2=8)
LSTM_DIGITS = XFlowLSTMConfig(**DIGITS, frames=58, steps=58, kernel1=32, kernel2=16)


def baseline(config: XFlowMLPConfig | XFlowLSTMConfig) -> XFlowMLPConfig | XFlowLSTMConfig:
    return replace(config, cross=False, residual=False)


TABLE: list[tuple[str, ModelConfig, str, int]] = [
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
    ("XFlow CNN x MLP baseline, AVletters", baseline(MLP_AVLETTERS), "", 2_740_512),
    ("XFlow CNN x MLP baseline, Digits", baseline(MLP_DIGITS), "", 5_664_054),
    ("XFlow CNN x MLP, AVletters", MLP_AVLETTERS, "", 8_852_962),
    ("XFlow CNN x MLP, Digits", MLP_DIGITS, "", 17_764_002),
    ("XFlow LSTM baseline, AVletters", baseline(LSTM_AVLETTERS), "", 353_494),
    ("XFlow LSTM baseline, Digits", baseline(LSTM_DIGITS), "", 721_170),
    ("XFlow LSTM, AVletters", LSTM_AVLETTERS, "", 1_387_488),
    ("XFlow LSTM, Digits", LSTM_DIGITS, "", 2_967_388),
]


@pytest.mark.parametrize(("config", "part", "count"), [line[1:] for line in TABLE], ids=[line[0] for line in TABLE])
def test_a_model_has_the_printed_layers(config: ModelConfig, part: str, count: int) -> None:
    with torch.device("meta"):
        assert count_parameters(build_model(config).get_submodule(part)) == count

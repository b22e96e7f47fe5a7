"""Whatever the catalogue offers can be drawn: each choice is a field of its part, and each value keeps its rule."""

from __future__ import annotations

import random
from typing import Any

import pytest

from mmtune.base.fields import flatten, replace_paths
from mmtune.networks.config import (
    MLP,
    AudioRNNConfig,
    Conv1dEncoder,
    CrossAttention,
    DualCNNConfig,
    Gated,
    Head,
    ImageCNNConfig,
    LatentFusionConfig,
    LogMelResNet,
    LowRank,
    MultiheadFusionConfig,
    Recurrent,
    SmallCNN,
    SmallResNet,
    SmallTransformer,
    SpectrogramCNN,
    SpectrogramFusionConfig,
    XFlowLSTMConfig,
    XFlowMLPConfig,
)
from mmtune.study import catalogue
from mmtune.study.space import Categorical, Choice, Integer, Space, Value, draw, under
from mmtune.train.augmentations import PictureAugmentation, SoundAugmentation, SpeechAugmentation, VectorAugmentation
from mmtune.train.recipe import Train

OWNERS: dict[str, Any] = {
    "IMAGE_CNN": ImageCNNConfig(),
    "AUDIO_RNN": AudioRNNConfig(),
    "LATENT_FUSION": LatentFusionConfig(),
    "MULTIHEAD_FUSION": MultiheadFusionConfig(),
    "DUAL_CNN_FUSION": DualCNNConfig(),
    "SPECTROGRAM_FUSION": SpectrogramFusionConfig(),
    "XFLOW_MLP": XFlowMLPConfig(),
    "XFLOW_MLP_STREAMS": XFlowMLPConfig(),
    "XFLOW_LSTM": XFlowLSTMConfig(),
    "XFLOW_LSTM_STREAMS": XFlowLSTMConfig(),
    "CROSSINGS": XFlowMLPConfig(),
    "CONVOLUTIONS": SmallCNN(),
    "SMALL_CNN": SmallCNN(),
    "SPECTROGRAM_CNN": SpectrogramCNN(),
    "CONV1D": Conv1dEncoder(),
    "SMALL_RESNET": SmallResNet(),
    "LOG_MEL_RESNET": LogMelResNet(),
    "RECURRENT": Recurrent(),
    "SMALL_TRANSFORMER": SmallTransformer(),
    "PERCEPTRON": MLP(),
    "GATED": Gated(),
    "CROSS_ATTENTION": CrossAttention(),
    "LOW_RANK": LowRank(),
    "HEAD": Head(),
    "OPTIMISER": Train(),
    "SLOW_OPTIMISER": Train(),
    "SPECTROGRAM_OPTIMISER": Train(),
    "RECIPE": Train(),
    "CLASS_WEIGHTS": Train(),
    "PENALTIES": Train(),
    "STATISTICS": Train(),
    "MIXUP": Train(),
    "MODALITY_DROPOUT": Train(),
    "BALANCE": Train(),
    "OUTLIERS": Train(),
    "PICTURE_AUGMENTATION": PictureAugmentation(),
    "WAVEFORM_AUGMENTATION": SoundAugmentation(),
    "FEATURE_AUGMENTATION": SoundAugmentation(),
    "MEL_AUGMENTATION": SoundAugmentation(),
    "SPEECH_AUGMENTATION": SpeechAugmentation(),
    "VECTOR_AUGMENTATION": VectorAugmentation(),
}
SPACES: dict[str, Space] = {
    name: value for name, value in vars(catalogue).items() if name.isupper() and isinstance(value, tuple) and value
    and all(isinstance(own, Categorical | Integer | catalogue.Real) for own in value)
}  # fmt: skip


def test_every_space_has_its_owner_here() -> None:
    assert SPACES.keys() == OWNERS.keys()


@pytest.mark.parametrize("name", OWNERS)
def test_every_choice_is_a_field_and_says_where_it_comes_from(name: str) -> None:
    known = flatten(OWNERS[name])
    for choice in SPACES[name]:
        assert choice.path in known
        assert choice.source


@pytest.mark.parametrize("name", OWNERS)
def test_whatever_is_drawn_keeps_the_rules(name: str) -> None:
    rng, base = random.Random(name), flatten(OWNERS[name])

    def pick(choice: Choice) -> Value:
        if isinstance(choice, Categorical):
            return rng.choice(choice.values)
        if isinstance(choice, Integer):
            return rng.choice((choice.low, choice.high))
        return rng.uniform(choice.low, choice.high)

    for _ in range(200):
        replace_paths(OWNERS[name], draw(SPACES[name], base, pick))


def test_the_recipe_tries_every_field_that_the_recipe_has() -> None:
    """What is left out is the budget, the files, or not a matter of taste."""
    left = {"epochs", "seconds", "patience", "weights", "keep_final", "precision", "reliance"}
    whole = catalogue.RECIPE + catalogue.PENALTIES + catalogue.MIXUP
    whole += catalogue.MODALITY_DROPOUT + catalogue.BALANCE + catalogue.OUTLIERS + catalogue.STATISTICS
    offered = {choice.path for choice in whole}
    assert offered | left == set(flatten(Train()))


def test_a_part_is_searched_below_its_path() -> None:
    assert {choice.path.split(".")[0] for choice in under("train", catalogue.PENALTIES)} == {"train"}

"""Venkatachalam's network, one configuration for the whole ladder of tries, and the 13 tries themselves."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial

from mmtune.base.errors import InputError
from mmtune.networks.config.base import ModelConfig, choice, count, rate, ruled

ODD = frozenset(map(str, range(1, 28, 2)))


def numbers(code: str) -> tuple[int, ...]:
    """The whole numbers in a code such as "5-3-3"."""
    return tuple(map(int, code.split("-")))


def require_kernels(name: str, code: object, least: int, most: int) -> None:
    """Raise InputError unless `code` is `least` to `most` odd numbers from 1 to 27, joined by "-"."""
    parts = code.split("-") if isinstance(code, str) else []
    if not (least <= len(parts) <= most and set(parts) <= ODD):
        count = str(least) if least == most else f"{least} to {most}"
        raise InputError(f"{name} must be {count} odd numbers from 1 to 27 such as 5-3, got {code!r}")


def require_places(name: str, code: object, places: tuple[str, ...]) -> None:
    """Raise InputError unless `code` is "none" or some of `places` in their order, joined by "-"."""
    parts = code.split("-") if isinstance(code, str) else []
    if code != "none" and (not parts or parts != [place for place in places if place in parts]):
        raise InputError(f"{name} must be none or some of {', '.join(places)} in this order, got {code!r}")


@dataclass(frozen=True, kw_only=True)
class MultiheadFusionConfig(ModelConfig):
    """Venkatachalam's image CNN and multi-head audio CNN, fused (sections 2.2 and 2.4); the defaults are Try 10.

    image_kernels: of each convolution with same padding, 2 to 4 of them, channels 32-64-128-256 (the fourth is
        not printed). image_pools: a 2x2 max pool follows each of the first so many convolutions.
    audio_net: "multihead" puts `heads`, 32 channels each with same padding, side by side (96x507), then a pool of 3
        with stride 1; `extra_conv` adds a Conv1d 64@3 and a pool of 2 (channels not printed).
        "sequential" has two convolutions of `audio_kernels` without padding, channels 32-64 (not printed), and one
        pool of `audio_pool` after the second (its place is not printed). Each ignores the other's fields.
    image_dropouts, audio_dropouts: "none", or where a dropout stands: conv1, conv2 (after which convolution and its
        pool; conv1 of a multi-head net is its heads), last (the last convolution), fc1. Places that coincide are one.
    image_fc, audio_fc: linear layers: flat-width; flat-128-width; flat-128-width-width.
    width: what each encoder gives. fusion_norm: BN on the joined 2 x width. fusion_fc: 1, or 2 with 64 between.
    softmax: the report's softmax before a cross-entropy that has its own. Training sees softmax(z); evaluation
        gets z, whose softmax are the model's probabilities.
    last_relu: "ReLU after each convolution except the last" is printed, which leaves a multi-head net without any
        on its convolutions; true puts one there too.

    ReLU between the linear layers of a part, and none after its last, is assumed.
    """

    image_kernels: str = ruled("5-3-3", partial(require_kernels, least=2, most=4))
    image_pools: int = count(3, 1, 4)
    image_dropouts: str = ruled("conv2-fc1", partial(require_places, places=("conv1", "conv2", "last", "fc1")))
    image_fc: int = count(1, 1, 3)
    audio_net: str = choice("multihead", ("multihead", "sequential"))
    heads: str = ruled("7-5-3", partial(require_kernels, least=1, most=8))
    extra_conv: bool = choice(False, (True, False))
    audio_kernels: str = ruled("5-5", partial(require_kernels, least=2, most=2))
    audio_pool: int = count(2, 1, 16)
    audio_dropouts: str = ruled("conv1-fc1", partial(require_places, places=("conv1", "last", "fc1")))
    audio_fc: int = count(2, 1, 3)
    width: int = count(64, 1, 4096)
    fusion_norm: bool = choice(True, (True, False))
    fusion_fc: int = count(1, 1, 2)
    dropout: float = rate(0.3)
    softmax: bool = choice(True, (True, False))
    last_relu: bool = choice(False, (True, False))


# The ladder: each try as what it changes. Try 2 and Try 6 change no layer.
TRY_10 = MultiheadFusionConfig()
TRY_1 = replace(
    TRY_10,
    image_kernels="3-3",
    image_pools=2,
    image_dropouts="conv2",
    audio_net="sequential",
    audio_kernels="5-3",
    audio_dropouts="none",
    audio_fc=1,
    fusion_norm=False,
    softmax=False,
)
TRY_3 = replace(
    TRY_1,
    audio_kernels="7-3",
    image_fc=2,
    audio_fc=2,
    fusion_fc=2,
    fusion_norm=True,
    image_dropouts="conv2-fc1",
    audio_dropouts="fc1",
    softmax=True,
)
TRY_4 = replace(TRY_3, audio_kernels="7-5", image_dropouts="conv2", audio_dropouts="none")
TRY_5 = replace(TRY_4, audio_pool=3, image_fc=1, audio_fc=1)
TRY_7 = replace(TRY_1, softmax=True)
TRY_8 = replace(TRY_7, audio_kernels="3-3", image_dropouts="none", width=128, fusion_fc=2, fusion_norm=True)
TRY_9 = replace(TRY_8, audio_kernels="5-5", width=64, fusion_fc=1)
TRY_11 = replace(
    TRY_10,
    image_kernels="7-5-3-3",
    extra_conv=True,
    image_dropouts="conv2-last-fc1",
    audio_dropouts="conv1-last-fc1",
    audio_fc=3,
)
TRY_12 = replace(TRY_11, image_fc=2, audio_fc=2, image_dropouts="conv2-fc1", audio_dropouts="conv1-fc1")
TRY_13 = replace(TRY_12, image_kernels="5-5-3-3", image_fc=1, extra_conv=False, image_dropouts="conv2")


def trial_values(
    model: MultiheadFusionConfig, epochs: int, class_weights: bool = True
) -> dict[str, str | int | float | bool]:
    """Every field of a try by its path in the trial's configuration."""
    return {
        **{f"model.{name}": value for name, value in asdict(model).items()},
        "train.epochs": epochs,
        "train.batch_size": 32,
        "train.learning_rate": 1e-3,
        "train.class_weights": class_weights,
        "train.keep_final": True,
    }


TRIES: dict[str, dict[str, str | int | float | bool]] = {
    "try_1": trial_values(TRY_1, 30, class_weights=False),
    "try_2": trial_values(TRY_1, 30),
    "try_3": trial_values(TRY_3, 50),
    "try_4": trial_values(TRY_4, 50),
    "try_5": trial_values(TRY_5, 30),
    "try_6": trial_values(TRY_5, 20),
    "try_7": trial_values(TRY_7, 100),
    "try_8": trial_values(TRY_8, 100),
    "try_9": trial_values(TRY_9, 100),
    "try_10": trial_values(TRY_10, 100),
    "try_11": trial_values(TRY_11, 100),
    "try_12": trial_values(TRY_12, 100),
    "try_13": trial_values(TRY_13, 100),
}
"""Section 2.4's tries by name: for each, every field by its path in the trial's configuration.

What the report leaves open or says twice, and how it is read here:
- the learning rate is not printed: 1e-3, Adam's default, is assumed;
- Try 2 ran 30 epochs by its own paragraph and 50 by Try 7's: 30. Try 4 prints none: 50, as the try before it.
  Try 10 prints none: 100, as the tries around it;
- the final weights are kept everywhere: up to Try 6 the report scores no others, and Try 6 goes on from them;
- the one dropout of Try 1 stands in the image encoder, after its second convolution: none is printed for audio.
  Try 3 then gives the audio encoder its first, and Try 4 takes both new ones away;
- Try 7 has Try 2's layers; the softmax, which has no weights, stays from Try 3 on;
- Try 8 must have two linear layers after the fusion, since Try 9 removes one; it has the batch norm again too;
- section 2.2 prints two audio linear layers for Try 10, the "additional" one of Try 11 makes three, and Try 12 says
  that both encoders have two. The other reading is audio_fc 1 in Try 10 and 2 in Try 11;
- Try 11's fourth convolution gets no pool: none is printed, and it would leave a single pixel (image_pools 4). Its
  dropouts, "placed alternatively", stand after every second image convolution, after the heads, after the extra
  audio convolution, and after each first linear layer.
"""

RESUMES = {"try_6": "try_5"}
"""A try that goes on from the final weights of another, for its own `train.epochs` more."""

"""Encoders for networks of one's own: what makes a vector of one bank's values, whatever their shape.

An encoder is whatever has a `width` and a `build`; it need not derive from anything here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from mmtune.base.errors import InputError
from mmtune.base.rules import require_count
from mmtune.networks.config.base import Checked, choice, count, odd, rate
from mmtune.networks.shapes import Shape

if TYPE_CHECKING:
    from torch import nn

ACTIVATIONS = ("relu", "gelu", "silu", "tanh")
NORMS = ("batch", "none")
WIDEST = 8192


class Encoder(Protocol):
    """The configuration of an encoder. width: of the vector that it makes."""

    @property
    def width(self) -> int: ...

    def build(self, shape: Shape) -> nn.Module:
        """A module from (B, *shape) float32 to (B, width), with fresh weights; InputError where it cannot read that."""


@dataclass(frozen=True, kw_only=True)
class Convolutional(Checked):
    """What encoders of convolutions have: blocks of convolution, norm, max pool, activation and dropout.

    channels: of the first block, doubled with every other one. kernel: padded such that it keeps the size.
    Pools halve the sides, and leave a side of 1 as it is, so that there is no shape too small for so many blocks.
    They come before the activation, which then sees fewer elements; for relu and tanh that is the same.
    """

    width: int = count(64, 1, WIDEST)
    channels: int = count(16, 1, 512)
    blocks: int = count(2, 1, 8)
    kernel: int = odd(3, 255)
    activation: str = choice("relu", ACTIVATIONS)
    norm: str = choice("batch", NORMS)
    dropout: float = rate(0.0)


@dataclass(frozen=True, kw_only=True)
class SmallCNN(Convolutional):
    """A picture (channels, height, width), or a sequence of frames with time as its channels, by 2-D convolutions.

    The last maps, flat, go through one linear layer with activation.
    """

    def build(self, shape: Shape) -> nn.Module:
        from mmtune.networks.encoders.convolutional import small_cnn

        return small_cnn(self, shape)


@dataclass(frozen=True, kw_only=True)
class Conv1dEncoder(Convolutional):
    """Features over time (steps, features), the features as channels, or a waveform (samples,), by 1-D convolutions.

    stride: of each convolution; a waveform wants 4 or more, as in Dai et al., "Very deep convolutional neural
        networks for raw waveforms" (2017).
    summary: "mean" over all steps, or "flat" to keep what was when; then one linear layer with activation.
    """

    blocks: int = count(3, 1, 8)
    kernel: int = odd(5, 1023)
    stride: int = count(1, 1, 64)
    summary: str = choice("mean", ("mean", "flat"))

    def build(self, shape: Shape) -> nn.Module:
        from mmtune.networks.encoders.convolutional import conv1d_encoder

        return conv1d_encoder(self, shape)


@dataclass(frozen=True, kw_only=True)
class SpectrogramCNN(Convolutional):
    """Features over time (steps, features) as a picture of one channel, or a waveform (samples,) by its spectrogram.

    Of a waveform it is the logarithm of the power in each of `mels` bands, or in each bin of the STFT where mels=0;
    features: or so many `coefficients` of their cosine transform, of mel bands MFCCs ("cepstra"); or the logarithm of
        the power of each of the twelve pitches over all octaves ("chroma").
    n_fft, hop: of the STFT, in samples; sample_rate: in Hz. Features ignore all of these.
    input_norm: "batch" standardises each feature first. deltas: how many orders of change over time are channels too.
    """

    n_fft: int = count(512, 16, 65_536)
    hop: int = 256
    mels: int = count(40, 0, 512)
    features: str = choice("bands", ("bands", "cepstra", "chroma"))
    coefficients: int = count(13, 1, 512)
    deltas: int = count(0, 0, 2)
    input_norm: str = choice("none", NORMS)
    sample_rate: int = count(16_000, 1_000, 384_000)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("hop", self.hop, 1, self.n_fft)

    def build(self, shape: Shape) -> nn.Module:
        from mmtune.networks.encoders.convolutional import spectrogram_cnn

        return spectrogram_cnn(self, shape)


@dataclass(frozen=True, kw_only=True)
class SmallResNet(Checked):
    """A picture (channels, height, width) by residual blocks (He et al., "Deep residual learning", 2016, section 4.2).

    channels: of the first stage; each of the other `stages` halves the sides and doubles the channels.
    blocks: in each stage, of two 3x3 convolutions. The mean over the last maps goes through dropout and one linear
    layer with ReLU.
    """

    width: int = count(64, 1, WIDEST)
    channels: int = count(16, 1, 512)
    stages: int = count(3, 1, 6)
    blocks: int = count(1, 1, 16)
    dropout: float = rate(0.0)

    def build(self, shape: Shape) -> nn.Module:
        from mmtune.networks.encoders.convolutional import small_resnet

        return small_resnet(self, shape)


@dataclass(frozen=True, kw_only=True)
class Recurrent(Checked):
    """Features over time (steps, features) by a recurrent network, then one linear layer with ReLU.

    cell: Elman's, Hochreiter and Schmidhuber's (1997), or Cho et al.'s (2014). hidden: units in each direction.
    summary: the "last" state, which is the first step's for the direction back, or the "mean" over time.
    norm: "batch" standardises each feature at the input. dropout: after every layer.
    Steps of nothing but zeros at the end are padding; how many there are changes no answer.
    """

    width: int = count(64, 1, WIDEST)
    cell: str = choice("gru", ("rnn", "gru", "lstm"))
    hidden: int = count(64, 1, WIDEST)
    layers: int = count(1, 1, 8)
    bidirectional: bool = choice(False, (True, False))
    summary: str = choice("last", ("last", "mean"))
    norm: str = choice("batch", NORMS)
    dropout: float = rate(0.0)

    def build(self, shape: Shape) -> nn.Module:
        from mmtune.networks.encoders.recurrent import RecurrentEncoder

        return RecurrentEncoder(self, shape)


@dataclass(frozen=True, kw_only=True)
class SmallTransformer(Checked):
    """Features over time (steps, features), or patches of a picture (channels, height, width), by self-attention.

    Vaswani et al., "Attention is all you need" (2017), with the norms before each part; patches as in Dosovitskiy et
    al., "An image is worth 16x16 words" (2021). Positions are learnt; the mean over the normed tokens is the vector.
    width: of the tokens, and so of the vector, a multiple of `heads`. feed_forward: its hidden width in widths.
    patch: side of a patch; the picture is continued with zeros where it is no multiple.
    norm: "batch" standardises each feature over time at the input; patches are taken as they are.
    Steps of nothing but zeros at the end are padding; how many there are changes no answer.
    """

    width: int = count(64, 1, WIDEST)
    heads: int = count(4, 1, 64)
    layers: int = count(2, 1, 16)
    feed_forward: int = count(2, 1, 8)
    patch: int = count(4, 1, 256)
    norm: str = choice("batch", NORMS)
    dropout: float = rate(0.1)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_multiple("width", self.width, self.heads)

    def build(self, shape: Shape) -> nn.Module:
        from mmtune.networks.encoders.transformer import TransformerEncoder

        return TransformerEncoder(self, shape)


@dataclass(frozen=True, kw_only=True)
class Dense(Checked):
    """Hidden layers, `layers` of them, of `hidden` units with norm, ReLU and dropout."""

    hidden: int = count(128, 1, WIDEST)
    layers: int = count(1, 1, 8)
    norm: str = choice("batch", NORMS)
    dropout: float = rate(0.0)


@dataclass(frozen=True, kw_only=True)
class MLP(Dense):
    """Values of any shape, flat, by hidden layers, and one more of `width` with ReLU."""

    width: int = count(64, 1, WIDEST)

    def build(self, shape: Shape) -> nn.Module:
        from mmtune.networks.encoders.dense import mlp

        return mlp(self, shape)


def require_multiple(name: str, value: int, heads: int) -> None:
    """Raise InputError unless attention can share `value` among the heads."""
    if value % heads:
        raise InputError(f"{name} must be a multiple of heads={heads}, got {value}")
